"""Risk-bounded stopping: its contract, its test, its calibration, and its audit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archwright.predictors.predictive_termination import Scale
from archwright.predictors.risk_bounded import RiskBounded, checks, filled, usual_tolerance
from archwright.predictors.risk_bounded_finals import ExpectedFinals, carried
from archwright.predictors.risk_bounded_reach import LOWEST, Plan, Reach
from archwright.search_space.errors import ConfigError, RegistryError
from archwright.search_space.outcomes import Objective, Outcome
from archwright.testing import check_stopper
from archwright.testing.predictors import made_up_curves

from .stopper_toys import end, made, replay, say, start


def curves_of(count, steps=30, seed=0, noise=0.004):
    """Accuracies that rise to a ceiling drawn for each; the rate varies a little."""
    draw = np.random.default_rng(seed)
    ceiling, rate = 0.7 + 0.06 * draw.standard_normal(count), 0.3 * np.exp(0.15 * draw.standard_normal(count))
    return ceiling[:, None] * (1 - 0.5 * np.exp(-rate[:, None] * np.arange(1, steps + 1))) + noise * draw.standard_normal((count, steps))


def stopped_steps(found):
    return np.array(found.steps)


def test_it_keeps_the_contract_of_stoppers():
    check_stopper("risk-bounded", warmup=6, share=0.2)
    check_stopper("risk-bounded", trials=40)


def test_most_steps_are_saved_and_the_winner_survives():
    curves = curves_of(150).tolist()
    stopper = made("risk-bounded", budget=30, trials=150)
    found = replay(stopper, curves)
    assert found.spent < 30 * 150 / 3
    assert found.best(curves) >= max(curve[-1] for curve in curves) - 0.002
    assert stopper.audit()["saved"] == pytest.approx(1 - found.spent / 4500)


def test_a_metric_made_small_is_judged_on_its_logarithm():
    losses = np.exp(-5 * curves_of(150)).tolist()
    stopper = made("risk-bounded", Objective("score", "min"), budget=30, trials=150)
    found = replay(stopper, losses)
    whole = [curve[-1] for curve, steps in zip(losses, found.steps, strict=True) if steps == 30]
    assert found.spent < 30 * 150 / 2
    assert min(whole) <= 1.0075 * min(curve[-1] for curve in losses)


def test_the_warm_up_and_the_random_share_always_run_to_the_end():
    curves = curves_of(120).tolist()
    found = replay(made("risk-bounded", budget=30, trials=120, warmup=10), curves)
    assert found.steps[:10] == [30] * 10
    assert min(found.steps[10:]) < 30
    assert set(replay(made("risk-bounded", budget=30, trials=120, share=1.0), curves).steps) == {30}
    some = replay(made("risk-bounded", budget=30, trials=120, warmup=10, share=0.3), curves)
    assert 20 <= some.steps[10:].count(30) <= 60


def test_a_failure_in_the_warm_up_is_made_good_by_the_next_candidate():
    stopper = made("risk-bounded", budget=4, trials=40, warmup=6)
    for number in range(6):
        start(stopper, number)
    stopper.told(2, Outcome("failed", reason="The loss is NaN."))
    start(stopper, 6)
    start(stopper, 7)
    assert [stopper._runs[number].free for number in (5, 6, 7)] == [True, True, False]


def test_no_risk_stops_nobody_and_more_risk_stops_more():
    curves = curves_of(100).tolist()
    spent = [replay(made("risk-bounded", budget=30, trials=100, risk=risk), curves).spent for risk in (0.0, 0.01, 0.2)]
    assert spent[0] == 3000
    assert spent[0] > spent[1] > spent[2]


def test_a_wider_tolerance_stops_more():
    curves = curves_of(100).tolist()
    spent = [replay(made("risk-bounded", budget=30, trials=100, tolerance=tolerance), curves).spent for tolerance in (0.0, 0.05)]
    assert spent[1] < spent[0]


def test_the_audit_counts_those_of_the_random_share_that_would_have_been_lost():
    good = curves_of(60, seed=1)
    late = np.concatenate([np.full(15, 0.3), np.full(15, 0.99)])  # looks hopeless, ends best: no rule can know
    stopper = made("risk-bounded", budget=30, trials=61, warmup=20)
    replay(stopper, good[:59].tolist())
    stopper.share = 1.0
    start(stopper, 60)
    say(stopper, 60, *late)
    end(stopper, 60, 0.99, 30)
    audit = stopper.audit()
    assert audit["audit_lost"] == 1
    assert audit["audited"] >= audit["audit_stopped"] >= 1
    assert audit["risk"] == 0.05
    assert audit["spreads"] >= LOWEST


def test_a_verdict_gives_its_prediction_and_its_reason():
    curves = curves_of(60).tolist()
    stopper = made("risk-bounded", budget=30, trials=60, share=0.0)
    replay(stopper, curves)
    start(stopper, 99)
    say(stopper, 99, 0.2, 0.2, 0.2)
    verdict = stopper.verdict(99)
    assert verdict.stop
    assert "stated risk of 0.05" in verdict.reason
    assert verdict.predicted["score"].mean < max(curve[-1] for curve in curves)
    say(stopper, 99, *[0.2] * 5, first=4)
    assert stopper.verdict(99).stop is False, "step 8 is no check"


def test_a_curve_with_holes_is_filled_from_before():
    scale = Scale(log=False)
    assert filled([math.nan, 1.0, math.inf, 3.0], scale) == [1.0, 1.0, 1.0, 3.0]
    assert filled([math.nan], scale) is None


def test_checks_come_early_and_then_further_apart():
    assert checks(1) == (1,)
    assert checks(50)[:8] == (2, 3, 4, 5, 7, 9, 12, 15)
    assert checks(50)[-1] < 50


def test_knobs_are_checked_and_several_objectives_refused():
    with pytest.raises(ConfigError, match='"risk"'):
        made("risk-bounded", budget=10, risk=0.9)
    with pytest.raises(ConfigError, match="one objective"):
        RiskBounded((Objective("a"), Objective("b")), seed=0, budget=10, trials=10)


@pytest.mark.parametrize(("direction", "best", "tolerance"), [("max", 0.8, 0.002), ("max", 94.0, 0.188), ("min", 65.0, 0.4875)])
def test_the_usual_tolerance_follows_the_metric(direction, best, tolerance):
    assert usual_tolerance(Objective("m", direction), best) == pytest.approx(tolerance)


def test_held_out_predictions_are_those_of_regressions_without_the_curve():
    curves = curves_of(14, steps=6)
    facts = np.random.default_rng(1).standard_normal((14, 1))
    whole = ExpectedFinals.fitted(curves, facts, curves[:, -1], (3,))
    far = whole.finals.copy()
    far[4] += 0.5 * (far[4] < np.median(far)) - 0.01
    assert whole.held_out.shape == (14, 1)
    error = float(np.sqrt(np.square(whole.finals - whole.held_out[:, 0]).mean()))
    assert whole.models[0].error == pytest.approx(error)
    inside = [whole.expected(row, fact, 0)[0] for row, fact in zip(curves.tolist(), facts, strict=True)]
    assert error > float(np.sqrt(np.square(whole.finals - inside).mean())), "errors left out are larger than those of the fit"


def test_the_hopeless_do_not_move_the_regression():
    curves = curves_of(40, steps=6)
    worse = curves.copy()
    low = np.argsort(curves[:, -1])[:3]
    worse[low, -1] -= 0.5
    fits = [ExpectedFinals.fitted(some, np.zeros((40, 0)), some[:, -1], (3,)) for some in (curves, worse)]
    assert np.allclose(fits[0].held_out, fits[1].held_out)


def test_curves_that_were_stopped_teach_what_the_first_steps_are_worth():
    """The second step tells the final, and the first one something of the second: those that stopped there show how much."""
    nothing, gains = np.zeros((200, 0)), []
    for seed in range(8):
        draw = np.random.default_rng(seed)
        first = draw.standard_normal(200)
        second = 0.7 * first + 0.3 * draw.standard_normal(200)
        curves = np.stack([first, second, second], axis=1)
        few = ExpectedFinals.fitted(curves[:10], nothing[:10], second[:10], (1, 2))
        more = ExpectedFinals.fitted(curves, nothing, np.where(np.arange(200) < 10, second, np.nan), (1, 2), np.full(200, 2))
        assert more.held_out.shape == few.held_out.shape == (10, 2)
        assert more.floor == few.floor
        told = np.array([[fit.expected(row, nothing[0], 0)[0] for row in curves.tolist()] for fit in (few, more)])
        errors = np.abs(told - np.maximum(second, few.floor)).mean(axis=1)
        gains.append(errors[1] / errors[0])
    assert np.mean(gains) < 0.95


def test_a_curve_stopped_at_a_check_says_nothing_of_that_check():
    curves = curves_of(20, steps=6)
    ended = np.concatenate([curves, np.full((5, 6), np.nan)])
    ended[20:, 0] = 9.0
    finals, heard = np.append(curves[:, -1], [np.nan] * 5), np.array([2] * 20 + [1] * 5)
    plain = ExpectedFinals.fitted(curves, np.zeros((20, 0)), curves[:, -1], (1, 3))
    assert np.array_equal(ExpectedFinals.fitted(ended, np.zeros((25, 0)), finals, (1, 3), heard).held_out, plain.held_out)


def test_one_dip_weighs_less_than_two():
    told = np.array([[1.0, 1.0, -2.0, -2.0]])
    assert carried(told, [0.1] * 4) == pytest.approx(np.array([[1.0, 1.0, -1.0, -2.0]]))


def test_what_was_expected_before_hardly_counts_once_much_more_is_known():
    told = np.array([[1.0, 2.0]])
    assert 1.98 < carried(told, [0.5, 0.1])[0, 1] < 2
    assert carried(told, [0.1, 0.5])[0, 1] == pytest.approx(5 / 3), "never more than half"


def test_the_reach_is_wider_where_predictions_know_little():
    draw = np.random.default_rng(1)
    finals = draw.standard_normal(40)
    held = np.stack([0.3 * draw.standard_normal(40), finals + 0.1 * draw.standard_normal(40)], axis=1)
    caution = Reach.fitted(held, finals, 0.0, Plan(200, 24, 0.01, 0.05, np.ones(2)), 0).caution
    assert caution[0] > 3 > 1.5 > caution[1] >= 1


def test_the_reach_knows_how_often_a_best_looks_bad():
    """Curves that do as the model says are stopped, as the best, about as often as the risk allows."""
    draw = np.random.default_rng(0)
    lost = []
    for study in range(120):
        finals, error = draw.standard_normal(24), 0.5 * draw.standard_normal((24, 3))
        plan = Plan(200, 0, 0.0, 0.1, np.ones(3))
        reach = Reach.fitted(0.6 * finals[:, None] + error, finals, 0.0, plan, study)
        ranked = np.sort(draw.standard_normal(200))
        place = draw.integers(0, 200)
        earlier = ranked[-1 - draw.permutation(199)[:place] - 1] if place else np.array([-9.0])
        looks = 0.6 * ranked[-1] + 0.5 * draw.standard_normal(3)
        lost.append(any(looks[check] < reach.least(float(earlier.max()), check) for check in range(3)))
    assert 0.02 <= np.mean(lost) <= 0.2


def test_the_reach_shrinks_as_the_accepted_risk_grows():
    draw = np.random.default_rng(3)
    finals = draw.standard_normal(24)
    held = 0.6 * finals[:, None] + 0.5 * draw.standard_normal((24, 3))
    reaches = [Reach.fitted(held, finals, 0.0, Plan(200, 24, 0.01, risk, np.ones(3)), 0).reach for risk in (0.01, 0.05, 0.3)]
    assert reaches[0] > reaches[1] > reaches[2] >= LOWEST


@pytest.mark.parametrize("predictor", ["last-value-line", "curve-ridge"])
def test_another_predictor_may_say_what_finals_are_expected(predictor):
    curves = curves_of(60, steps=12).tolist()
    found = replay(made("risk-bounded", budget=12, trials=60, predictor=predictor), curves)
    assert found.spent < 0.8 * 12 * 60
    assert found.best(curves) >= sorted(curve[-1] for curve in curves)[-3]


def test_an_unknown_predictor_is_named():
    with pytest.raises(RegistryError, match="curve-ridge"):
        made("risk-bounded", budget=12, predictor="curve-rigde")


def test_made_up_curves_of_the_conformance_check_are_survived_by_a_good_candidate():
    curves = [seen.curve for seen in made_up_curves(100, 0, steps=60)]
    found = replay(made("risk-bounded", budget=60, trials=100), curves)
    assert found.best(curves) >= sorted(curve[-1] for curve in curves)[-5]
