"""A learning curve in a dozen numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

QUIET = 1e-6
"""Added to roughnesses, so that a curve without any has a logarithm."""


def levels(curves: Any) -> Any:
    """[m, k] how high ``curves`` [m, s] stand: means of the last 1, 2, 4, ... s values, medians of 3, 5, 9, 15, the best, the first."""
    length = curves.shape[1]
    spans = [2**power for power in range(length.bit_length()) if 2**power < length]
    columns = [curves[:, -span:].mean(axis=1) for span in (*spans, length)]
    columns += [np.median(curves[:, -span:], axis=1) for span in (3, 5, 9, 15) if span <= length]
    return np.stack([*columns, curves.max(axis=1), curves[:, 0]], axis=1)


def shapes(curves: Any) -> Any:
    """[m, 4] how ``curves`` [m, s] move: rise over the second half, slope there on log t, log roughness, log scatter about that slope."""
    length = curves.shape[1]
    start = length // 2 if length > 3 else 0
    times = np.log(np.arange(start + 1, length + 1))
    times, late = times - times.mean(), curves[:, start:]
    slope = (late @ times) / max(float(times @ times), 1e-12)
    scatter = (late - late.mean(axis=1, keepdims=True) - slope[:, None] * times).std(axis=1)
    rough = np.abs(np.diff(curves, axis=1)).mean(axis=1) if length > 1 else np.zeros(len(curves))
    rise = curves[:, -1] - curves[:, (length - 1) // 2]
    return np.stack([rise, slope, np.log(rough + QUIET), np.log(scatter + QUIET)], axis=1)


def described(curves: Any, features: Any) -> Any:
    """[m, k + 4 + p] levels and shapes of ``curves`` [m, s], with the ``features`` [m, p]."""
    return np.concatenate([levels(curves), shapes(curves), features], axis=1)
