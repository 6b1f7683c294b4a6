"""The synthetic prior and the rows: studies are what they say, and rows do not depend on the unit a metric comes in."""

from __future__ import annotations

import numpy as np
import pytest

from archwright.predictors.prior_fitted.anchor import Anchor
from archwright.predictors.prior_fitted.bars import BARS, EDGES, Bars, class_of, first_guess, log_scale
from archwright.predictors.prior_fitted.prior import COLUMNS, draw_studies
from archwright.predictors.prior_fitted.rows import FEATURES, SLOTS, WIDTH, Context, Group, filled, slots, squashed
from archwright.predictors.prior_fitted.sampling import ASKED, cut, draw_batch
from archwright.predictors.prior_fitted.shapes import FAMILIES, learning_rates, remaining


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _group(seed: int, count: int, step: int = 8, columns: int = 3) -> Group:
    rng = _rng(seed)
    top, speed = rng.uniform(0.5, 0.9, (2, 1, count, 1))
    prefixes = top - 0.4 * np.arange(1, step + 1) ** -speed + 0.01 * rng.standard_normal((1, count, step))
    features = np.concatenate([top, speed, rng.standard_normal((1, count, 1))], axis=-1)[..., :columns]
    return Group(prefixes, features, top[..., 0] - 0.05, np.full((1, count), 20.0))


def test_studies_are_a_function_of_the_generator():
    first, again, other = (draw_studies(_rng(seed), 3, 5, 7) for seed in (1, 1, 2))
    for name in ("curves", "finals", "features"):
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=True)
    assert not np.array_equal(first.finals, other.finals)
    assert (first.curves.shape, first.finals.shape, first.features.shape) == ((3, 5, 7), (3, 5), (3, 5, COLUMNS))


def test_studies_hold_what_the_prior_promises():
    drawn = draw_studies(_rng(), 400, 24, 30)
    assert np.isfinite(drawn.finals).all()
    assert np.isfinite(drawn.features).all()
    assert 0 < np.isnan(drawn.curves).mean() < 0.02
    known = np.nan_to_num(drawn.curves)
    assert np.mean((drawn.finals > known[..., 0]).mean(axis=1) > 0.5) > 0.9, "most candidates of nearly every study learn"
    shares = ((known >= 0) & (known <= 1)).all(axis=(1, 2)).mean()
    assert 0.3 < shares < 0.7, "about half of the studies measure shares of 1"
    flat = (known.max(axis=-1) == known.min(axis=-1)).any(axis=1).mean()
    assert 0.1 < flat < 0.6, "some studies have candidates that never leave the start"
    hundred = (known.min(axis=(1, 2)) >= 0) & (known.max(axis=(1, 2)) > 2) & (known.max(axis=(1, 2)) <= 100)
    assert hundred.any(), "some accuracies come in per cent"


def test_features_explain_finals_in_some_studies_and_not_in_others():
    drawn = draw_studies(_rng(3), 200, 60, 10)
    explained = []
    for finals, features in zip(drawn.finals, drawn.features, strict=True):
        design = np.column_stack([np.ones(60), features])
        left = finals - design @ np.linalg.lstsq(design, finals, rcond=None)[0]
        explained.append(1 - left.var() / finals.var())
    assert np.quantile(explained, 0.9) > 0.4
    assert np.quantile(explained, 0.1) < 0.3


def test_what_remains_falls_from_one_in_every_family():
    time = np.linspace(0, 30, 31)[None, None]
    for family in range(FAMILIES):
        weights = np.eye(FAMILIES)[family][None, None, None]
        left = remaining(time, np.full((1, 1, 1), 5.0), np.full((1, 1, 1), 1.3), weights, np.full((1, 1, 1), 30.0))[0, 0]
        assert left[0] == pytest.approx(1)
        assert (np.diff(left) < 0).all()
        assert left[-1] >= -1e-9


def test_learning_rates_are_shared_and_never_rise():
    rates = learning_rates(_rng(), 300, 40)
    assert rates.shape == (300, 1, 40)
    assert (np.diff(rates) <= 1e-12).all()
    assert rates.min() >= 0
    assert rates.max() <= 1


def test_missing_values_repeat_the_one_before_and_long_prefixes_keep_their_end():
    assert filled(np.array([[np.nan, 1.0, np.nan, 3.0]])).tolist() == [[1.0, 1.0, 1.0, 3.0]]
    assert slots(np.array([1.0, 2.0])).tolist() == [1.0] * (SLOTS - 1) + [2.0]
    long = slots(np.arange(100.0))
    assert long[-6:].tolist() == [94.0, 95.0, 96.0, 97.0, 98.0, 99.0]
    assert (np.diff(long) > 0).all()
    assert long[0] == np.arange(9.0).mean()


