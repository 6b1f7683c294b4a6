"""Learning-curve prediction with classical regressors: ``curve-svr``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..search_space.choices import Domain, Integer, OneOf, Real
from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation
from ..search_space.seeds import derive_seed, generator
from .features import CHOICE, curve_features
from .registry import check_knobs, predictor

REGRESSORS = ("nu-svr-rbf", "nu-svr-linear", "rf", "ols")
FEATURES = ("curve", "curve+hp", "all")
KNOBS: dict[str, Domain] = {
    "regressor": OneOf(REGRESSORS),
    "nu": Real(0.1, 0.9),
    "min_trials": Integer(4, 100),
    "features": OneOf(FEATURES),
    "folds": Integer(3, 20),
}


@predictor("curve-svr", knobs=KNOBS, paper="Accelerating Neural Architecture Search using Performance Prediction (2017, 1705.10823)")
class CurveSVR:
    """Final score from the curve so far and the candidate's features: one regressor for every observed length.

    With ``y_1 .. y_s`` observed, the regressor of length s maps ``[features, y, y', y'']`` (curve, first and second differences) to
    the final score. Inputs are standardised; the kernel's C and gamma, and how much of the features to use, are chosen by
    cross-validation. The spread is the root mean square of the cross-validated residuals, widened so that +-1.96 spreads are the 95 %
    interval of Student's t, because few residuals estimate it badly.

    Departures from the paper: the regressor predicts what is still to be gained, ``y_T - y_s``, so that what it cannot tell shrinks
    towards the last value seen rather than towards the mean of all candidates; columns are clipped at five interquartile ranges.

    Args:
        seed: of the fold assignment and of the forest.
        regressor: ``nu-svr-rbf``, ``nu-svr-linear``, ``rf`` (random forest) or ``ols``.
        nu: share of support vectors of the nu-SVR.
        min_trials: completed curves below which nothing is predicted.
        features: ``curve``, ``curve+hp`` (with the coded choices) or ``all``; cross-validation may use less than this.
        folds: of the cross-validation that gives the spread, leave-one-out below this many curves; settings are chosen with five.
    """

    def __init__(
        self, *, seed: int, regressor: str = "nu-svr-rbf", nu: float = 0.5, min_trials: int = 10, features: str = "all", folds: int = 10
    ) -> None:
        given = {"regressor": regressor, "nu": nu, "min_trials": min_trials, "features": features, "folds": folds}
        check_knobs("predictor", "curve-svr", given, KNOBS)
        self.seed, self.regressor, self.nu = seed, regressor, nu
        self.min_trials, self.features, self.folds = min_trials, features, folds
        self._history: tuple[Observation, ...] = ()
        self._names: tuple[str, ...] = ()
        self._models: dict[int, _Model | None] = {}

    def fit(self, history: Sequence[Observation]) -> None:
        """Take the completed curves of ``history``; regressors are fitted when a length is first asked for."""
        usable = [seen for seen in history if seen.final is not None and math.isfinite(seen.final)]
        self._history = tuple(sorted(usable, key=_order))
        self._names = tuple(sorted({name for seen in usable for name in seen.features if self._uses(name)}))
        self._models = {}

    def predict(self, partial: Observation) -> Prediction | None:
        """The final score expected after ``partial.curve``; None without enough comparable curves, or when the curve is not finite."""
        step = len(partial.curve)
        if step == 0 or not all(map(math.isfinite, partial.curve)):
            return None
        if step not in self._models:
            self._models[step] = self._fitted(step)
        model = self._models[step]
        return None if model is None else model.predict(self.vector(partial, step), partial.curve[-1])

    def vector(self, seen: Observation, step: int) -> list[float]:
        """The inputs of the regressor of length ``step``: features in the order of their names, then the curve's; NaN where unknown."""
        return [float(seen.features.get(name, _absent(name))) for name in self._names] + curve_features(seen.curve, step)

    def _uses(self, name: str) -> bool:
        return self.features == "all" or (self.features == "curve+hp" and name.startswith(CHOICE))

    def _fitted(self, step: int) -> _Model | None:
        rows = [seen for seen in self._history if len(seen.curve) >= step and all(map(math.isfinite, seen.curve[:step]))]
        if len(rows) < self.min_trials:
            return None
        import numpy as np

        inputs = np.array([self.vector(seen, step) for seen in rows], dtype=float)
        finals = np.array([seen.final for seen in rows], dtype=float)
        last = np.array([seen.curve[step - 1] for seen in rows], dtype=float)
        settings = _settings(self.regressor, self.nu, derive_seed(self.seed, "fit", step) % 2**31, len(self._names), inputs.shape[1])
        choosing, judging = (_folds(len(rows), folds, self.seed, step) for folds in (min(5, self.folds), self.folds))
        return _selected(settings, _Columns.of(inputs), inputs, finals - last, choosing, judging)


def _order(seen: Observation) -> tuple[Any, ...]:
    """Sorts a history, so that the order in which candidates finished does not matter."""
    return (seen.final, seen.curve, sorted(seen.features.items()))


def _absent(name: str) -> float:
    """An option never chosen was chosen zero times; any other fact is unknown."""
    return 0.0 if "=" in name else math.nan


def _folds(count: int, folds: int, seed: int, step: int) -> list[int]:
    """The fold of each row: balanced, shuffled by a derived seed."""
    assigned = [index % min(folds, count) for index in range(count)]
    generator(seed, "fit", f"folds {step}").shuffle(assigned)
    return assigned


@dataclass(frozen=True)
class _Columns:
    """Imputes, clips and standardises inputs by what the training rows look like."""

    middle: Any
    low: Any
    high: Any
    mean: Any
    scale: Any

    @classmethod
    def of(cls, inputs: Any) -> _Columns:
        import numpy as np

        known = np.where(np.isfinite(inputs), inputs, np.nan)
        empty = np.isnan(known).all(axis=0)
        known[:, empty] = 0.0
        middle = np.nanmedian(known, axis=0)
        filled = np.where(np.isnan(known), middle, known)
        lower, upper = np.quantile(filled, [0.25, 0.75], axis=0)
        reach = np.where(upper > lower, 5 * (upper - lower), np.inf)
        low, high = lower - reach, upper + reach
        clipped = np.clip(filled, low, high)
        deviation = clipped.std(axis=0)
        scale = np.where(deviation > 1e-12, deviation, np.inf)  # a constant column becomes zero
        return cls(middle, low, high, clipped.mean(axis=0), scale)

    def apply(self, inputs: Any) -> Any:
        import numpy as np

        filled = np.where(np.isfinite(inputs), inputs, self.middle)
        return (np.clip(filled, self.low, self.high) - self.mean) / self.scale


@dataclass(frozen=True)
class _Setting:
    """A regressor and the columns it sees, from ``start`` on: features stand first, the curve last."""

    make: Any
    start: int


@dataclass(frozen=True)
class _Model:
    columns: _Columns
    start: int
    regressor: Any
    centre: float
    unit: float
    spread: float

    def predict(self, vector: Sequence[float], last: float) -> Prediction:
        import numpy as np

        inputs = self.columns.apply(np.array([vector], dtype=float))[:, self.start :]
        gain = self.centre + self.unit * float(self.regressor.predict(inputs)[0])
        return Prediction(last + gain, self.spread)


def _settings(regressor: str, nu: float, seed: int, features: int, width: int) -> list[_Setting]:
    """The candidates of the cross-validation: every regressor's grid, with the features and without."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import NuSVR

    settings: list[_Setting] = []
    for start in sorted({0, features}):
        columns = max(1, width - start)
        if regressor == "nu-svr-rbf":
            grid = [(c, gamma / columns) for c in (1.0, 10.0, 100.0) for gamma in (0.03, 0.3)]
            settings += [_Setting(lambda c=c, g=g: NuSVR(kernel="rbf", nu=nu, C=c, gamma=g), start) for c, g in grid]
        elif regressor == "nu-svr-linear":
            settings += [_Setting(lambda c=c: NuSVR(kernel="linear", nu=nu, C=c, max_iter=100_000), start) for c in (0.01, 0.1, 1.0)]
        elif regressor == "rf":
            settings.append(_Setting(lambda: RandomForestRegressor(n_estimators=50, random_state=seed), start))
        else:
            settings.append(_Setting(LinearRegression, start))
    return settings


def _selected(
    settings: Sequence[_Setting], columns: _Columns, inputs: Any, gains: Any, choosing: Sequence[int], judging: Sequence[int]
) -> _Model:
    """The setting with the smallest error over the folds ``choosing``, fitted on all rows; its spread from the folds ``judging``."""
    import numpy as np
    import sklearn

    low, high = np.quantile(gains, [0.25, 0.75])
    if high > low:
        gains = np.clip(gains, low - 5 * (high - low), high + 5 * (high - low))
    centre, unit = float(gains.mean()), float(gains.std()) or 1.0
    scaled, targets = columns.apply(inputs), (gains - centre) / unit
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        errors = [np.square(_residuals(setting, scaled, targets, np.array(choosing))).mean() for setting in settings]
        best = settings[int(np.argmin(errors))]
        residuals = _residuals(best, scaled, targets, np.array(judging))
        model = best.make().fit(scaled[:, best.start :], targets)
    spread = unit * float(np.sqrt(np.square(residuals).mean())) * _widening(len(targets))
    return _Model(columns, best.start, model, centre, unit, spread)


def _residuals(setting: _Setting, inputs: Any, targets: Any, folds: Any) -> Any:
    import numpy as np

    residuals = np.empty_like(targets)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        model = setting.make().fit(inputs[~held, setting.start :], targets[~held])
        residuals[held] = targets[held] - model.predict(inputs[held, setting.start :])
    return residuals


def _widening(count: int) -> float:
    """By how much an interval from ``count`` residuals must be wider than the normal one: t's 97.5 % quantile over 1.96."""
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1) / 1.96) * math.sqrt(1 + 1 / count)
