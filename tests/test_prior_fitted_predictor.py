"""The predictor around the network: its contract, its context, and what it does with curves that are not as they should be.

All but the figures at the end use a small network that was never trained, so that they hold for any weights.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from archwright.predictors.curves.lesson import feature_rows, lesson_of
from archwright.predictors.prior_fitted.network import RowTransformer, save_network
from archwright.predictors.prior_fitted.predictor import PriorFitted
from archwright.predictors.prior_fitted.reading import LONGEST
from archwright.predictors.prior_fitted.rows import WIDTH
from archwright.predictors.registry import PREDICTORS
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Observation
from archwright.testing import check_predictor
from archwright.testing.predictors import made_up_curves


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network whose answers depend on everything it reads."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = RowTransformer(width=32, layers=2, heads=2, hidden=32)
        for value in network.parameters():
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.3)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_network(network, path)
    return str(path)


def _fitted(weights: str, history: list[Observation], **knobs) -> PriorFitted:
    predictor = PriorFitted(seed=0, weights=weights, **knobs)
    predictor.fit(history)
    return predictor


def _running(count: int, step: int = 4) -> list[Observation]:
    return [Observation(seen.curve[:step], seen.features) for seen in made_up_curves(count, 1)]


def test_keeps_the_contract(weights):
    check_predictor("prior-fitted", weights=weights)


def test_answers_without_any_history_once_the_budget_is_known(weights):
    asked = _running(1)[0]
    assert _fitted(weights, []).predict(asked) is None
    told = _fitted(weights, [], budget=12).predict(asked)
    assert told is not None
    assert math.isfinite(told.mean)
    assert told.spread > 0
    assert _fitted(weights, [], budget=12).predict(Observation((0.3,))) is not None
    assert _fitted(weights, [], budget=12).predict(Observation(())) is None
    assert _fitted(weights, [], budget=12).predict(Observation((math.nan,))) is None


def test_every_finished_curve_changes_the_answer(weights):
    history, asked = made_up_curves(6, 0), _running(1)[0]
    told = {_fitted(weights, history[:count], budget=12).predict(asked) for count in range(6)}
    assert len(told) == 6


def test_running_candidates_count_only_when_all_may_teach(weights):
    history, asked = made_up_curves(6, 0), _running(1)[0]
    under_way = [Observation(seen.curve[:9], seen.features) for seen in made_up_curves(3, 2)]
    for finished in ([], history):
        alone = _fitted(weights, finished, budget=12).predict(asked)
        assert _fitted(weights, [*finished, *under_way], budget=12).predict(asked) == alone
        assert _fitted(weights, [*finished, *under_way], budget=12, learn_from="all").predict(asked) != alone


def test_many_are_answered_as_each_alone(weights):
    predictor = _fitted(weights, made_up_curves(10, 0))
    asked = [*_running(5, 3), *_running(5, 7), Observation(())]
    together = predictor.predict_many(asked)
    assert together[-1] is None
    for one, told in zip(asked[:-1], together, strict=False):
        alone = predictor.predict(one)
        assert told.mean == pytest.approx(alone.mean, rel=1e-4, abs=1e-4)
        assert told.spread == pytest.approx(alone.spread, rel=1e-3)
    assert predictor.predict_many([]) == []


def test_the_interval_holds_nine_tenths_of_the_distribution(weights):
    predictor = _fitted(weights, made_up_curves(10, 0))
    for asked in _running(3):
        told = predictor.predict(asked)
        low, high = (predictor.chance_above(asked, told.mean + sign * 1.645 * told.spread) for sign in (-1, 1))
        assert low - high == pytest.approx(0.9, abs=1e-6)
    assert predictor.chance_above(Observation(()), 0.5) is None


def test_answers_follow_the_unit_of_the_metric(weights):
    """In per cent, or moved and turned into another score, the same study gets the same answer."""
    history, asked = made_up_curves(10, 0), _running(1)[0]

    def told(unit: float, shift: float):
        moved = [Observation(tuple(unit * v + shift for v in one.curve), one.features, one.final) for one in history]
        moved = [Observation(one.curve, one.features, unit * one.final + shift) for one in moved]
        query = Observation(tuple(unit * v + shift for v in asked.curve), asked.features)
        answer = _fitted(weights, moved).predict(query)
        return (answer.mean - shift) / unit, answer.spread / unit

    assert told(100.0, 0.0) == pytest.approx(told(7.0, -50.0), rel=1e-3)


def test_odd_curves_get_finite_answers(weights):
    predictor = _fitted(weights, [*made_up_curves(10, 0), Observation((0.4, math.nan, math.inf, 0.5), {}, 0.5)])
    for curve in ((0.5, math.nan, 0.5), (0.1,) * 5, (1e300, 0.1), (0.5, 0.6, 0.1, 0.1), (0.5,) * 40, (-math.inf, 0.2, 0.2)):
        told = predictor.predict(Observation(curve))
        assert math.isfinite(told.mean), curve
        assert 0 < told.spread < math.inf, curve
    flat = _fitted(weights, [Observation((0.1,) * 12, {}, 0.1)] * 5).predict(Observation((0.1,) * 5))
    assert abs(flat.mean - 0.1) < 0.5


def test_long_trainings_are_thinned(weights):
    steps = 10 * LONGEST
    curve = tuple(0.9 - 0.5 * (step + 1) ** -0.5 for step in range(steps))
    predictor = _fitted(weights, [Observation(curve, {}, curve[-1])] * 3)
    for step in (1, 9, 10, 11, 1234, steps):
        told = predictor.predict(Observation(curve[:step]))
        assert math.isfinite(told.mean)


def test_large_histories_are_thinned(weights):
    history, asked = made_up_curves(60, 0), _running(1)[0]
    few = _fitted(weights, history, context=20).predict(asked)
    assert few != _fitted(weights, history).predict(asked)
    ordered = sorted(history, key=lambda seen: seen.final)
    spread = [ordered[round(place * 59 / 19)] for place in range(20)]
    assert few == _fitted(weights, spread, context=20).predict(asked)


def test_held_out_answers_do_not_know_their_own_final(weights):
    history = made_up_curves(20, 0)
    told = _fitted(weights, history).held_out(4)
    assert sorted(told.final) == sorted(seen.final for seen in history)
    assert np.isfinite(told.predicted).all()
    assert (told.spread > 0).all()
    top = max(history, key=lambda seen: seen.final)
    raised = [Observation(seen.curve, seen.features, seen.final + (5.0 if seen is top else 0.0)) for seen in history]
    others = _fitted(weights, raised).held_out(4)
    assert others.predicted[-1] == pytest.approx(told.predicted[-1]), "the last is the best, and its answer comes from the others"
    assert not np.allclose(others.predicted, told.predicted)
    assert _fitted(weights, []).held_out(4) is None


def test_it_is_a_member_like_any_other_predictor_from_curves(weights):
    """What an ensemble asks of a member: held-out predictions of a lesson, and a rule for other curves."""
    predictor = _fitted(weights, made_up_curves(20, 0))
    lesson = lesson_of(made_up_curves(20, 0), predictor._names, 4, 0)
    rule = predictor.learned(lesson)
    asked = _running(3)
    told = rule([one.curve for one in asked], feature_rows([one.features for one in asked], predictor._names))
    assert told == pytest.approx([one.mean for one in predictor.predict_many(asked)])
    assert rule.held_out == pytest.approx(predictor.held_out(4).predicted)


def test_the_context_is_a_set(weights):
    network = RowTransformer(width=32, layers=2, heads=2, hidden=32)
    rng = np.random.default_rng(0)
    context, asked = (torch.from_numpy(rng.standard_normal((2, count, WIDTH))).float() for count in (7, 3))
    with torch.no_grad():
        first = network(context, asked)
        assert torch.allclose(network(context[:, torch.randperm(7, generator=torch.Generator().manual_seed(0))], asked), first, atol=1e-5)
        assert torch.allclose(network(context, asked[:, :1]), first[:, :1], atol=1e-5), "rows asked about do not see each other"
        assert torch.allclose(first.exp().sum(-1), torch.ones(2, 3), atol=1e-5)


def test_wrong_knobs_and_weights_are_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match="learn_from"):
        PriorFitted(seed=0, learn_from="none")
    with pytest.raises(ConfigError, match="budget"):
        PriorFitted(seed=0, budget=0)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for path in ("missing.safetensors", "broken.safetensors"):
        with pytest.raises(ConfigError, match=f"{path}.*prior_fitted.py"):
            PriorFitted(seed=0, budget=12, weights=str(tmp_path / path)).predict(Observation((0.5,)))


def test_it_is_registered_with_its_knobs_and_paper():
    entry = PREDICTORS["prior-fitted"]
    assert set(entry.knobs) == {"budget", "learn_from", "context"}
    assert "2310.20447" in entry.paper
