"""Comparing candidates by several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence

Gains = tuple[float, ...]


def dominates(left: Gains, right: Gains) -> bool:
    """True when ``left`` is nowhere worse and somewhere better (larger is better).

    >>> dominates((1.0, 2.0), (1.0, 1.0)), dominates((1.0, 2.0), (2.0, 1.0))
    (True, False)
    """
    return all(a >= b for a, b in zip(left, right, strict=True)) and left != right


def fronts(points: Sequence[Gains]) -> list[int]:
    """The number of the front of each point: 0 for those nobody dominates, 1 for those only they dominate, and so on.

    With one objective it is the dense rank. Takes O(n² m) for n points of m objectives.

    >>> fronts([(1.0, 2.0), (2.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
    [0, 0, 2, 1]
    """
    if points and len(points[0]) == 1:
        order = {value: rank for rank, value in enumerate(sorted(set(points), reverse=True))}
        return [order[point] for point in points]
    ranks = [-1] * len(points)
    left, rank = list(range(len(points))), 0
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        for i in front:
            ranks[i] = rank
        left, rank = [i for i in left if ranks[i] < 0], rank + 1
    return ranks
