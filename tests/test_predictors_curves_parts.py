"""The parts of predictors from curves: lessons, columns, bands, closed forms, shapes, weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from archwright.predictors.curves.band import Band
from archwright.predictors.curves.boosting import CurveBoosting
from archwright.predictors.curves.columns import Columns
from archwright.predictors.curves.ensemble import CurveEnsemble, weights_of
from archwright.predictors.curves.lesson import Lesson, lesson_of, readable
from archwright.predictors.curves.linear import linear_rule
from archwright.predictors.curves.parametric import extrapolated, family
from archwright.predictors.curves.ridge import ridge_rule
from archwright.predictors.curves.statistics import described, described_fully, levels, records
from archwright.search_space.errors import ConfigError, RegistryError
from archwright.search_space.protocols import Observation


def _lesson(count: int, seed: int = 0, noise: float = 0.1) -> Lesson:
    rng = np.random.default_rng(seed)
    curves, features = rng.normal(size=(count, 4)), rng.normal(size=(count, 2))
    finals = curves[:, -1] + 0.5 * curves[:, 0] + features[:, 1] + noise * rng.normal(size=count)
    return Lesson(curves, features, finals, ("a", "b"), 10, 0)


def test_a_gap_repeats_the_value_before_and_the_first_the_one_after():
    assert readable((math.nan, 1.0, math.inf, 2.0, 3.0), 5) == (1.0, 1.0, 1.0, 2.0, 3.0)
    for curve in ((1.0, math.nan), (math.nan, math.nan, 1.0), (1.0,), ()):
        assert readable(curve, 2) is None


def test_a_lesson_knows_neither_order_nor_what_came_after():
    seen = [Observation((0.1 * i, 0.2, 0.5), {"a": float(i)}, 0.3 + i) for i in range(4)]
    later = [Observation((*one.curve[:2], 9.0), one.features, one.final) for one in seen]
    first, other = lesson_of(seen, ("a",), 2, 0), lesson_of(later[::-1], ("a",), 2, 0)
    for field in ("curves", "features", "finals"):
        assert np.array_equal(getattr(first, field), getattr(other, field))
    assert lesson_of(seen, ("a",), 4, 0) is None


def test_folds_are_balanced_and_repeatable():
    lesson = _lesson(23)
    folds = lesson.folds(5)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    assert np.array_equal(folds, _lesson(23).folds(5))
    assert sorted(_lesson(3).folds(10)) == [0, 1, 2]


def test_columns_are_standardised_and_what_is_unknown_is_the_median():
    inputs = np.array([[1.0, 5.0, math.nan], [2.0, 5.0, math.nan], [3.0, 5.0, math.nan], [math.nan, 5.0, math.nan]])
    rows = Columns.of(inputs)(inputs)
    assert np.allclose(rows.mean(axis=0), 0)
    assert rows[3, 0] == pytest.approx(0)
    assert not rows[:, 1:].any()
    assert np.isfinite(Columns.of(inputs)(np.array([[1e300, -1e300, math.inf]]))).all()


def test_emphasised_columns_weigh_more_but_many_of_them_no_more_than_a_few():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(50, 5)), rng.normal(size=(50, 103))
    assert np.allclose(Columns.of(few, emphasised=2)(few).std(axis=0), [1, 1, 1, 2, 2])
    assert np.square(Columns.of(many, emphasised=100)(many)[:, 3:]).mean(axis=0).sum() == pytest.approx(16)


def test_the_closed_form_leaves_one_out():
    """The held-out prediction of a curve is that of a rule learned without it, at one penalty and with the same columns."""
    lesson = _lesson(20)
    rule = linear_rule(lesson, described, 2, penalties=(1.0,))
    inputs = rule.columns(described(lesson.curves, lesson.features))
    wide, penalty = np.hstack([np.ones((20, 1)), inputs]), np.diag([0.0] + [20 / 100] * inputs.shape[1])
    for out in range(20):
        rest = np.arange(20) != out
        to_gain, to_end = (
            wide[out] @ np.linalg.solve(wide[rest].T @ wide[rest] + penalty, wide[rest].T @ targets[rest])
            for targets in (lesson.targets, lesson.finals)
        )
        expected = rule.held * (lesson.last[out] + to_gain) + (1 - rule.held) * to_end
        assert rule.held_out[out] == pytest.approx(expected, abs=1e-8)


def test_a_linear_rule_finds_a_linear_law():
    lesson, others = _lesson(100, noise=0.0), _lesson(50, seed=1, noise=0.0)
    rule = linear_rule(lesson, lambda curves, features: np.hstack([curves, features]))
    assert np.abs(rule(others.curves, others.features) - others.finals).max() < 0.05


def test_finals_that_nothing_tells_are_expected_at_their_mean():
    rng = np.random.default_rng(0)
    lesson = Lesson(rng.normal(size=(80, 4)), np.empty((80, 0)), 0.1 * rng.normal(size=80), (), 10, 0)
    rule = linear_rule(lesson, described)
    assert np.abs(rule(rng.normal(size=(20, 4)), np.empty((20, 0)))).max() < 0.15


@pytest.mark.parametrize("count", [3, 12, 60])
def test_bands_hold_nine_in_ten_of_new_errors_that_grow_to_one_side(count):
    rng, inside = np.random.default_rng(count), []
    for _ in range(300):
        means = rng.uniform(0, 1, count + 20)
        finals = means + (0.02 + 0.1 * means) * rng.normal(size=count + 20)
        band = Band.of(means[:count], finals[:count])
        inside.append(np.abs(finals - means)[count:] <= 1.645 * band(means[count:]))
    assert 0.87 <= np.mean(inside) <= 0.96


def test_bands_are_wider_where_errors_are_larger():
    rng = np.random.default_rng(0)
    means = rng.uniform(0, 1, 200)
    band = Band.of(means, means + (0.01 + 0.1 * means) * rng.normal(size=200))
    low, high = band(np.array([0.1, 0.9]))
    assert high > 2 * low
    assert not Band.of(means, means)(means).any()


@pytest.mark.parametrize("law", [lambda t: 0.9 - 0.5 * t**-0.5, lambda t: 0.9 - 0.5 * np.exp(-t / 3), lambda t: 0.2 + 0.1 * np.log(t)])
def test_one_shape_of_the_family_carries_its_own_law_on(law):
    steps = np.arange(1.0, 21)
    ends = extrapolated(law(steps)[None, :8], family(20))
    assert np.abs(ends - law(20.0)).min() < 1e-9


def test_a_reset_hardly_bends_a_shape():
    curve = 0.9 - 0.5 * np.arange(1.0, 11) ** -0.5
    dented = curve.copy()
    dented[5] = 0.1
    straight, bent = extrapolated(np.array([curve, dented]), family(20))[:, 1]
    assert bent == pytest.approx(straight, abs=0.01)


def test_levels_and_records_by_hand():
    curves = np.array([[0.1, 0.4, 0.2, 0.6, 0.5]])
    assert levels(curves)[0] == pytest.approx([0.5, 0.55, 0.55])
    assert records(curves)[0] == pytest.approx([0.1, 0.4, 0.6])
    assert levels(curves[:, :1]).tolist() == [[0.1, 0.1]]
    assert records(curves[:, :1]).tolist() == [[0.1] * 3]
    assert levels(np.ones((2, 40))).shape == (2, 5)
    assert described(curves, np.array([[7.0]]))[0, -1] == 7.0
    means, tops = [0.5, 0.55, 0.425, 0.36], [0.6, 0.55, 0.5, 0.36]
    assert described_fully(curves, np.array([[7.0]]))[0] == pytest.approx([*means, *tops, 0.1, 0.1, 0.4, 0.6, 7.0])


def test_a_spike_down_hardly_moves_the_levels():
    curve = np.linspace(0.3, 0.6, 20)[None, :]
    spiked = curve.copy()
    spiked[0, 17] = 0.1
    assert np.abs(levels(spiked) - levels(curve)).max() < 0.02


def test_the_ensemble_leans_to_the_member_that_errs_less_and_says_what_it_would_have_said():
    lesson = _lesson(60)
    rule = CurveEnsemble(seed=0, members=("last-value", "curve-ridge")).learned(lesson)
    assert rule.weights[1] > 0.99
    assert rule.weights.sum() == pytest.approx(1)
    assert np.allclose(rule.held_out, rule.weights @ [member.held_out for member in rule.rules])
    plain = CurveEnsemble(seed=0, members=("last-value", "curve-ridge"), sharpness=0.0).learned(lesson)
    assert plain.weights == pytest.approx([0.5, 0.5])


def test_what_nobody_foresaw_does_not_decide_who_is_heard():
    """Both miss one training that fell apart, the better member by a little more."""
    ordinary = np.array([[1.0] * 19, [0.1] * 19])
    errors = np.concatenate([ordinary, [[1000.0], [1010.0]]], axis=1)
    assert weights_of(errors, 12.0) == pytest.approx([0, 1], abs=1e-3)
    assert np.square(errors).mean(axis=1).argmin() == 0
    assert weights_of(np.array([[0.0] * 20, [1.0] * 20]), 12.0) == pytest.approx([1, 0])


def test_trees_that_do_not_help_are_left_out():
    """Finals on a line leave the trees nothing; finals with a step in a feature are worth some."""
    straight = _lesson(60)
    linear = CurveBoosting(seed=0).learned(straight)
    assert linear.trees == 0
    assert np.allclose(linear(straight.curves, straight.features), ridge_rule(straight)(straight.curves, straight.features), atol=0.05)
    stepped = replace(straight, finals=straight.finals + 4.0 * (np.abs(straight.features[:, 0]) > 0.7), shared={})
    boosted = CurveBoosting(seed=0).learned(stepped)
    assert boosted.trees > 5
    errors, plain = (np.square(rule.held_out - stepped.finals).mean() for rule in (boosted, ridge_rule(stepped)))
    assert errors < 0.95 * plain


def test_members_join_when_they_have_what_they_ask_for():
    few, many = (len(CurveEnsemble(seed=0).learned(_lesson(count)).rules) for count in (4, 12))
    assert 2 <= few < many == 6


def test_an_ensemble_of_nothing_or_of_strangers_is_refused():
    with pytest.raises(ConfigError, match="no members"):
        CurveEnsemble(seed=0, members=())
    with pytest.raises(ConfigError, match="architecture-gp"):
        CurveEnsemble(seed=0, members=("architecture-gp",))
    with pytest.raises(RegistryError, match="curve-ridge"):
        CurveEnsemble(seed=0, members=("curve-rigde",))
