"""Ridge regression with its penalties averaged by leave-one-out error, all in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import Columns
from .lesson import Lesson, within
from .weights import averaging

PENALTIES = tuple(float(10.0**power) for power in np.linspace(-2, 3, 11))
"""Ridge penalties, in units of the number of curves divided by 100."""

BROKEN = 20.0
"""Interquartile ranges within which the finals of broken trainings still count when settings are judged."""

Describe = Callable[[Any, Any], Any]
"""Inputs [m, q] of curves [m, s] and features [m, p]."""


@dataclass(frozen=True)
class LinearRule:
    """``held last + centre + inputs @ weights``, the inputs standardised."""

    describe: Describe
    columns: Columns
    held: float
    centre: float
    weights: Any
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        return self.held * curves[:, -1] + self.centre + self.columns(self.describe(curves, features)) @ self.weights


def linear_rule(lesson: Lesson, describe: Describe, emphasised: int = 0, penalties: tuple[float, ...] = PENALTIES) -> LinearRule:
    r"""Regress the final value on ``describe(curves, features)``, shrunk to the last value and to the mean of all finals.

    The targets are once what is still to be gained (what the inputs cannot tell is then taken to stay as it is) and once the final
    itself (it is then taken to end like all). With the singular values :math:`U \Lambda V^T` of the standardised inputs, the
    prediction of a penalty :math:`\alpha` for a curve left out is in error by :math:`(g - \hat g) / (1 - h)`,
    :math:`h = 1/n + \sum_k U_k^2 \lambda_k^2 / (\lambda_k^2 + \alpha)`. Targets and penalties are averaged
    (:func:`~archwright.predictors.curves.weights.averaging`), which varies less from study to study than choosing one.

    Args:
        lesson: of n curves.
        describe: the inputs.
        emphasised: how many of them, at the end, are features to be emphasised.
        penalties: :math:`\alpha`, times n / 100.
    """
    given, count = describe(lesson.curves, lesson.features), len(lesson)
    columns = Columns.of(given, emphasised)
    inputs = columns(given)
    targets = np.stack([lesson.targets, within(lesson.finals)])
    centres, starts = targets.mean(axis=1), np.stack([lesson.last, np.zeros(count)])
    left, sizes, right = np.linalg.svd(inputs, full_matrices=False)
    inside = (targets - centres[:, None]) @ left
    kept = sizes**2 / (sizes**2 + np.array(penalties)[:, None] * count / 100)
    fitted, leverage = (inside[:, None, :] * kept) @ left.T, kept @ np.square(left).T + 1 / count
    errors = (targets[:, None] - centres[:, None, None] - fitted) / np.maximum(1 - leverage, 1e-3)
    told = starts[:, None] + targets[:, None] - errors
    share = averaging(np.square(told - within(lesson.finals, BROKEN)).mean(axis=2), count)
    along = np.divide(np.einsum("tp,pk,tk->k", share, kept, inside), sizes, out=np.zeros_like(sizes), where=sizes > 1e-9)
    weight = share.sum(axis=1)
    return LinearRule(describe, columns, float(weight[0]), float(weight @ centres), right.T @ along, np.einsum("tp,tpn->n", share, told))


@dataclass(frozen=True)
class Blend:
    """The weighted mean of several linear rules."""

    rules: tuple[LinearRule, ...]
    weights: Any
    held_out: Any

    @classmethod
    def of(cls, rules: tuple[LinearRule, ...], lesson: Lesson) -> Blend:
        """Weighted by :func:`~archwright.predictors.curves.weights.averaging` of what they got wrong about the curves left out."""
        held_out = np.array([rule.held_out for rule in rules])
        weights = averaging(np.square(held_out - within(lesson.finals, BROKEN)).mean(axis=1), len(lesson))
        return cls(rules, weights, weights @ held_out)

    def __call__(self, curves: Any, features: Any) -> Any:
        return self.weights @ np.array([rule(curves, features) for rule in self.rules])
