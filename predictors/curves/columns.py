"""Inputs of regressions: imputed, clipped and standardised by what the training rows look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .lesson import FAR


@dataclass(frozen=True)
class Columns:
    """Standardises inputs [n, p]: unknown values become the median, outliers are clipped, constant columns become zero."""

    middle: Any
    low: Any
    high: Any
    mean: Any
    scale: Any

    @classmethod
    def of(cls, inputs: Any) -> Columns:
        """Learned from the rows of ``inputs`` [n, p]; what is not finite is unknown."""
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
        return cls(middle, low, high, mean, np.where(varied, deviation, np.inf))

    def __call__(self, inputs: Any) -> Any:
        """[m, p] with mean zero and deviation one over the training rows; further than those reached, inputs are cut off."""
        filled = np.where(np.isfinite(inputs), inputs, self.middle)
        return (np.clip(filled, self.low, self.high) - self.mean) / self.scale
