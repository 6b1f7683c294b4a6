"""Inputs of regressions: imputed, clipped and standardised by what the training rows look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .lesson import FAR

EMPHASIS, MOST = 2.0, 16.0
"""Deviation of an emphasised column, and the most that all their variances add up to."""


@dataclass(frozen=True)
class Columns:
    """Standardises inputs [n, p]: unknown values become the median, outliers are clipped, constant columns become zero."""

    middle: Any
    low: Any
    high: Any
    mean: Any
    scale: Any

    @classmethod
    def of(cls, inputs: Any, emphasised: int = 0) -> Columns:
        """Learned from the rows of ``inputs`` [n, p]; what is not finite is unknown.

        The last ``emphasised`` columns get the deviation ``EMPHASIS``, or less where they are many.
        """
        known = np.where(np.isfinite(inputs), inputs, np.nan)
        known[:, np.isnan(known).all(axis=0)] = 0.0
        middle = np.nanmedian(known, axis=0)
        filled = np.where(np.isnan(known), middle, known)
        lower, upper = np.quantile(filled, [0.25, 0.75], axis=0)
        reach = np.where(upper > lower, FAR * (upper - lower), np.inf)
        low, high = lower - reach, upper + reach
        clipped = np.clip(filled, low, high)
        mean, deviation = clipped.mean(axis=0), clipped.std(axis=0)
        varied = deviation > 1e-9 * np.maximum(1e-3, np.abs(mean))
        scale = np.where(varied, deviation, np.inf)
        if emphasised:
            scale[-emphasised:] /= min(EMPHASIS, (MOST / emphasised) ** 0.5)
        return cls(middle, low, high, mean, scale)

    def __call__(self, inputs: Any) -> Any:
        """[m, p] with mean zero and deviation one (or the emphasis) over the training rows; inputs far beyond those are cut off."""
        filled = np.where(np.isfinite(inputs), inputs, self.middle)
        return (np.clip(filled, self.low, self.high) - self.mean) / self.scale
