"""The regression of ``risk-bounded``: a line, and a smooth function where it errs much less."""

from __future__ import annotations

import numpy as np
import pytest

from archwright.predictors.risk_bounded_regression import Regression


def parts(n: int, features: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((n, 6)), draw.standard_normal((n, features)), draw.standard_normal(n)


def test_a_line_is_found_and_the_smooth_function_not_listened_to():
    shapes, facts, noise = parts(60, 1)
    targets = 2.0 * shapes[:, 0] + 3.0 * facts[:, 0] + 0.3 * noise
    model, errors = Regression.fitted(shapes, facts, targets)
    assert model.weights == (1.0, 0.0)
    assert np.square(errors).mean() < 0.2
    told = model.predict(np.eye(6)[:1] * 0.5, np.full((1, 1), 0.5))
    assert told[0] == pytest.approx(2.5, abs=0.3)


def test_a_bump_is_left_to_the_smooth_function():
    shapes, facts, noise = parts(300, 0)
    shapes[:, 1:] = shapes[:, :1]
    targets = 3 * np.exp(-2 * shapes[:, 0] ** 2) + 0.1 * noise
    model, errors = Regression.fitted(shapes, facts, targets)
    assert model.weights == (0.0, 1.0)
    line = targets - targets.mean()
    assert np.square(errors).mean() < 0.1 * np.square(line).mean()
    assert model.predict(np.zeros((1, 6)), np.zeros((1, 0)))[0] == pytest.approx(3.0, abs=0.3)


def test_a_few_curves_of_noise_are_predicted_near_their_mean():
    wide = []
    for seed in range(10):
        shapes, facts, targets = parts(24, 2, seed)
        model, _ = Regression.fitted(shapes, facts, targets)
        fresh, known, _ = parts(200, 2, seed + 100)
        wide.append(model.predict(fresh, known).std())
    assert np.median(wide) < 0.5


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_units_of_the_columns_do_not_matter(scale):
    shapes, facts, targets = parts(40, 3)
    targets = targets + shapes[:, 0] + np.square(facts[:, 1])
    plain, scaled = (Regression.fitted(shapes * unit, facts * unit, targets)[0] for unit in (1.0, scale))
    assert scaled.predict(shapes[:5] * scale, facts[:5] * scale) == pytest.approx(plain.predict(shapes[:5], facts[:5]), rel=1e-6)


def test_errors_are_those_of_curves_left_out():
    """With one penalty and one set of columns, leaving a curve out and fitting the others gives the same error."""
    shapes, facts, targets = parts(30, 0)
    model, errors = Regression.fitted(shapes, facts, targets)
    assert model.weights == (1.0, 0.0)
    z = model.scaled.apply(shapes, facts)
    penalties = (1.0, 3.0, 10.0, 30.0, 100.0)
    found = []
    for penalty in penalties:
        left = []
        for out in range(30):
            others = np.arange(30) != out
            rows = np.column_stack([np.ones(29), z[others] - z.mean(axis=0)])
            squares = rows.T @ rows + np.diag([0.0] + [penalty] * 6)
            slope = np.linalg.solve(squares, rows.T @ targets[others])
            left.append(targets[out] - slope @ np.append(1.0, z[out] - z.mean(axis=0)))
        found.append(np.array(left))
    assert errors == pytest.approx(min(found, key=lambda each: np.square(each).mean()), rel=1e-6)


def test_constant_columns_and_a_single_target_are_no_trouble():
    model, errors = Regression.fitted(np.ones((8, 6)), np.zeros((8, 1)), np.full(8, 0.25))
    assert errors == pytest.approx(np.zeros(8))
    assert model.predict(np.full((2, 6), 7.0), np.ones((2, 1))) == pytest.approx(np.full(2, 0.25))
