"""Comparing vectors of gains (every entry: larger is better)."""

from __future__ import annotations

import math
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


def fronts(vectors: Sequence[Gains]) -> list[int]:
    """The number of the front of each vector: 0 for those nobody dominates, 1 for those only they dominate, and so on.

    With one objective it is the dense rank. Takes O(n² m) for n vectors of m objectives.

    Source: A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II (2002, doi 10.1109/4235.996017).

    >>> fronts([(1.0, 2.0), (2.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
    [0, 0, 2, 1]
    """
    if vectors and len(vectors[0]) == 1:
        order = {value: rank for rank, value in enumerate(sorted(set(vectors), reverse=True))}
        return [order[vector] for vector in vectors]
    if not vectors:
        return []
    import numpy as np

    table = np.asarray(vectors, dtype=float)
    nowhere_worse = np.ones((len(table), len(table)), dtype=bool)
    somewhere_better = np.zeros_like(nowhere_worse)
    for column in table.T:
        nowhere_worse &= column[:, None] >= column[None, :]
        somewhere_better |= column[:, None] > column[None, :]
    dominated = nowhere_worse & somewhere_better  # [i, j]: i dominates j
    above = dominated.sum(axis=0)
    ranks = np.full(len(table), -1)
    rank = 0
    while (ranks < 0).any():
        best = (above == 0) & (ranks < 0)
        ranks[best] = rank
        above -= dominated[best].sum(axis=0)
        rank += 1
    return ranks.tolist()


def crowding(vectors: Sequence[Gains]) -> list[float]:
    """How far apart the neighbours of each vector are: the crowding distance of NSGA-II.

    Over the objectives, the sum of (next larger - next smaller) / (largest - smallest); infinite for the ends of an objective.
    Meant for the vectors of one front.

    >>> crowding([(0.0, 4.0), (1.0, 2.0), (4.0, 0.0)])
    [inf, 2.0, inf]
    """
    distances = [0.0] * len(vectors)
    for column in zip(*vectors, strict=True):
        order = sorted(range(len(column)), key=column.__getitem__)
        low, high = column[order[0]], column[order[-1]]
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distances[here] += (column[after] - column[before]) / (high - low) if high > low else 0.0
    return distances


def best_of(vectors: Sequence[Gains], keep: int) -> list[int]:
    """Indices of the ``keep`` vectors that survive in NSGA-II, best first: by front, then the less crowded, then the later ones."""
    ranks = fronts(vectors)
    apart: dict[int, float] = {}
    for rank in set(ranks):
        members = [i for i, other in enumerate(ranks) if other == rank]
        apart.update(zip(members, crowding([vectors[i] for i in members]), strict=True))
    return sorted(range(len(vectors)), key=lambda i: (ranks[i], -apart[i], -i))[:keep]
