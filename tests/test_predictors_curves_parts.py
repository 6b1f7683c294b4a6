"""The parts of predictors from curves: lessons, columns, bands, closed forms, shapes, weights."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archwright.predictors.curves.band import Band
from archwright.predictors.curves.columns import Columns
from archwright.predictors.curves.ensemble import CurveEnsemble
from archwright.predictors.curves.lesson import Lesson, lesson_of, readable
from archwright.predictors.curves.linear import linear_rule
from archwright.predictors.curves.parametric import extrapolated, family
from archwright.predictors.curves.statistics import described, levels, shapes
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


def test_the_closed_form_leaves_one_out():
    """The held-out prediction of a curve is that of a rule learned without it, at one penalty and with the same columns."""
    lesson = _lesson(20)
    held = linear_rule(lesson, described, penalties=(1.0,)).held_out
    inputs = Columns.of(described(lesson.curves, lesson.features))(described(lesson.curves, lesson.features))
    wide, penalty = np.hstack([np.ones((20, 1)), inputs]), np.diag([0.0] + [20 / 100] * inputs.shape[1])
    for out in range(20):
        rest = np.arange(20) != out
        weights = np.linalg.solve(wide[rest].T @ wide[rest] + penalty, wide[rest].T @ lesson.targets[rest])
        assert held[out] == pytest.approx(lesson.last[out] + wide[out] @ weights, abs=1e-8)


def test_a_linear_rule_finds_a_linear_law():
    lesson, others = _lesson(100, noise=0.0), _lesson(50, seed=1, noise=0.0)
    rule = linear_rule(lesson, lambda curves, features: np.hstack([curves, features]))
    assert np.abs(rule(others.curves, others.features) - others.finals).max() < 0.05


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


def test_levels_and_shapes_by_hand():
    curves = np.array([[0.1, 0.4, 0.2, 0.6, 0.5]])
    assert levels(curves)[0] == pytest.approx([0.5, 0.55, 0.425, 0.36, 0.5, 0.4, 0.6, 0.1])
    rise, slope, rough, scatter = shapes(curves)[0]
    assert rise == pytest.approx(0.3)
    assert slope > 0
    assert rough == pytest.approx(math.log(0.25), abs=1e-4)
    assert np.isfinite(shapes(curves[:, :1])).all()
    assert shapes(np.full((1, 6), 0.5))[0, 3] == pytest.approx(math.log(1e-6), abs=1e-3)


def test_the_ensemble_leans_to_the_member_that_errs_less_and_says_what_it_would_have_said():
    lesson = _lesson(60)
    rule = CurveEnsemble(seed=0, members=("last-value", "curve-ridge")).learned(lesson)
    assert rule.weights[1] > 0.99
    assert rule.weights.sum() == pytest.approx(1)
    assert np.allclose(rule.held_out, rule.weights @ [member.held_out for member in rule.rules])
    plain = CurveEnsemble(seed=0, members=("last-value", "curve-ridge"), sharpness=0.0).learned(lesson)
    assert plain.weights == pytest.approx([0.5, 0.5])


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
