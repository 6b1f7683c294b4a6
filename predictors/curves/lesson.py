"""The regression problem of one observed length: curves up to there, features, and what they ended at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...search_space.protocols import Observation
from ...search_space.seeds import generator

FAR = 5.0
"""Interquartile ranges beyond which a number is taken to be no further."""


@dataclass(frozen=True)
class Lesson:
    """Completed candidates as seen at one length.

    Args:
        curves: gains [n, s] up to the observed length, finite.
        features: [n, p] in the order of ``names``; NaN where unknown.
        finals: gains [n] at full budget.
        names: of the features.
        budget: steps of the longest completed curve.
        seed: of whatever a member draws.
    """

    curves: Any
    features: Any
    finals: Any
    names: tuple[str, ...]
    budget: int
    seed: int
    shared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def step(self) -> int:
        return int(self.curves.shape[1])

    def __len__(self) -> int:
        return len(self.finals)

    @property
    def last(self) -> Any:
        """[n] the last value seen."""
        return self.curves[:, -1]

    @property
    def targets(self) -> Any:
        """[n] what was still to be gained, ``final - last``; of a training that fell apart no more than ``FAR`` would say."""
        return within(self.finals - self.last)

    def folds(self, count: int) -> Any:
        """[n] the fold of each curve: balanced, shuffled by a derived seed; leave-one-out below ``count`` curves."""
        assigned = [index % min(count, len(self)) for index in range(len(self))]
        generator(self.seed, "fit", f"folds {self.step} {count}").shuffle(assigned)
        return np.array(assigned)

    def rows(self, chosen: Any) -> Lesson:
        """The lesson of some of the candidates."""
        return Lesson(self.curves[chosen], self.features[chosen], self.finals[chosen], self.names, self.budget, self.seed)


def lesson_of(history: Sequence[Observation], names: tuple[str, ...], step: int, seed: int) -> Lesson | None:
    """What ``history`` (completed candidates) teaches of curves seen up to ``step``; None where nobody got there.

    The order of the history does not matter, nor does what a curve did after ``step``.
    """
    read = [(seen, curve) for seen in history if (curve := readable(seen.curve[:step], step)) is not None]
    if not read:
        return None
    read.sort(key=lambda pair: (pair[0].final, pair[1], sorted(pair[0].features.items())))
    return Lesson(
        np.array([curve for _, curve in read]),
        feature_rows([seen.features for seen, _ in read], names),
        np.array([seen.final for seen, _ in read], dtype=float),
        names,
        max(len(seen.curve) for seen in history),
        seed,
    )


def readable(curve: Sequence[float], step: int) -> tuple[float, ...] | None:
    """A curve of ``step`` values without gaps: one that is not finite repeats the one before it (the first the one after).

    None for a curve that is shorter, stands at a value that is not finite, or has more gaps than values.
    """
    known = [value for value in curve if math.isfinite(value)]
    if len(curve) < step or step == 0 or not math.isfinite(curve[-1]) or 2 * len(known) <= len(curve):
        return None
    filled, before = [], known[0]
    for value in curve:
        before = float(value) if math.isfinite(value) else before
        filled.append(before)
    return tuple(filled)


def feature_rows(features: Sequence[Mapping[str, float]], names: Sequence[str]) -> Any:
    """[n, p]; an option never chosen was chosen zero times, any other fact that is missing is unknown (NaN)."""
    rows = [[float(known.get(name, 0.0 if "=" in name else math.nan)) for name in names] for known in features]
    return np.array(rows, dtype=float).reshape(len(rows), len(names))


def within(values: Any, far: float = FAR) -> Any:
    """``values`` [n], none further than ``far`` interquartile ranges beyond the quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    reach = far * (high - low)
    return np.clip(values, low - reach, high + reach) if reach > 0 else values
