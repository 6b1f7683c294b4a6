"""Ridge regression on statistics of the curve: ``curve-ridge``."""

from __future__ import annotations

from ...search_space.choices import Domain, Integer
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .lesson import Lesson
from .linear import LinearRule, linear_rule
from .statistics import described

KNOBS: dict[str, Domain] = {"min_trials": Integer(3, 100)}


@predictor("curve-ridge", knobs=KNOBS)
class CurveRidge(CurvePredictor):
    """What is still to be gained, linear in levels and shapes of the curve and in the candidate's features.

    Penalties are averaged by their leave-one-out errors, which also give the spread; all in closed form.

    Args:
        seed: not used.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 5) -> None:
        check_knobs("predictor", "curve-ridge", {"min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, lesson: Lesson) -> LinearRule:
        return described_rule(lesson)


def described_rule(lesson: Lesson) -> LinearRule:
    """The linear rule on levels, shapes and features; a lesson that several members learn from has it once."""
    if described not in lesson.shared:
        lesson.shared[described] = linear_rule(lesson, described)
    return lesson.shared[described]
