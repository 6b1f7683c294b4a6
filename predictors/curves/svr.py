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

REGRESSORS = ("nu-svr-rbf", "nu-svr-linear", "rf", "ols")
FEATURES = ("curve", "curve+hp", "all")
KNOBS: dict[str, Domain] = {
    "regressor": OneOf(REGRESSORS),
    "nu": Real(0.1, 0.9),
    "min_trials": Integer(4, 100),
    "features": OneOf(FEATURES),
    "folds": Integer(3, 20),
}
RBF = ((1.0, 0.3), (10.0, 0.03), (10.0, 0.3), (100.0, 0.03))
"""C, and gamma times the number of columns: from nearly flat to nearly linear to bent."""
ENOUGH = 120
"""Curves from which settings are chosen; with more, some of them are drawn."""
WIDE = 200
"""Curves from which on three folds do as well as ten."""


@predictor("curve-svr", knobs=KNOBS, paper="Accelerating Neural Architecture Search using Performance Prediction (2017, 1705.10823)")
class CurveSVR(CurvePredictor):
    """Final score from the curve so far and the candidate's features: one regressor for every observed length.

    With ``y_1 .. y_s`` observed, the regressor of length s maps ``[features, y, y', y'']`` (curve, first and second differences) to
    the final score. Inputs are standardised; the kernel's C and gamma, and whether features are used, are chosen by cross-validation.
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

        inputs, targets = vectors(lesson.curves, lesson.features), lesson.targets
        columns, centre, unit = Columns.of(inputs), float(targets.mean()), float(targets.std()) or 1.0
        rows, scaled = columns(inputs), (targets - centre) / unit
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            setting = self._chosen(lesson, rows, scaled)
            folds = lesson.folds(self.folds if len(lesson) < WIDE else min(3, self.folds))
            expected, regressors = _cross_validated(setting, rows, scaled, folds)
        return _Rule(columns, setting.start, regressors, centre, unit, lesson.last + centre + unit * expected)

    def _uses(self, name: str) -> bool:
        return self.features == "all" or (self.features == "curve+hp" and name.startswith(CHOICE))

    def _chosen(self, lesson: Lesson, inputs: Any, targets: Any) -> _Setting:
        """The setting with the smallest cross-validated error on ``ENOUGH`` curves."""
        settings = self._settings(lesson, inputs.shape[1])
        if len(settings) == 1:
            return settings[0]
        drawn = sorted(generator(self.seed, "fit", f"rows {lesson.step}").sample(range(len(lesson)), min(ENOUGH, len(lesson))))
        some, wanted, folds = inputs[drawn], targets[drawn], lesson.rows(drawn).folds(3)
        errors = [np.square(_cross_validated(setting, some, wanted, folds)[0] - wanted).mean() for setting in settings]
        return settings[int(np.argmin(errors))]

    def _settings(self, lesson: Lesson, width: int) -> list[_Setting]:
        """The candidates of the cross-validation: every regressor's grid, with the features and without."""
        seed = derive_seed(self.seed, "fit", lesson.step) % 2**31
        starts = sorted({0, len(lesson.names)})
        return [_Setting(make, start) for start in starts for make in _grid(self.regressor, self.nu, seed, max(1, width - start))]


def vectors(curves: Any, features: Any) -> Any:
    """[m, p + 3s - 3] features [m, p], ``curves`` [m, s], their first and second differences; p + 1 numbers for s = 1."""
    return np.concatenate([features, curves, np.diff(curves, axis=1), np.diff(curves, n=2, axis=1)], axis=1)


@dataclass(frozen=True)
class _Setting:
    """A regressor and the columns it sees, from ``start`` on: features stand first, the curve last."""

    make: Callable[[], Any]
    start: int


@dataclass(frozen=True)
class _Rule:
    columns: Columns
    start: int
    regressors: tuple[Any, ...]
    centre: float
    unit: float
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        inputs = self.columns(vectors(curves, features))[:, self.start :]
        told = np.mean([regressor.predict(inputs) for regressor in self.regressors], axis=0)
        return curves[:, -1] + self.centre + self.unit * told


def _grid(regressor: str, nu: float, seed: int, columns: int) -> list[Callable[[], Any]]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import NuSVR

    if regressor == "nu-svr-rbf":
        return [lambda c=c, g=g: NuSVR(kernel="rbf", nu=nu, C=c, gamma=g / columns, tol=0.01) for c, g in RBF]  # type: ignore[misc]
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
        regressors.append(setting.make().fit(inputs[~held, setting.start :], targets[~held]))
        expected[held] = regressors[-1].predict(inputs[held, setting.start :])
    return expected, tuple(regressors)
