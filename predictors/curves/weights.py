"""How much each of several settings or members counts, from its mean squared errors on curves it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np


def averaging(squares: Any, count: int) -> Any:
    r"""Weights :math:`\propto \exp(-\frac n2 (E / E_{min} - 1))` of errors E over n held-out curves, any shape; their sum is 1.

    A setting hardly worse than the best counts nearly as much.
    """
    best = squares.min()
    return _shares(squares, np.exp(-0.5 * count * (squares / best - 1)) if best > 0 else None)


def inverse_power(squares: Any, power: float) -> Any:
    """Weights proportional to E^-power of mean squared errors E, any shape; their sum is 1.

    They tend to the best alone for a large power, and to equal shares for 0.
    """
    best = squares.min()
    return _shares(squares, (best / squares) ** power if best > 0 else None)


def _shares(squares: Any, weights: Any) -> Any:
    """``weights`` with sum 1; without any, those that made no error share alone."""
    kept = (squares <= 0).astype(float) if weights is None else weights
    return kept / kept.sum()
