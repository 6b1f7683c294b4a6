"""How wrong a prediction may be, from how wrong it was about curves whose end it did not know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

COVERAGE = 0.9
REACH = 1.6448536269514722
"""Spreads on either side that hold ``COVERAGE`` of a normal distribution."""
SURPLUS = 0.01
"""Added to ``COVERAGE``: held-out errors are a little small, since settings and weights were chosen by them."""
PRIOR = 10.0
"""Curves that the error of all together weighs for, against those of curves predicted to end nearby."""


@dataclass(frozen=True)
class Band:
    r"""Spreads such that ``mean +- 1.645 spread`` holds nine finals in ten.

    Errors are larger where trainings are worse, so they are taken near the predicted final m. With the held-out predictions
    :math:`m_i`, their errors :math:`r_i` and :math:`h = \mathrm{std}(m)/2`,

    .. math:: s(m) = \frac{\sum_i K_i |r_i| + 10\,\overline{|r|}}{\sum_i K_i + 10}, \qquad K_i = e^{-(m - m_i)^2 / 2h^2}

    and the spread is :math:`q\,s(m) / 1.645`, where q is the :math:`\lceil 0.91 (n + 1) \rceil`-th smallest of
    :math:`|r_i| / s_{-i}(m_i)`; where n is too small to have one, the largest is stretched by the ratio of Student's t quantiles.

    Source: Distribution-Free Predictive Inference for Regression (2018, 1604.04173), locally weighted conformal prediction, here with
    errors of cross-validation in place of a split.

    Args:
        means: held-out predictions [n].
        errors: [n] absolute errors of these.
        width: h; 0 when all predictions are the same.
        factor: q / 1.645.
    """

    means: Any
    errors: Any
    width: float
    factor: float

    @classmethod
    def of(cls, means: Any, finals: Any) -> Band:
        """From held-out predictions [n] and the finals [n] of the same curves."""
        errors = np.abs(finals - means)
        plain = cls(means, errors, float(means.std()) / 2, 1.0)
        if not errors.any():
            return plain
        ratios = np.sort(errors / plain._local(means, own=True))
        return cls(means, errors, plain.width, _quantile(ratios) / REACH)

    def __call__(self, means: Any) -> Any:
        """[m] the spread of predictions [m]."""
        return self.factor * self._local(means)

    @property
    def held_out(self) -> Any:
        """[n] the spread of each held-out prediction, its own error left out."""
        return self.factor * self._local(self.means, own=True)

    def _local(self, means: Any, own: bool = False) -> Any:
        """[m] the mean absolute error near each of ``means``; ``own``: they are the held-out ones, and none counts for itself."""
        away = (means[:, None] - self.means[None, :]) / (self.width or np.inf)
        weights = np.exp(-0.5 * np.square(away))
        if own:
            np.fill_diagonal(weights, 0.0)
        return (weights @ self.errors + PRIOR * self.errors.mean()) / (weights.sum(axis=1) + PRIOR)


def _quantile(ratios: Any) -> float:
    """The sorted ratio that a new one exceeds with probability one in ten."""
    count = len(ratios)
    place = math.ceil((COVERAGE + SURPLUS) * (count + 1))
    if place <= count:
        return float(ratios[place - 1])
    from scipy.special import stdtrit

    freedom = max(1, count - 1)
    return float(ratios[-1] * stdtrit(freedom, (1 + COVERAGE) / 2) / stdtrit(freedom, 1 - 0.5 / (count + 1)))
