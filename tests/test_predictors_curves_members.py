"""Every predictor from curves keeps the contract, survives what trainings do, and beats what it must beat."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archwright.predictors.curves.base import CurvePredictor
from archwright.predictors.registry import PREDICTORS
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Observation
from archwright.testing import check_predictor
from archwright.testing.predictors import made_up_curves

MEMBERS = ("last-value", "last-value-line", "parametric-curves", "curve-ridge", "curve-svr", "curve-boosting", "curve-ensemble")
WITHOUT_HISTORY = ("last-value", "parametric-curves")


def _fitted(name: str, history, **knobs) -> CurvePredictor:
    made = PREDICTORS[name].obj(seed=0, **knobs)
    made.fit(history)
    return made


def _cut(seen: Observation, step: int) -> Observation:
    return Observation(seen.curve[:step], seen.features)


def _error(name: str, history, asked, step: int) -> float:
    told = _fitted(name, history).predict_many([_cut(seen, step) for seen in asked])
    return math.sqrt(np.mean([(one.mean - seen.final) ** 2 for one, seen in zip(told, asked, strict=True)]))


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_is_a_curve_predictor(name):
    assert issubclass(PREDICTORS[name].obj, CurvePredictor)


@pytest.mark.parametrize("name", MEMBERS)
def test_keeps_the_contract(name):
    check_predictor(name)


@pytest.mark.parametrize("name", MEMBERS)
def test_many_are_answered_as_one_by_one_whatever_their_lengths(name):
    history, others = made_up_curves(30, 0), made_up_curves(6, 1)
    asked = [_cut(seen, 3 + 2 * (place % 2)) for place, seen in enumerate(others)] + [Observation(()), Observation((0.5, math.nan))]
    predictor = _fitted(name, history)
    together, alone = predictor.predict_many(asked), [predictor.predict(one) for one in asked]
    assert together[-2:] == alone[-2:] == [None, None]
    for one, other in zip(together[:-2], alone[:-2], strict=True):
        assert one.mean == pytest.approx(other.mean, rel=1e-9)
        assert one.spread == pytest.approx(other.spread, rel=1e-9)


@pytest.mark.parametrize("name", MEMBERS)
def test_gaps_resets_constant_and_diverged_curves_do_no_harm(name):
    history, asked = made_up_curves(40, 0), made_up_curves(20, 1)
    reset = [(*seen.curve[:3], 0.1, *seen.curve[4:]) for seen in history[:2]]
    damaged = [
        *history,
        *(Observation(curve, seen.features, seen.final) for curve, seen in zip(reset, history, strict=False)),
        Observation((0.1,) * 12, history[0].features, 0.1),
        Observation((0.3, math.nan, 0.4, math.inf, 0.5, 0.5, 0.6), history[1].features, 0.6),
        Observation((0.3, 0.2, -math.inf, math.nan, math.nan, math.nan), history[2].features, math.nan),
        Observation((-1e6,) * 12, {}, -1e6),
    ]
    assert _error(name, damaged, asked, 6) < 2.5 * _error(name, history, asked, 6) + 0.05
    told = _fitted(name, damaged).predict(Observation((0.5, math.nan, 0.6, 0.62, -math.inf, 0.63), asked[0].features))
    assert 0.4 < told.mean < 1.2
    assert 0 < told.spread < 1e3


@pytest.mark.parametrize("name", MEMBERS)
def test_held_out_predictions_belong_to_the_completed_curves(name):
    history = made_up_curves(40, 0)
    held = _fitted(name, [*history, _cut(history[0], 5)]).held_out(5)
    assert sorted(held.final) == sorted(seen.final for seen in history)
    assert held.predicted.shape == held.spread.shape == held.final.shape
    assert np.all(held.spread > 0)
    inside = np.abs(held.predicted - held.final) <= 1.645 * held.spread
    assert 0.85 <= inside.mean() < 1
    assert _fitted(name, []).held_out(5) is None


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "last-value"])
def test_held_out_predictions_did_not_know_the_final(name):
    """Finals that are noise cannot be predicted; a fit that has seen them would seem to."""
    rng = np.random.default_rng(0)
    noise = [Observation(tuple(rng.normal(0, 1e-3, 5)), {"size": float(rng.normal())}, float(rng.normal())) for _ in range(60)]
    held = _fitted(name, noise).held_out(5)
    assert np.square(held.predicted - held.final).mean() > 0.9 * held.final.var()


@pytest.mark.parametrize("name", WITHOUT_HISTORY)
def test_members_without_need_of_a_history_answer_after_two_curves_with_wide_spreads(name):
    history = made_up_curves(40, 0)
    few, many = (_fitted(name, history[:count]).predict(_cut(history[-1], 5)) for count in (2, 39))
    assert few.spread > 0
    assert many.spread > 0
    assert _fitted(name, history[:1]).predict(_cut(history[-1], 5)) is None


@pytest.mark.parametrize("name", ["parametric-curves", "curve-ridge", "curve-boosting", "curve-svr", "curve-ensemble"])
def test_beats_the_last_value_and_the_line_on_it(name):
    for seed in (0, 2):
        history, asked = made_up_curves(80, seed, steps=20), made_up_curves(60, seed + 1, steps=20)
        ours, last, line = (_error(one, history, asked, 5) for one in (name, "last-value", "last-value-line"))
        assert ours < last
        assert ours < line


@pytest.mark.parametrize("name", MEMBERS)
def test_knobs_outside_their_domain_are_refused(name):
    with pytest.raises(ConfigError, match=name):
        PREDICTORS[name].obj(seed=0, min_trials=1)
