"""Ridge regression on statistics of the curve: ``curve-ridge``."""

from __future__ import annotations

from ...search_space.choices import Domain, Integer
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .lesson import Lesson
from .linear import Blend, linear_rule
from .statistics import described, described_fully

LONG = 8
"""Steps from which on a curve is also described at length."""

KNOBS: dict[str, Domain] = {"min_trials": Integer(3, 100)}


@predictor("curve-ridge", knobs=KNOBS)
class CurveRidge(CurvePredictor):
    """The final value, linear in statistics of the curve and in the candidate's features.

    Two descriptions of a curve, a short and a long one (from 8 steps on; of fewer it says the same again), and several penalties are
    averaged by their leave-one-out errors, which also give the spread; all in closed form.

    Args:
        seed: not used.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 5) -> None:
        check_knobs("predictor", "curve-ridge", {"min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, lesson: Lesson) -> Blend:
        return ridge_rule(lesson)


def ridge_rule(lesson: Lesson) -> Blend:
    """The blend of linear rules on both descriptions; a lesson that several members learn from has it once."""
    if ridge_rule not in lesson.shared:
        features = lesson.features.shape[1]
        descriptions = (described, described_fully) if lesson.step >= LONG else (described,)
        rules = tuple(linear_rule(lesson, describe, features) for describe in descriptions)
        lesson.shared[ridge_rule] = Blend.of(rules, lesson)
    return lesson.shared[ridge_rule]
