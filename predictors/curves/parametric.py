"""Families of learning curves fitted to each training and carried on to the full budget: ``parametric-curves``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...search_space.choices import Domain, Integer
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .lesson import Lesson
from .linear import LinearRule, linear_rule

KNOBS: dict[str, Domain] = {"min_trials": Integer(2, 100)}
POWERS = (0.25, 0.5, 1.0, 2.0)
"""Exponents c of ``t^-c``."""
TIMES = (0.05, 0.15, 0.5)
"""Decay times of the exponentials, as shares of the budget."""
ROUNDS, TOLERATED = 2, 2.0
"""Reweightings of a robust fit, and the median absolute residuals from which on a value counts less."""


@predictor("parametric-curves", knobs=KNOBS, paper="Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks (2015)")
class ParametricCurves(CurvePredictor):
    r"""Power laws, exponentials and the logarithm through the curve so far, stacked over the study's completed curves.

    Each shape :math:`\varphi` of

    .. math:: t^{-c}, \qquad e^{-t / \tau}, \qquad \log t

    with c and :math:`\tau` on a grid is fitted to each curve as :math:`a + b\,\varphi(t)`: least squares with weights that grow with
    t, reweighted after Huber so that a reset or a spike counts little. How far each shape rises from the last value to the full budget
    is one column of a ridge regression of what completed trainings still gained, which shrinks shapes that extrapolate badly.

    Departure from the paper: the stack over the study's curves stands in place of the posterior over the parameters of one curve.

    Args:
        seed: not used.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 2) -> None:
        check_knobs("predictor", "parametric-curves", {"min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, lesson: Lesson) -> LinearRule:
        shapes = family(lesson.budget)
        return linear_rule(lesson, lambda curves, features: extrapolated(curves, shapes) - curves[:, -1:])


def family(budget: int) -> Any:
    """[k, budget] the shapes at steps 1 .. budget."""
    steps = np.arange(1, budget + 1, dtype=float)
    powers = [steps**-power for power in POWERS]
    exponentials = [np.exp(-steps / (share * budget)) for share in TIMES]
    return np.array([*powers, *exponentials, np.log(steps)])


def extrapolated(curves: Any, shapes: Any) -> Any:
    """[m, k] the value of each shape, fitted to each of ``curves`` [m, s], at the last of the steps of ``shapes`` [k, T].

    A shape that hardly changes over the s steps seen (or s = 1) says nothing and is carried on flat.
    """
    seen, end = shapes[:, None, : curves.shape[1]], shapes[:, -1]
    steps = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
    weights = np.broadcast_to(steps, (len(shapes), *curves.shape))
    for _ in range(ROUNDS):
        level, slope = _lines(seen, curves, weights)
        away = np.abs(curves - level[..., None] - slope[..., None] * seen)
        scale = np.median(away, axis=-1, keepdims=True) + 1e-12
        weights = steps * np.minimum(1.0, TOLERATED * scale / np.maximum(away, 1e-12))
    level, slope = _lines(seen, curves, weights)
    return (level + slope * end[:, None]).T


def _lines(shapes: Any, curves: Any, weights: Any) -> tuple[Any, Any]:
    """Level and slope [k, m] of ``curves`` [m, s] on ``shapes`` [k, 1, s] by weighted least squares."""
    total = weights.sum(axis=-1)
    middle, height = (weights * shapes).sum(axis=-1) / total, (weights * curves).sum(axis=-1) / total
    centred = weights * (shapes - middle[..., None])
    power = (centred * shapes).sum(axis=-1)
    enough = power > 1e-9 * total * np.square(shapes).max()
    slope = np.where(enough, (centred * curves).sum(axis=-1) / np.where(enough, power, 1.0), 0.0)
    return height - slope * middle, slope
