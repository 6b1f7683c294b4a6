"""Dominance among vectors of gains (every entry: larger is better)."""

from __future__ import annotations

from collections.abc import Sequence

Gains = tuple[float, ...]


def dominates(left: Gains, right: Gains) -> bool:
    """True when ``left`` is nowhere worse than ``right`` and somewhere better.

    >>> dominates((2.0, 1.0), (1.0, 1.0)), dominates((1.0, 1.0), (1.0, 1.0))
    (True, False)
    """
    return left != right and all(a >= b for a, b in zip(left, right, strict=True))


def front(vectors: Sequence[Gains]) -> list[int]:
    """Indices of the vectors that no other dominates; with one objective, of the largest.

    >>> front([(1.0, 3.0), (2.0, 2.0), (1.0, 2.0)])
    [0, 1]
    """
    return [i for i, mine in enumerate(vectors) if not any(dominates(other, mine) for other in vectors)]