def test_rows_and_answers_follow_a_change_of_unit():
    """Of a metric that is no share of 1, neither where zero is nor how large the unit is changes what the network reads."""
    finished, asked, none = _group(0, 12), _group(1, 4), _group(2, 0)

    def read(unit: float, shift: float):
        moved = [Group(unit * g.prefixes + shift, g.features, unit * g.latest + shift, g.reached) for g in (finished, none, asked)]
        context = Context.of(moved[0], moved[1], 20)
        return context.rows, *context.asked(moved[2])

    rows, query, anchor, size = read(3.0, 5.0)
    others = read(50.0, -400.0)
    assert np.allclose(rows, others[0], atol=1e-6)
    assert np.allclose(query, others[1], atol=1e-6)
    assert np.allclose((anchor - 5) / 3, (others[2] + 400) / 50)
    assert np.allclose(size / 3, others[3] / 50)
    assert rows.shape == (1, 12, WIDTH)


def test_features_are_read_whatever_their_order_sign_and_scale():
    finished, asked = _group(0, 20), _group(1, 4)
    context = Context.of(finished, _group(2, 0), 20)
    altered = [Group(g.prefixes, -7 * g.features[..., ::-1] + 2, g.latest, g.reached) for g in (finished, asked)]
    assert np.allclose(Context.of(altered[0], _group(2, 0), 20).rows, context.rows)
    assert np.allclose(Context.of(altered[0], _group(2, 0), 20).asked(altered[1])[0], context.asked(asked)[0])


def test_only_eight_features_are_read_and_the_telling_ones_first():
    finished = _group(0, 40, columns=1)
    noise = _rng(5).standard_normal((1, 40, 20))
    wide = Group(finished.prefixes, np.concatenate([noise, finished.features], axis=-1), finished.latest, finished.reached)
    columns = Context.of(wide, wide.part(slice(0, 0)), 20)
    assert columns.columns.chosen.shape == (1, FEATURES)
    assert columns.columns.chosen[0, 0] == 20


def test_the_anchor_leaves_each_candidate_out_as_a_refit_without_it_would():
    group = _group(0, 15)
    features = np.zeros((1, 15, FEATURES))
    whole = Anchor.of(group.prefixes, features, group.latest)
    inputs = np.concatenate([np.ones((1, 15, 1)), _columns(whole, group, features)], axis=-1)[0]
    gains = (group.latest - group.prefixes[..., -1])[0]
    for place in range(15):
        kept = np.arange(15) != place
        penalty = np.diag([0.5] + [2.0] * (inputs.shape[1] - 1))
        weights = np.linalg.solve(inputs[kept].T @ inputs[kept] + penalty, inputs[kept].T @ gains[kept])
        assert whole.left_out[0, place] == pytest.approx(group.prefixes[0, place, -1] + inputs[place] @ weights)


def _columns(anchor: Anchor, group: Group, features: np.ndarray) -> np.ndarray:
    from archwright.predictors.prior_fitted.anchor import _shapes

    return np.clip((_shapes(group.prefixes, features) - anchor.middle) / anchor.scale, -4, 4)


def test_batches_are_finite_and_hide_the_answer():
    for seed, finished in enumerate((0, 1, 3, 40)):
        batch = draw_batch(_rng(seed), finished=finished, rows=200)
        assert all(np.isfinite(part).all() for part in (batch.context, batch.asked, batch.target))
        assert batch.asked.shape[1:] == (ASKED, WIDTH)
        assert np.allclose(batch.anchor + batch.unit * batch.target, batch.final)
    drawn = draw_studies(_rng(9), 4, 12, 20)
    hidden = drawn.finals.copy()
    hidden[:, 6:] += 1.0
    curves = drawn.curves.copy()
    curves[:, 6:, 5:] += 1.0
    first, second = (cut(type(drawn)(c, f, drawn.features), 6, 0, 5, _rng(0)) for c, f in ((drawn.curves, drawn.finals), (curves, hidden)))
    assert np.array_equal(first.asked, second.asked)
    assert np.array_equal(first.context, second.context)


def test_bars_are_a_density():
    rng = _rng()
    bars = Bars(np.stack([np.exp(first_guess()), rng.dirichlet(np.ones(BARS + 2))]))
    grid = np.linspace(-150, 150, 600_001)
    for row in range(2):
        density = bars.shares[row][class_of(grid)] * np.exp(log_scale(grid))
        step = grid[1] - grid[0]
        assert density.sum() * step == pytest.approx(1, abs=1e-3)
        assert (density * grid).sum() * step == pytest.approx(bars.mean()[row], abs=0.02)
        for value in (-40.0, -2.0, 0.1, 33.0):
            assert bars.below(np.full(2, value))[row] == pytest.approx(density[grid <= value].sum() * step, abs=2e-3)


def test_the_spread_holds_nine_tenths():
    bars = Bars(_rng(1).dirichlet(np.ones(BARS + 2), 6))
    middle, reach = bars.mean(), 1.645 * bars.spread()
    assert np.allclose(bars.below(middle + reach) - bars.below(middle - reach), 0.9, atol=1e-6)


def test_values_at_the_edges_have_a_class_each():
    assert class_of(np.array([EDGES[0] - 1, EDGES[0], 0.0, EDGES[-1] + 1])).tolist() == [0, 1, BARS // 2 + 1, BARS + 1]
    assert squashed(np.array([1e30])).tolist() == [10.0]
