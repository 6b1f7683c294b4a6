"""Predictive termination: its contract, its rule, and that the winner survives."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from archwright.predictors import predictive_termination
from archwright.predictors.predictive_termination import PredictiveTermination, chance_above, refit_at
from archwright.predictors.registry import PREDICTORS, STOPPERS
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Trace
from archwright.search_space.errors import ConfigError, RegistryError
from archwright.search_space.outcomes import Objective, Outcome, Prediction, Report
from archwright.search_space.protocols import Candidate
from archwright.search_space.registry import Entry
from archwright.studies.benchmarks.stopping import Trial, collections, measure, replay, synthetic
from archwright.testing import check_stopper
from archwright.testing.predictors import made_up_curves

EMPTY = Architecture((Node("input", "input"),), "input")
CURVES = Path(__file__).resolve().parents[2] / "shared" / "data" / "curves"


class Oracle:
    """Predicts what it is told to."""

    def __init__(self, mean: float, spread: float) -> None:
        self.told = Prediction(mean, spread)
        self.histories: list[int] = []

    def fit(self, history):
        self.histories.append(len(history))

    def predict(self, partial):
        return self.told


def make(monkeypatch, mean=0.0, spread=0.0, *, finals=(0.5, 0.9, 0.7, 0.8), objective=None, budget=20, **knobs):
    """A stopper with an oracle that has heard ``finals`` complete, and candidate 99 running for 6 steps."""
    oracle = Oracle(mean, spread)
    entries = {"oracle": Entry("oracle", lambda *, seed: oracle)}
    monkeypatch.setattr(predictive_termination, "PREDICTORS", entries)
    objective = objective or Objective("score")
    stopper = PredictiveTermination((objective,), seed=0, budget=budget, trials=16, predictor="oracle", **knobs)
    for number, final in enumerate(finals):
        complete(stopper, number, final, budget)
    start(stopper, 99)
    for step in range(1, 7):
        stopper.reported(99, Report(step, {"score": 0.1 if objective.direction == "max" else 0.95}))
    return stopper, oracle


def start(stopper, number):
    stopper.started(Candidate(number, Trace(), EMPTY, {}))


def complete(stopper, number, final, budget=20, status="completed"):
    start(stopper, number)
    for step in range(1, budget + 1):
        stopper.reported(number, Report(step, {"score": final}))
    stopper.told(number, Outcome(status, {"score": final}, budget))


def test_keeps_the_contract():
    check_stopper("predictive-termination", trials=20, risk=0.3, check_every=4)


def test_the_contract_is_not_kept_by_silence():
    trials = [Trial(dict(seen.features), seen.curve) for seen in made_up_curves(24, 0)]
    assert replay(trials, seed=0, risk=0.3).saved > 0


@pytest.mark.parametrize(("mean", "stops"), [(0.89, True), (0.9, True), (0.9001, False)])
def test_without_spread_the_rule_is_predicted_at_most_the_best(monkeypatch, mean, stops):
    stopper, _ = make(monkeypatch, mean, 0.0)
    assert stopper.verdict(99).stop is stops


def test_the_chance_of_beating_is_normal_with_many_curves_and_larger_with_few():
    assert chance_above(1.0, 1.0, 0.3, 5) == pytest.approx(0.5)
    assert chance_above(1.96, 0.0, 1.0, 1e6) == pytest.approx(0.025, abs=1e-4)
    assert chance_above(2.571, 0.0, 1.0, 5) == pytest.approx(0.025, abs=1e-4)


def test_the_risk_is_shared_between_the_checks(monkeypatch):
    mean = 0.9 - 0.1 * 4  # t with 2 degrees of freedom: a chance of 2.9 % to beat 0.9
    stopper, _ = make(monkeypatch, mean, 0.1, risk=0.05)
    assert stopper.checks == 15
    assert not stopper.verdict(99).stop
    single, _ = make(monkeypatch, mean, 0.1, risk=0.05, min_steps=6, check_every=19)
    assert single.checks == 1
    assert single.verdict(99).stop


def test_no_risk_never_stops(monkeypatch):
    stopper, _ = make(monkeypatch, -1e9, 0.0, risk=0.0)
    assert not stopper.verdict(99).stop


def test_more_risk_stops_whatever_less_risk_stops(monkeypatch):
    for mean in (0.5, 0.7, 0.8, 0.85, 0.9, 1.0):
        stops = [make(monkeypatch, mean, 0.05, risk=risk)[0].verdict(99).stop for risk in (0.0, 0.001, 0.01, 0.05, 0.2, 0.5)]
        assert stops == sorted(stops)


def test_margin_and_top_n_lower_the_bar(monkeypatch):
    assert make(monkeypatch, 0.85)[0].verdict(99).stop
    assert not make(monkeypatch, 0.85, margin=0.06)[0].verdict(99).stop
    assert not make(monkeypatch, 0.85, top_n=2)[0].verdict(99).stop
    assert make(monkeypatch, 0.79, top_n=2)[0].verdict(99).stop


def test_a_candidate_that_passed_the_best_is_never_stopped(monkeypatch):
    stopper, _ = make(monkeypatch, 0.2)
    assert stopper.verdict(99).stop
    stopper.reported(99, Report(7, {"score": 0.95}))
    assert not stopper.verdict(99).stop


def test_a_metric_to_minimise_is_turned_round_and_back(monkeypatch):
    stopper, _ = make(monkeypatch, -math.log(0.6), 0.001, objective=Objective("score", "min"))
    verdict = stopper.verdict(99)
    assert verdict.stop
    assert verdict.predicted["score"].mean == pytest.approx(0.6)
    assert verdict.predicted["score"].spread == pytest.approx(0.6 * 0.001)
    assert "0.6" in verdict.reason
    assert "0.5" in verdict.reason
    assert not make(monkeypatch, -math.log(0.4), 0.01, objective=Objective("score", "min"))[0].verdict(99).stop


def test_a_metric_that_is_not_always_positive_is_predicted_as_it_is(monkeypatch):
    stopper, _ = make(monkeypatch, -0.6, 0.001, objective=Objective("score", "min"))
    stopper.started(Candidate(7, Trace(), Architecture((Node("x", "input"),), "x")))
    stopper.reported(7, Report(1, {"score": -0.1}))
    assert stopper.verdict(99).predicted["score"] == Prediction(0.6, 0.001)


def test_warm_up_is_a_quarter_of_the_trials_and_at_most_thirty(monkeypatch):
    def warmup(trials):
        return PredictiveTermination((Objective("score"),), seed=0, budget=20, trials=trials).warmup

    assert [warmup(trials) for trials in (8, 40, 120, 4000)] == [4, 10, 30, 30]
    assert not make(monkeypatch, finals=(0.5, 0.9, 0.7))[0].verdict(99).stop
    assert make(monkeypatch, finals=(0.5, 0.9, 0.7, 0.8))[0].verdict(99).stop


def test_only_completed_candidates_count(monkeypatch):
    stopper, oracle = make(monkeypatch, finals=(0.5, 0.9, 0.7))
    complete(stopper, 50, 0.99, status="stopped")
    complete(stopper, 51, float("nan"))
    stopper.told(52, Outcome("duplicate", {"score": 0.99}, twin=1))
    assert not stopper.verdict(99).stop
    complete(stopper, 53, 0.8)
    assert stopper.verdict(99).stop
    assert oracle.histories == [4]


def test_the_first_quarter_and_the_last_step_are_never_judged(monkeypatch):
    stopper, _ = make(monkeypatch)
    start(stopper, 7)
    stops = []
    for step in range(1, 21):
        stopper.reported(7, Report(step, {"score": 0.1}))
        stops.append(stopper.verdict(7).stop)
    assert stops == [False] * 4 + [True] * 15 + [False]


def test_reports_said_twice_after_a_restart_count_once(monkeypatch):
    stopper, _ = make(monkeypatch)
    for step in (5, 6, 6):
        stopper.reported(99, Report(step, {"score": 5.0}))
    assert stopper.verdict(99).stop


def test_refits_happen_at_fixed_counts(monkeypatch):
    assert [refit_at(n, 30) for n in (30, 32, 33, 36, 37)] == [30, 30, 33, 33, 37]
    stopper, oracle = make(monkeypatch)
    for number in range(4, 9):
        complete(stopper, number, 0.5)
        stopper.verdict(99)
    assert oracle.histories == [4, 6, 8]


def test_several_objectives_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match="one objective, but was given 2"):
        PredictiveTermination((Objective("a"), Objective("b")), seed=0, budget=20, trials=40)


def test_knobs_are_checked_and_an_unknown_predictor_is_named():
    with pytest.raises(ConfigError, match='"risk"'):
        PredictiveTermination((Objective("a"),), seed=0, budget=20, trials=40, risk=1.5)
    with pytest.raises(RegistryError, match="curve-svr"):
        PredictiveTermination((Objective("a"),), seed=0, budget=20, trials=40, predictor="curve-svm")
    assert "predictive-termination" in STOPPERS
    assert "curve-svr" in PREDICTORS


def test_a_study_of_forty_saves_a_fifth_of_its_epochs_and_keeps_its_winner():
    found = replay(synthetic(0, 40), seed=0)
    assert found.saved >= 0.2
    assert found.kept


@pytest.mark.slow
@pytest.mark.skipif(not CURVES.exists(), reason="the learning curves in ../shared/data are not here")
def test_on_real_curves_a_fifth_is_saved_and_winners_are_rarely_lost():
    trials = dict(collections(CURVES))["metaqnn_cifar10"]
    found = measure(trials, studies=20)
    assert found["epochs_saved_mean"] >= 0.2
    assert found["winner_kept"] >= 0.9


@pytest.mark.slow
def test_on_500_made_up_curves_the_best_survives_and_epochs_fall_to_a_third():
    kept = []
    for seed in range(5):
        trials = [Trial(dict(seen.features), seen.curve) for seen in made_up_curves(500, seed, steps=40)]
        found = replay(trials, seed=seed, risk=0.01, warmup=100, check_every=5, min_steps=5)
        kept.append(found.kept)
        assert (1 - found.saved) * 500 - 100 <= 400 / 3
    assert all(kept)
