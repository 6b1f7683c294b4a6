"""Learning-curve prediction with classical regressors: ``curve-svr``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...search_space.choices import Domain, Integer, OneOf, Real
from ...search_space.protocols import Observation
from ...search_space.seeds import derive_seed, generator
from ..features import CHOICE
from ..registry import check_knobs, predictor
from .base import CurvePredictor
from .columns import Columns
from .lesson import Lesson
from .linear import Describe
from .statistics import described
from .weights import inverse_power

REGRESSORS = ("nu-svr-rbf", "nu-svr-linear", "rf", "ols")
FEATURES = ("curve", "curve+hp", "all")
KNOBS: dict[str, Domain] = {
    "regressor": OneOf(REGRESSORS),
    "nu": Real(0.1, 0.9),
    "min_trials": Integer(4, 100),
    "features": OneOf(FEATURES),
    "folds": Integer(3, 20),
}
RBF = ((3.0, 0.1), (10.0, 0.1), (30.0, 0.03))
"""C, and gamma times the number of columns (of ten, where there are more): from bent to nearly linear."""
ENOUGH = 120
"""Curves from which settings are chosen; with more, some of them are drawn."""
SHARPNESS = 4.0
"""Power of the inverse error that a view is weighted by."""
WIDE = 200
"""Curves from which on three folds do as well as ten, and the best view as well as all."""


@predictor("curve-svr", knobs=KNOBS, paper="Accelerating Neural Architecture Search using Performance Prediction (2017, 1705.10823)")
class CurveSVR(CurvePredictor):
    """Final score from the curve so far and the candidate's features: one regressor for every observed length.

    With ``y_1 .. y_s`` observed, the regressor of length s maps ``[features, y, y', y'']`` (curve, first and second differences) to
    the final score. Inputs are standardised, and the kernel's C and gamma chosen by cross-validation. A second regressor sees the
    levels and records of the curve (``statistics.described``) with the features, a third the curve without them; their mean is the
    answer, weighted by the inverse fourth power of their cross-validated mean squared errors (the best alone from 200 curves on).
    The regressors of all folds are kept and averaged; none is fitted on all rows.

    Departures from the paper: the regressor predicts what is still to be gained, ``y_T - y_s``, so that what it cannot tell shrinks
    towards the last value seen rather than towards the mean of all candidates; columns are clipped at five interquartile ranges; the
    spread is not that of a normal distribution but holds nine in ten of the cross-validated errors.

    Args:
        seed: of the fold assignment and of the forest.
        regressor: ``nu-svr-rbf``, ``nu-svr-linear``, ``rf`` (random forest) or ``ols``.
        nu: share of support vectors of the nu-SVR.
        min_trials: completed curves below which nothing is predicted.
        features: ``curve``, ``curve+hp`` (with the coded choices) or ``all``; cross-validation may use less than this.
        folds: of the cross-validation that gives regressors and spread (at most three from 200 curves on), leave-one-out below this
            many curves; settings are chosen with three, on at most 120 curves.
    """

    def __init__(
        self, *, seed: int, regressor: str = "nu-svr-rbf", nu: float = 0.5, min_trials: int = 10, features: str = "all", folds: int = 10
    ) -> None:
        given = {"regressor": regressor, "nu": nu, "min_trials": min_trials, "features": features, "folds": folds}
        check_knobs("predictor", "curve-svr", given, KNOBS)
        super().__init__(seed, min_trials)
        self.regressor, self.nu, self.features, self.folds = regressor, nu, features, folds

    def fit(self, history: Sequence[Observation]) -> None:
        super().fit(history)
        self._names = tuple(name for name in self._names if self._uses(name))

    def learned(self, lesson: Lesson) -> _Rule:
        import sklearn

        targets = lesson.targets
        centre, unit = float(targets.mean()), float(targets.std()) or 1.0
        scaled = (targets - centre) / unit
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            folds = lesson.folds(self.folds if len(lesson) < WIDE else min(3, self.folds))
            members = []
            for setting, weight in self._chosen(lesson, scaled):
                expected, regressors = _cross_validated(setting, setting.view(lesson.curves, lesson.features), scaled, folds)
                members.append(_Member(setting.view, regressors, weight, weight * expected))
        return _Rule(tuple(members), centre, unit, lesson.last + centre + unit * sum(member.held_out for member in members))

    def _uses(self, name: str) -> bool:
        return self.features == "all" or (self.features == "curve+hp" and name.startswith(CHOICE))

    def _chosen(self, lesson: Lesson, targets: Any) -> list[tuple[_Setting, float]]:
        """Of every view the setting with the smallest cross-validated error on ``ENOUGH`` curves, and its weight; their sum is 1."""
        settings = self._settings(lesson)
        drawn = sorted(generator(self.seed, "fit", f"rows {lesson.step}").sample(range(len(lesson)), min(ENOUGH, len(lesson))))
        wanted, folds = targets[drawn], lesson.rows(drawn).folds(3)
        seen = {view: view(lesson.curves, lesson.features)[drawn] for view in {setting.view: None for setting in settings}}
        best: dict[View, tuple[float, _Setting]] = {}
        for one in settings:
            error = float(np.square(_cross_validated(one, seen[one.view], wanted, folds)[0] - wanted).mean())
            if one.view not in best or error < best[one.view][0]:
                best[one.view] = (error, one)
        kept = list(best.values()) if len(lesson) < WIDE else [min(best.values(), key=lambda pair: pair[0])]
        weights = inverse_power(np.array([error for error, _ in kept]), SHARPNESS)
        return [(one, float(weight)) for weight, (_, one) in zip(weights, kept, strict=True)]

    def _settings(self, lesson: Lesson) -> list[_Setting]:
        """The candidates of the cross-validation: every regressor's grid, with every view of a candidate."""
        seed = derive_seed(self.seed, "fit", lesson.step) % 2**31
        views = [View.of(vectors, lesson), View.of(described, lesson, lesson.features.shape[1])]
        if lesson.names:
            views.append(View.of(_alone, lesson))
        return [_Setting(make, view) for view in views for make in _grid(self.regressor, self.nu, seed, view.width)]


def vectors(curves: Any, features: Any) -> Any:
    """[m, p + 3s - 3] features [m, p], ``curves`` [m, s], their first and second differences; p + 1 numbers for s = 1."""
    return np.concatenate([features, curves, np.diff(curves, axis=1), np.diff(curves, n=2, axis=1)], axis=1)


def _alone(curves: Any, features: Any) -> Any:
    return vectors(curves, features[:, :0])


@dataclass(frozen=True, eq=False)
class View:
    """Standardised inputs of a regressor."""

    describe: Describe
    columns: Columns
    width: int

    @classmethod
    def of(cls, describe: Describe, lesson: Lesson, emphasised: int = 0) -> View:
        inputs = describe(lesson.curves, lesson.features)
        return cls(describe, Columns.of(inputs, emphasised), inputs.shape[1])

    def __call__(self, curves: Any, features: Any) -> Any:
        return self.columns(self.describe(curves, features))


@dataclass(frozen=True)
class _Setting:
    make: Callable[[], Any]
    view: View


@dataclass(frozen=True)
class _Member:
    """The regressors of all folds on one view; ``held_out`` [n] is what they say of curves they did not see, times the weight."""

    view: View
    regressors: tuple[Any, ...]
    weight: float
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        inputs = self.view(curves, features)
        return self.weight * np.mean([regressor.predict(inputs) for regressor in self.regressors], axis=0)


@dataclass(frozen=True)
class _Rule:
    members: tuple[_Member, ...]
    centre: float
    unit: float
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        told = sum(member(curves, features) for member in self.members)
        return curves[:, -1] + self.centre + self.unit * told


def _grid(regressor: str, nu: float, seed: int, columns: int) -> list[Callable[[], Any]]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import NuSVR

    if regressor == "nu-svr-rbf":
        return [lambda c=c, g=g: NuSVR(kernel="rbf", nu=nu, C=c, gamma=g / min(columns, 10), tol=0.01) for c, g in RBF]  # type: ignore[misc]
    if regressor == "nu-svr-linear":
        return [lambda c=c: NuSVR(kernel="linear", nu=nu, C=c, max_iter=100_000) for c in (0.01, 0.1, 1.0)]  # type: ignore[misc]
    if regressor == "rf":
        return [lambda: RandomForestRegressor(n_estimators=50, random_state=seed)]
    return [LinearRegression]


def _cross_validated(setting: _Setting, inputs: Any, targets: Any, folds: Any) -> tuple[Any, tuple[Any, ...]]:
    """[n] the prediction of each row by a regressor that saw the other folds, and these regressors."""
    expected, regressors = np.empty_like(targets), []
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        regressors.append(setting.make().fit(inputs[~held], targets[~held]))
        expected[held] = regressors[-1].predict(inputs[held])
    return expected, tuple(regressors)
