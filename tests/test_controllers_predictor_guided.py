"""Predictor-guided search: acquisitions against numbers known exactly, the course of a search, and what it is worth."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from archwright.controllers.acquisition import (
    ACQUISITIONS,
    expected_hypervolume_improvement,
    expected_improvement,
    normal_scores,
    one_objective,
    scalarised_improvement,
)
from archwright.controllers.candidates import Candidates, pool
from archwright.controllers.predictor_guided import PredictorGuided
from archwright.controllers.surrogates import best_first, learned, trace_of
from archwright.evaluators.tables.registry import load_table
from archwright.search_space.choices import trace_key
from archwright.search_space.dominance import front
from archwright.search_space.errors import ConfigError
from archwright.search_space.hypervolume import hypervolume
from archwright.search_space.outcomes import Objective, Outcome, Prediction
from archwright.search_space.seeds import generator
from archwright.studies.compare.race import race
from archwright.studies.parts import equipped_controller
from archwright.testing import check_controller
from archwright.testing.toys import DYNAMIC, GRID, MIXERS, mixers_score

from .guided_toys import Oracle, search

DATA = Path(__file__).parents[2] / "shared/data"
SCORE = (Objective("score"),)
SMALL = {"initial": 6, "drawn": 20, "bred": 4}


def _controller(predictor, space=MIXERS, seed=0, objectives=SCORE, **knobs):
    return PredictorGuided(space, objectives, seed=seed, predictor=predictor, **{**SMALL, **knobs})


# --- acquisitions ---------------------------------------------------------------------------------------------------


def test_expected_improvement_equals_monte_carlo():
    draws = np.random.default_rng(0).standard_normal(400_000)
    for mean, spread, best in ((0.0, 1.0, 0.5), (1.0, 0.3, 0.2), (-1.0, 2.0, 1.0)):
        sampled = np.maximum(mean + spread * draws - best, 0.0).mean()
        assert expected_improvement(np.array([mean]), np.array([spread]), best)[0] == pytest.approx(sampled, rel=0.02)


def test_without_spread_it_is_the_improvement():
    found = expected_improvement(np.array([0.0, 2.0]), np.zeros(2), 0.5)
    np.testing.assert_allclose(found, [0.0, 1.5], atol=1e-8)


@pytest.mark.parametrize("points", [[], [(0.5, 0.5)], [(0.2, 0.9), (0.6, 0.6), (0.8, 0.1)], [(0.2, 0.9), (-2.0, 3.0)]])
def test_expected_hypervolume_improvement_equals_monte_carlo(points):
    reference, rng = (-1.0, -1.0), np.random.default_rng(1)
    mean, spread = np.array([[0.4, 0.7], [1.0, -0.5]]), np.array([[0.5, 0.3], [0.2, 1.0]])
    before = hypervolume(points, reference)
    sampled = [
        np.mean([hypervolume([*points, tuple(row)], reference) - before for row in m + s * rng.standard_normal((4000, 2))])
        for m, s in zip(mean, spread, strict=True)
    ]
    found = expected_hypervolume_improvement(mean, spread, points, reference)
    np.testing.assert_allclose(found, sampled, rtol=0.08)


def test_scalarised_improvement_prefers_what_dominates():
    seen = np.array([[0.0, 0.0, 0.0], [1.0, 0.5, 0.5], [0.5, 1.0, 0.2]])
    mean = np.array([[1.2, 1.2, 0.8], [0.4, 0.4, 0.1]])
    better, worse = scalarised_improvement(mean, np.full((2, 3), 0.05), seen, np.random.default_rng(0))
    assert better > worse >= 0.0


@pytest.mark.parametrize("kind", ACQUISITIONS)
def test_every_acquisition_prefers_the_larger_mean_at_equal_spread(kind):
    mean, spread = np.array([0.0, 8.0, 4.0]), np.full(3, 0.5)
    assert list(np.argsort(one_objective(kind, mean, spread, 1.0, np.random.default_rng(0)))) == [0, 2, 1]


def test_normal_scores_depend_on_the_order_alone_and_put_failures_last():
    scores = normal_scores([1.0, 3.0, None, 2.0, None])
    assert list(np.argsort(scores)) == [2, 4, 0, 3, 1]
    assert scores[2] == scores[4]
    np.testing.assert_allclose(normal_scores([1.0, 2.0, 3.0]), normal_scores([-1e9, 0.0, 7.0]))
    assert normal_scores([None, None]).tolist() == [0.0, 0.0]


# --- candidates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [MIXERS, DYNAMIC, GRID])
def test_a_pool_holds_distinct_legal_candidates_and_is_drawn_again_alike(space):
    parents = [space.sample(generator(0, "probe", number))[1] for number in range(3)]

    def make():
        return pool(Candidates(space, 0, 30), parents, generator(1, "probe"), bred=10, drawn=range(20))

    found, again = make(), make()
    assert [trace_key(trace_of(seen)) for seen in found] == [trace_key(trace_of(seen)) for seen in again]
    assert len({trace_key(trace_of(seen)) for seen in found}) == len(found)
    assert all(space.replay(trace_of(seen)).digest == seen.architecture.digest for seen in found)


def test_a_small_neighbourhood_is_whole():
    _, trace = GRID.sample(generator(0, "probe"))
    assert len(Candidates(GRID, 0, 48).around(trace)) == 6
    assert len(Candidates(GRID, 0, 4).around(trace)) == 4


def test_best_first_goes_front_by_front():
    scores = np.random.default_rng(0).standard_normal((40, 2))
    order = best_first(scores, generator(0, "probe"))
    first = set(front([tuple(row) for row in scores]))
    assert set(order[: len(first)]) == first
    assert sorted(order) == list(range(40))
    many = np.random.default_rng(1).standard_normal((600, 2))
    order = best_first(many, generator(0, "probe"))
    assert sorted(order) == list(range(600))
    assert list(np.argsort(-many[order[-200:]].sum(axis=1), kind="stable")) == list(range(200))
    assert best_first(np.array([[1.0], [3.0], [3.0]]), generator(0, "probe")) == [1, 2, 0]


def test_a_long_history_keeps_its_best_and_a_random_rest():
    oracle, controller = Oracle(mixers_score), _controller(Oracle(mixers_score), initial=200)
    _, _, scores = search(controller, mixers_score, 60)
    found = learned(oracle, controller._results, 20, 0, generator(0, "probe"))
    best = set(np.argsort(scores)[::-1][:10].tolist())
    assert len(set(found.used)) == 20 == len(oracle.fitted[0])
    assert best <= set(found.used) != set(np.argsort(scores)[::-1][:20].tolist())


# --- the course of a search -----------------------------------------------------------------------------------------


def test_fits_come_at_fixed_counts_of_results():
    oracle = Oracle(mixers_score)
    search(_controller(oracle, initial=10, refit=0.25), mixers_score, 40)
    assert [len(seen) for seen in oracle.fitted] == [10, 12, 15, 18, 22, 27, 33]
    each = Oracle(mixers_score)
    search(_controller(each, initial=10, refit=0.0), mixers_score, 15)
    assert [len(seen) for seen in each.fitted] == [10, 11, 12, 13, 14]


def test_feeding_a_journal_fits_once():
    first, second = Oracle(mixers_score), Oracle(mixers_score)
    controller, resumed = _controller(first), _controller(second)
    traces, notes, scores = search(controller, mixers_score, 30)
    for n, (trace, note, score) in enumerate(zip(traces, notes, scores, strict=True)):
        resumed.asked(n, trace, note)
        resumed.told(n, Outcome("completed", {"score": score}))
    assert resumed.ask(30).trace == controller.ask(30).trace
    assert (len(first.fitted) > 5, len(second.fitted)) == (True, 1)


def test_with_an_oracle_it_climbs():
    _, _, scores = search(_controller(Oracle(mixers_score, 1e-6), incumbents=3), mixers_score, 60)
    assert max(scores[6:]) > max(scores[:6])
    assert max(scores) > 0.95


@pytest.mark.parametrize("selector", ["none", "lcmd"])
def test_no_network_is_asked_for_twice(selector):
    traces, _, _ = search(_controller(Oracle(mixers_score), selector=selector), mixers_score, 70)
    assert len({MIXERS.replay(trace).digest for trace in traces}) == 70


def test_it_covers_a_small_space_and_goes_on():
    traces, _, _ = search(_controller(Oracle(), GRID), lambda trace: 0.5, 20)
    assert len(set(traces[:16])) == 16


def test_running_candidates_are_not_asked_for_again():
    controller = _controller(Oracle(mixers_score))
    search(controller, mixers_score, 6)
    traces = []
    for n in range(6, 30):
        traces.append(controller.ask(n).trace)
        controller.asked(n, traces[-1], {})
    assert len({MIXERS.replay(trace).digest for trace in traces}) == 24


def test_stopped_candidates_count_with_their_predicted_final_and_failed_ones_as_the_worst():
    oracle = Oracle(mixers_score)
    controller = _controller(oracle, initial=3)
    stopped = Outcome("stopped", {"score": 0.1}, predicted={"score": Prediction(0.9, 0.1)})
    for n, outcome in enumerate([Outcome("failed", reason="NaN"), stopped, Outcome("completed", {"score": 0.5})]):
        controller.asked(n, controller.ask(n).trace, {})
        controller.told(n, outcome)
    controller.ask(3)
    finals = {trace_key(seen.trace): seen.final for seen in oracle.fitted[0]}
    told = [finals[trace_key(trace_of(seen))] for seen, _ in controller._results]
    assert told[1] > told[2] > told[0]
    assert max(map(abs, told)) < math.inf


def test_the_selector_keeps_the_best_of_the_ranking_first():
    plain, spread = (_controller(Oracle(mixers_score), selector=selector, refit=1.0) for selector in ("none", "lcmd"))
    traces = [search(controller, mixers_score, 12)[0] for controller in (plain, spread)]
    assert traces[0][:7] == traces[1][:7]
    assert traces[0][7:] != traces[1][7:]


@pytest.mark.parametrize("objectives", [2, 3])
def test_several_objectives(objectives):
    """The oracle predicts all alike; what matters is that every point is legal and none repeats."""
    goals = tuple(Objective(f"score{i}") for i in range(objectives))
    controller = _controller(Oracle(mixers_score), objectives=goals)
    traces = []
    for n in range(30):
        traces.append(controller.ask(n).trace)
        controller.asked(n, traces[-1], {})
        controller.told(n, Outcome("completed", {f"score{i}": mixers_score(traces[-1]) * (-1) ** i for i in range(objectives)}))
    assert len(set(traces)) == 30


def test_it_keeps_the_contract():
    assert check_controller(partial(PredictorGuided, predictor=Oracle(), **SMALL, selector="lcmd"), trials=16).cuts > 60


def test_a_name_is_no_predictor():
    with pytest.raises(ConfigError, match="equipped_controller"):
        PredictorGuided(MIXERS, SCORE, seed=0)


# --- what it is worth -----------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded evaluations are not on this machine")


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("dataset", "target"), [("cifar10", 91.50), ("cifar100", 73.23), ("imagenet16_120", 47.18)])
def test_a_hundred_evaluations_reach_what_evolution_reaches_in_two_hundred(dataset, target):
    """Mean best of 20 seeds on NAS-Bench-201, less two standard errors of such a mean (0.05 is generous)."""
    table = load_table("nasbench201", {"dataset": dataset, "data": str(DATA)})
    bests = []
    for seed in range(20):
        controller = equipped_controller("predictor-guided", table.space, table.objectives, seed=seed)
        found = race(controller, table, table.objectives, seed=seed, budget=100)
        bests.append(max(evaluation.gains[0] for evaluation in found.evaluations if evaluation.gains))
    assert np.mean(bests) >= target - 0.05
