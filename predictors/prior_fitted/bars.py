"""The discretised distribution that the network answers with: bars between fixed edges, half-normal tails outside."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

BARS, CENTRAL, OUTER = 80, 0.35, 30.0
EDGES = CENTRAL * np.sinh(np.linspace(-1, 1, BARS + 1) * np.arcsinh(OUTER / CENTRAL))
"""Edges [81] of the bars, close together around 0; two tails make 82 classes."""
WIDTHS = np.diff(EDGES)
TAIL = 15.0
ROOM = 1.645
Array = Any


def class_of(values: Array) -> Array:
    """The class, 0 to 81, that each value falls into."""
    return np.searchsorted(EDGES, values, side="right")


def log_scale(values: Array) -> Array:
    """The logarithm of the density inside its class: what is added to the log probability of the class."""
    beyond = np.maximum(EDGES[0] - values, values - EDGES[-1])
    tail = np.log(2 / (TAIL * np.sqrt(2 * np.pi))) - 0.5 * (beyond / TAIL) ** 2
    inside = np.clip(class_of(values) - 1, 0, BARS - 1)
    return np.where(beyond > 0, tail, -np.log(WIDTHS)[inside])


def first_guess() -> Array:
    """Log probabilities [82] of the classes under a density proportional to 1 / (1 + z^2)^2: where a training begins."""
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    mass = np.concatenate([[1e-3], WIDTHS / (1 + middles**2) ** 2, [1e-3]])
    return np.log(mass / mass.sum())


@dataclass(frozen=True)
class Bars:
    """Distributions of z.

    Args:
        shares: [m, 82], the probability of each class; rows of sum 1.
    """

    shares: Array

    def mean(self) -> Array:
        """[m], the expected values."""
        tail = TAIL * np.sqrt(2 / np.pi)
        middles = np.concatenate([[EDGES[0] - tail], (EDGES[1:] + EDGES[:-1]) / 2, [EDGES[-1] + tail]])
        return self.shares @ middles

    @functools.cached_property
    def _before(self) -> Array:
        """[m, 82], the probability of all classes below each."""
        return np.cumsum(self.shares, axis=1) - self.shares

    def below(self, values: Array) -> Array:
        """[m], the probability that z is at most ``values`` [m]."""
        index = class_of(values)
        inside = np.clip(index - 1, 0, BARS - 1)
        part = (values - EDGES[inside]) / WIDTHS[inside]
        outside = (index == 0) | (index > BARS)
        if outside.any():
            beyond = np.maximum(EDGES[0] - values, values - EDGES[-1])
            part = np.where(outside, np.where(index == 0, 1 - _half_normal(beyond), _half_normal(beyond)), part)
        rows = np.arange(len(self.shares))
        return np.clip(self._before[rows, index] + self.shares[rows, index] * part, 0.0, 1.0)

    def spread(self, within: float = 0.9) -> Array:
        """[m], the spread for which ``mean +- 1.645 spread`` holds the share ``within``; by bisection."""
        middle = self.mean()
        low, high = np.zeros_like(middle), np.full_like(middle, 4 * OUTER)
        for _ in range(30):
            reach = (low + high) / 2
            held = self.below(middle + reach) - self.below(middle - reach)
            low, high = np.where(held < within, reach, low), np.where(held < within, high, reach)
        return high / ROOM


def _half_normal(beyond: Array) -> Array:
    """The share of a tail that lies within ``beyond`` of its edge."""
    from scipy.special import erf

    return erf(beyond / TAIL / np.sqrt(2))
