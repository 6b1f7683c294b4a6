"""A learning curve in a handful of numbers that spikes hardly move."""

from __future__ import annotations

from typing import Any

import numpy as np

WINDOWS = (4, 8, 16, 32)


def levels(curves: Any) -> Any:
    """[m, k] how high ``curves`` [m, s] stand: the last value, and the mean of the better half of the last 4, 8, 16 and 32.

    Validation scores are noisy to one side: a step that is too long costs much and none gains much. Windows that hold another whole
    are left out.
    """
    length, columns = curves.shape[1], [curves[:, -1]]
    for window in WINDOWS:
        if window == WINDOWS[0] or window // 2 < length:
            late = np.sort(curves[:, -window:], axis=1)
            columns.append(late[:, -max(1, late.shape[1] // 2) :].mean(axis=1))
    return np.stack(columns, axis=1)


def records(curves: Any) -> Any:
    """[m, 3] the best value within the first quarter, half and three quarters of ``curves`` [m, s]: how fast they rose."""
    length = curves.shape[1]
    best = np.maximum.accumulate(curves, axis=1)
    return best[:, [max(0, length // 4 - 1), max(0, length // 2 - 1), max(0, length - 1 - length // 4)]]


def described(curves: Any, features: Any) -> Any:
    """[m, k + 3 + p] levels and records of ``curves`` [m, s], then the ``features`` [m, p]."""
    return np.concatenate([levels(curves), records(curves), features], axis=1)


def described_fully(curves: Any, features: Any) -> Any:
    """[m, k + 3 + p] means of the last 1, 2, 4, ... s values of ``curves`` [m, s] and of the best 1, 2, 3, 5, 8, records, features."""
    length, best = curves.shape[1], np.sort(curves, axis=1)
    spans = [2**power for power in range(length.bit_length()) if 2**power < length]
    means = [curves[:, -span:].mean(axis=1) for span in (*spans, length)]
    tops = [best[:, -count:].mean(axis=1) for count in (1, 2, 3, 5, 8) if count <= length]
    return np.concatenate([np.stack([*means, *tops, curves[:, 0]], axis=1), records(curves), features], axis=1)
