"""The weights in the package: small, described by their card, and worth having."""

from __future__ import annotations

import hashlib
import json
import statistics

import pytest

from archwright.predictors.curves.ensemble import CurveEnsemble
from archwright.predictors.prior_fitted.predictor import WEIGHTS, PriorFitted
from archwright.search_space.protocols import Observation
from archwright.testing import check_predictor
from archwright.testing.predictors import made_up_curves

CARD = WEIGHTS.with_suffix(".json")
STEPS = 24


def _asked(step: int) -> list[tuple[Observation, float]]:
    return [(Observation(seen.curve[:step], seen.features), seen.final) for seen in made_up_curves(60, 100, STEPS)]


def _told(count: int, step: int) -> list[tuple[float, float, float, float]]:
    """Mean, spread, final and last value of 60 candidates, after ``count`` finished ones."""
    predictor = PriorFitted(seed=0, budget=STEPS)
    predictor.fit(made_up_curves(count, 0, STEPS))
    asked = _asked(step)
    answers = predictor.predict_many([one for one, _ in asked])
    return [(told.mean, told.spread, final, one.curve[-1]) for told, (one, final) in zip(answers, asked, strict=True)]


def test_the_card_is_of_these_weights_which_are_small():
    card = json.loads(CARD.read_text())
    assert card["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert WEIGHTS.stat().st_size <= 5e6
    assert {"steps_done", "seed", "torch", "date", "loss_nats"} <= set(card)


def test_its_intervals_hold_on_studies_of_the_prior_and_it_beats_the_last_value():
    for size, figures in json.loads(CARD.read_text())["held_out"].items():
        assert figures["error_to_last"] < 0.9, size
        assert size in ("0", "1") or 0.85 <= figures["coverage"] <= 0.95, size


def test_keeps_the_contract():
    check_predictor("prior-fitted")


@pytest.mark.parametrize("count", [0, 2, 10, 60])
def test_beats_the_last_value_on_other_curves_than_those_of_the_prior(count):
    told = _told(count, 6)
    ours = statistics.mean(abs(mean - final) for mean, _, final, _ in told)
    last = statistics.mean(abs(value - final) for _, _, final, value in told)
    assert ours < last * (1.0 if count == 0 else 0.8)


def test_finished_curves_make_it_better_and_surer():
    few, many = (_told(count, 6) for count in (1, 60))
    for figure in (lambda row: abs(row[0] - row[2]), lambda row: row[1]):
        assert statistics.mean(map(figure, many)) < 0.7 * statistics.mean(map(figure, few))


def test_intervals_hold_on_other_curves():
    held = [abs(mean - final) <= 1.645 * spread for mean, spread, final, _ in _told(60, 6)]
    assert 0.75 <= statistics.mean(held) <= 1.0


def test_it_joins_an_ensemble():
    ensemble = CurveEnsemble(seed=0, members=("last-value", "prior-fitted"))
    ensemble.fit(made_up_curves(30, 0, STEPS))
    told = ensemble.predict(_asked(6)[0][0])
    assert told is not None
    assert told.mean == pytest.approx(_asked(6)[0][1], abs=0.2)
