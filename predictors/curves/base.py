"""What all predictors from curves have in common: lessons fitted when first asked for, calibrated spreads, held-out predictions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...search_space.outcomes import Prediction
from ...search_space.protocols import Observation
from .band import Band
from .lesson import Lesson, feature_rows, lesson_of, readable


class Rule(Protocol):
    """What one lesson taught a member."""

    @property
    def held_out(self) -> Any:
        """[n] the final predicted of each curve of the lesson by what the others teach."""
        ...

    def __call__(self, curves: Any, features: Any) -> Any:
        """[m] the finals expected after ``curves`` [m, s] of candidates with ``features`` [m, p]."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Completed curves as they would have been predicted at one length, in no order that tells anything.

    Args:
        final: [n] what they ended at.
        predicted: [n] what was expected without knowing it.
        spread: [n] the spread of that prediction.
    """

    final: Any
    predicted: Any
    spread: Any


class CurvePredictor(ABC):
    """Base of everything that predicts the final value from a prefix; a member says how it learns from one lesson.

    Only candidates with a finite final value teach. A curve is read up to its last value, gaps in it are filled by the value before;
    one that stands at a value that is not finite is not predicted. Lessons are learned when a length is first asked for.

    Args:
        seed: of folds and of whatever a member draws.
        min_trials: completed curves of the asked length below which nothing is predicted.
    """

    def __init__(self, seed: int, min_trials: int) -> None:
        self.seed, self.min_trials = seed, min_trials
        self._history: tuple[Observation, ...] = ()
        self._names: tuple[str, ...] = ()
        self._learned: dict[int, tuple[Lesson, Rule, Band] | None] = {}

    @abstractmethod
    def learned(self, lesson: Lesson) -> Rule:
        """What a lesson of at least ``min_trials`` curves teaches."""

    def fit(self, history: Sequence[Observation]) -> None:
        """Take the completed curves of ``history``."""
        self._history = tuple(seen for seen in history if seen.final is not None and math.isfinite(seen.final))
        self._names = tuple(sorted({name for seen in self._history for name in seen.features}))
        self._learned = {}

    def predict(self, partial: Observation) -> Prediction | None:
        """The final value expected after ``partial.curve``; None without enough comparable curves, or where the curve is not readable."""
        return self.predict_many([partial])[0]

    def predict_many(self, partials: Sequence[Observation]) -> list[Prediction | None]:
        """:meth:`predict` of each; those of equal length are answered together."""
        answers: list[Prediction | None] = [None] * len(partials)
        asked: dict[int, list[tuple[int, tuple[float, ...]]]] = {}
        for place, partial in enumerate(partials):
            curve = readable(partial.curve, len(partial.curve))
            if curve is not None:
                asked.setdefault(len(curve), []).append((place, curve))
        for step, group in asked.items():
            known = self._known(step)
            if known is not None:
                told = self._answers(known, [curve for _, curve in group], [partials[place] for place, _ in group])
                for (place, _), answer in zip(group, told, strict=True):
                    answers[place] = answer
        return answers

    def held_out(self, step: int) -> HeldOut | None:
        """What would have been predicted at ``step`` of the completed curves, by cross-validation; None where nothing is predicted."""
        known = self._known(step)
        if known is None:
            return None
        lesson, rule, band = known
        return HeldOut(lesson.finals, rule.held_out, band.held_out)

    def _answers(self, known: tuple[Lesson, Rule, Band], curves: Any, partials: Sequence[Observation]) -> list[Prediction | None]:
        import numpy as np

        _, rule, band = known
        means = rule(np.array(curves), feature_rows([partial.features for partial in partials], self._names))
        return [Prediction(float(mean), float(spread)) for mean, spread in zip(means, band(means), strict=True)]

    def _known(self, step: int) -> tuple[Lesson, Rule, Band] | None:
        if step not in self._learned:
            lesson = lesson_of(self._history, self._names, step, self.seed)
            self._learned[step] = None if lesson is None or len(lesson) < self.min_trials else self._taught(lesson)
        return self._learned[step]

    def _taught(self, lesson: Lesson) -> tuple[Lesson, Rule, Band]:
        rule = self.learned(lesson)
        return lesson, rule, Band.of(rule.held_out, lesson.finals)
