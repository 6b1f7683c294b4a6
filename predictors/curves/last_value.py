"""What everybody tries first: a training ends where it stands, or on a straight line from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...search_space.choices import Domain, Integer
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .columns import Columns
from .lesson import Lesson, within

KNOBS: dict[str, Domain] = {"min_trials": Integer(2, 100)}


@dataclass(frozen=True)
class _LastRule:
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        return curves[:, -1]


@predictor("last-value", knobs=KNOBS)
class LastValue(CurvePredictor):
    """A candidate ends where it stands; completed curves only say how wrong that is.

    Args:
        seed: not used.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 2) -> None:
        check_knobs("predictor", "last-value", {"min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, lesson: Lesson) -> _LastRule:
        return _LastRule(lesson.last)


@dataclass(frozen=True)
class _LineRule:
    columns: Columns
    centre: float
    slope: float
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        return self.centre + self.slope * self.columns(curves[:, -1:])[:, 0]


_LINE_KNOBS = KNOBS | {"min_trials": Integer(3, 100)}  # a line through two points leaves no error to judge it by


@predictor("last-value-line", knobs=_LINE_KNOBS)
class LastValueLine(CurvePredictor):
    """The final value by least squares on the last one seen, ``a + b y_s``, over the completed curves.

    Args:
        seed: not used.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 4) -> None:
        check_knobs("predictor", "last-value-line", {"min_trials": min_trials}, _LINE_KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, lesson: Lesson) -> _LineRule:
        columns = Columns.of(lesson.curves[:, -1:])
        inputs, finals = columns(lesson.curves[:, -1:])[:, 0], within(lesson.finals)
        centre, power = float(finals.mean()), float(inputs @ inputs)
        slope = float(inputs @ (finals - centre)) / power if power > 0 else 0.0
        leverage = 1 / len(lesson) + np.square(inputs) / (power or 1.0)
        errors = (finals - centre - slope * inputs) / np.maximum(1 - leverage, 1e-3)
        return _LineRule(columns, centre, slope, finals - errors)
