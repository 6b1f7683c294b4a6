"""What hindsight would save: the mark that stoppers are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .recorded import RecordedCurves

WHOLE = 30
"""Candidates that the oracle trains to the end before it makes use of what it knows."""


def oracle_steps(curves: RecordedCurves, rows: Sequence[int], tolerance: float, whole: int = WHOLE) -> tuple[int, int]:
    """Steps that a study takes with hindsight, and without stopping.

    The first ``whole`` candidates run to the end, as a cold start. After that a candidate that beats the incumbent by more than the
    tolerance runs to the end, and every other is stopped after its first step. Nothing is lost.
    """
    lengths = np.isfinite(curves.values).cumsum(axis=1).max(axis=1)
    used, best = 0, -np.inf
    for place, row in enumerate(rows):
        final = curves.objective.gain(float(curves.values[row, -1]))
        wins = final > best + tolerance
        used += int(lengths[row]) if place < whole or wins else 1
        if place < whole or wins:
            best = np.fmax(best, final)
    return used, int(lengths[list(rows)].sum())
