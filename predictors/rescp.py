"""Intervals of the final score from the errors made on curves that looked alike: ``rescp``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..search_space.choices import Domain, Integer, Real
from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation
from .curves.band import REACH, Band
from .curves.base import CurvePredictor, Rule
from .curves.lesson import Lesson, feature_rows, readable
from .curves.linear import linear_rule
from .curves.statistics import described
from .registry import check_knobs, predictor
from .reservoir import Reservoir, similarity_weights, weighted_quantile

KNOBS: dict[str, Domain] = {
    "units": Integer(32, 512),
    "rho": Real(0.5, 1.2),
    "tau": Real(0.02, 1.0),
    "min_trials": Integer(5, 100),
}
LEVEL = 0.9

Array = Any


@predictor("rescp", knobs=KNOBS, paper="ResCP: Reservoir Conformal Prediction for Time Series Forecasting (2025, 2510.05060)")
class ReservoirCurves(CurvePredictor):
    r"""The final score as ``curve-ridge`` predicts it, with intervals from its errors on curves of a like course.

    A reservoir reads the curve step by step: the value among those of the completed curves at that step, and its rise. The held-out
    errors of the completed curves are weighted by the similarity of their states to that of the running candidate, and the 90 %
    interval lies between the weighted 5 % and 95 % quantiles. Nothing but the point forecast is trained.

    Curves of one study are exchangeable where the steps of a series are not, so the quantiles are those of conformal prediction for as
    many errors as effectively count, :math:`n' = 1 / \sum_i w_i^2`: :math:`p = 0.95 (1 + 1/n')`. Where few count, p passes 1 and the
    largest error is the end of the interval.

    Args:
        seed: of the reservoir.
        units: of the reservoir.
        rho: its spectral radius.
        tau: temperature; large values give every curve the same weight.
        min_trials: completed curves below which nothing is predicted.
    """

    def __init__(self, *, seed: int, units: int = 128, rho: float = 0.9, tau: float = 0.5, min_trials: int = 8) -> None:
        given = {"units": units, "rho": rho, "tau": tau, "min_trials": min_trials}
        check_knobs("predictor", "rescp", given, KNOBS)
        super().__init__(seed, min_trials)
        self.units, self.rho, self.tau = units, rho, tau
        self._reservoir = Reservoir(2, units, radius=rho, leak=0.75, seed=seed)

    def learned(self, lesson: Lesson) -> Rule:
        return linear_rule(lesson, described)

    def intervals(self, partials: Sequence[Observation]) -> list[tuple[float, float] | None]:
        """Both ends of the 90 % interval of each; they need not lie evenly around the mean. None where nothing is predicted."""
        found: list[tuple[float, float] | None] = []
        for partial in partials:
            curve = readable(partial.curve, len(partial.curve))
            known = None if curve is None else self._known(len(curve))
            found.append(None if known is None else self._ends(known, [curve], [partial])[0])
        return found

    def _answers(self, known: tuple[Lesson, Rule, Band], curves: Any, partials: Sequence[Observation]) -> list[Prediction | None]:
        means = known[1](np.array(curves), feature_rows([partial.features for partial in partials], self._names))
        ends = self._ends(known, curves, partials)
        return [Prediction(float(mean), (high - low) / (2 * REACH)) for mean, (low, high) in zip(means, ends, strict=True)]

    def _ends(self, known: tuple[Lesson, Rule, Band], curves: Any, partials: Sequence[Observation]) -> list[tuple[float, float]]:
        lesson, rule, _ = known
        asked = np.array(curves, dtype=float)
        means = rule(asked, feature_rows([partial.features for partial in partials], self._names))
        weights = similarity_weights(self._states(lesson, asked), self._states(lesson, lesson.curves), self.tau)
        errors = lesson.finals - rule.held_out
        share = (1 + LEVEL) / 2 * (1 + np.square(weights).sum(axis=1))
        high, low = weighted_quantile(errors, weights, share), -weighted_quantile(-errors, weights, share)
        return [(float(mean + a), float(mean + b)) for mean, a, b in zip(means, low, high, strict=True)]

    def _states(self, lesson: Lesson, curves: Array) -> Array:
        """The reservoir's states [m, units] at the end of curves [m, s]."""
        spread = lesson.curves.std(axis=0)
        places = np.clip((curves - lesson.curves.mean(axis=0)) / np.where(spread > 0, spread, 1.0), -4, 4)
        rises = np.diff(places, axis=1, prepend=places[:, :1])
        states = self._reservoir.start(len(curves))
        for step in range(curves.shape[1]):
            states = self._reservoir.step(states, np.stack([places[:, step], rises[:, step]], axis=1))
        return states
