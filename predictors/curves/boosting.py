"""Gradient-boosted trees on statistics of the curve: ``curve-boosting``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...search_space.choices import Domain, Integer, Real
from ...search_space.seeds import derive_seed
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .lesson import Lesson, within
from .linear import Blend
from .ridge import ridge_rule
from .statistics import described

KNOBS: dict[str, Domain] = {
    "trees": Integer(5, 1000),
    "depth": Integer(1, 8),
    "rate": Real(0.01, 1.0, log=True),
    "folds": Integer(2, 20),
    "min_trials": Integer(6, 100),
}


@dataclass(frozen=True)
class _BoostedRule:
    """The mean of the trees of all folds, on top of the linear rule."""

    linear: Blend
    boosters: tuple[Any, ...]
    trees: int
    unit: float
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        expected = self.linear(curves, features)
        if self.trees == 0:
            return expected
        inputs = self.linear.rules[0].columns(described(curves, features))
        return expected + self.unit * np.mean([_staged(booster, inputs)[self.trees] for booster in self.boosters], axis=0)


@predictor("curve-boosting", knobs=KNOBS, paper="Greedy Function Approximation: A Gradient Boosting Machine (2001)")
class CurveBoosting(CurvePredictor):
    """Gradient-boosted trees on what ridge regression leaves over; inputs are levels and records of the curve, and the features.

    Trees cannot extend a line, so the line is not left to them: they are fitted to the leave-one-out errors of ``curve-ridge``. The
    trees of all folds of the cross-validation are kept and averaged, and no further fit on all rows is made. As many of them are used
    as leave the least cross-validated error, none where the line is better alone.

    Args:
        seed: of the folds and of the subsamples.
        trees: of each fold, at most.
        depth: of a tree.
        rate: by which each tree is shrunk.
        folds: of the cross-validation.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, trees: int = 20, depth: int = 3, rate: float = 0.1, folds: int = 3, min_trials: int = 10) -> None:
        given = {"trees": trees, "depth": depth, "rate": rate, "folds": folds, "min_trials": min_trials}
        check_knobs("predictor", "curve-boosting", given, KNOBS)
        super().__init__(seed, min_trials)
        self.trees, self.depth, self.rate, self.folds = trees, depth, rate, folds

    def learned(self, lesson: Lesson) -> _BoostedRule:
        import sklearn

        linear = ridge_rule(lesson)
        inputs = linear.rules[0].columns(described(lesson.curves, lesson.features))
        errors = within(lesson.finals - linear.held_out)
        unit, folds = float(errors.std()) or 1.0, lesson.folds(self.folds)
        rest, boosters = np.empty((self.trees + 1, len(errors))), []
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            for fold in range(int(folds.max()) + 1):
                boosters.append(self._booster(lesson, fold).fit(inputs[folds != fold], errors[folds != fold] / unit))
                rest[:, folds == fold] = _staged(boosters[-1], inputs[folds == fold])
        trees = int(np.square(errors / unit - rest).mean(axis=1).argmin())
        return _BoostedRule(linear, tuple(boosters), trees, unit, linear.held_out + unit * rest[trees])

    def _booster(self, lesson: Lesson, fold: int) -> Any:
        from sklearn.ensemble import GradientBoostingRegressor

        return GradientBoostingRegressor(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.rate,
            subsample=0.5,
            max_features=0.5,
            random_state=derive_seed(self.seed, "fit", f"trees {lesson.step} {fold}") % 2**31,
        )


def _staged(booster: Any, inputs: Any) -> Any:
    """[trees + 1, m] what a booster says with its first 0, 1, 2, ... trees."""
    return np.array([np.zeros(len(inputs)), *booster.staged_predict(inputs)])
