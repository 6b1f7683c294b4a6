"""Ridge regression with its penalties averaged by leave-one-out error, all in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import Columns
from .lesson import Lesson

PENALTIES = tuple(float(10.0**power) for power in np.linspace(-2, 3, 11))
"""Ridge penalties, in units of the number of curves divided by 100."""

Describe = Callable[[Any, Any], Any]
"""Inputs [m, q] of curves [m, s] and features [m, p]."""


@dataclass(frozen=True)
class LinearRule:
    """``last + centre + inputs @ weights``, the inputs standardised."""

    describe: Describe
    columns: Columns
    centre: float
    weights: Any
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        return curves[:, -1] + self.centre + self.columns(self.describe(curves, features)) @ self.weights


def linear_rule(lesson: Lesson, describe: Describe, penalties: tuple[float, ...] = PENALTIES) -> LinearRule:
    r"""Regress what is still to be gained on ``describe(curves, features)``.

    With the singular values :math:`U \Lambda V^T` of the standardised inputs, the prediction of a penalty :math:`\alpha` for a curve
    left out is in error by :math:`(g - \hat g) / (1 - h)`, :math:`h = 1/n + \sum_k U_k^2 \lambda_k^2 / (\lambda_k^2 + \alpha)`.
    Penalties are averaged with weights :math:`\exp(-\frac n2 (E_\alpha / E_{min} - 1))`, E the mean square of these errors: a penalty
    hardly worse than the best counts nearly as much, which varies less from study to study than choosing one.

    Args:
        lesson: of n curves.
        describe: the inputs.
        penalties: :math:`\alpha`, times n / 100.
    """
    columns = Columns.of(describe(lesson.curves, lesson.features))
    inputs, targets = columns(describe(lesson.curves, lesson.features)), lesson.targets
    centre, count = float(targets.mean()), len(lesson)
    left, sizes, right = np.linalg.svd(inputs, full_matrices=False)
    inside = left.T @ (targets - centre)
    kept = sizes**2 / (sizes**2 + np.array(penalties)[:, None] * count / 100)
    fitted, leverage = (kept * inside) @ left.T, kept @ np.square(left).T + 1 / count
    errors = (targets - centre - fitted) / np.maximum(1 - leverage, 1e-3)
    share = averaging(np.square(errors).mean(axis=1), count)
    weights = right.T @ (np.divide(share @ kept, sizes, out=np.zeros_like(sizes), where=sizes > 1e-9) * inside)
    return LinearRule(describe, columns, centre, weights, lesson.last + targets - share @ errors)


def averaging(squares: Any, count: int) -> Any:
    """Weights [k] of settings whose mean squared errors over ``count`` held-out curves are ``squares`` [k]."""
    best = squares.min()
    if best <= 0:
        return (squares <= 0) / np.sum(squares <= 0)
    weights = np.exp(-0.5 * count * (squares / best - 1))
    return weights / weights.sum()
