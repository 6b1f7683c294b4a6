"""Prediction intervals around the forecasts of a time series, from the errors made in moments like the present one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..search_space.choices import Domain, Integer, Real
from ..search_space.errors import ConfigError
from .registry import check_knobs
from .reservoir import Reservoir, similarity_weights, weighted_quantile

KNOBS: dict[str, Domain] = {
    "units": Integer(32, 512),
    "rho": Real(0.5, 1.2),
    "window": Integer(50, 2000),
}

Array = Any


@dataclass(frozen=True)
class Interval:
    """Lower and upper ends, [H] for a forecast of H steps."""

    low: Array
    high: Array


class ReservoirIntervals:
    r"""Training-free prediction intervals: past errors are weighted by how alike a reservoir finds their moments and this one.

    ResCP: Reservoir Conformal Prediction for Time Series Forecasting (2025, 2510.05060). A reservoir reads at every step what is known
    before the value: the caller's inputs (recent values, the forecast, the hour) and the last one-step error. With the states
    :math:`h_s` before each of the last ``window`` errors :math:`e_s = y_s - \hat y_s`:

    .. math:: w_s = \mathrm{softmax}_s(\cos(h_t, h_s) / \tau), \qquad Q_p = \inf \{q : \sum_s w_s 1[e_s \le q] \ge p\}

    and the interval is :math:`[\hat y_t + Q_{a/2}, \hat y_t + Q_{1-a/2}]`, for each step of the horizon with its own errors. An infinite
    tau gives the plain quantiles of the window (split conformal prediction). Coverage holds asymptotically, given the state; for a
    finite window it is empirical.

    Each step is ``interval(forecast, inputs)``, which changes nothing, and once the value is known ``observe(error, inputs)``. An error
    that is not known yet, because its step of the horizon has not come, is NaN and counts for nothing; :meth:`complete` fills it in.

    Args:
        inputs: numbers given at each step.
        seed: of the reservoir.
        level: probability with which an interval is to hold the value.
        units, rho, leak: of the reservoir (rho its spectral radius).
        tau: temperature.
        window: errors remembered.
        decay: an error k steps old weighs ``exp(-decay k)`` times its similarity.
    """

    def __init__(
        self,
        inputs: int,
        *,
        seed: int,
        level: float = 0.9,
        units: int = 128,
        rho: float = 0.9,
        leak: float = 0.3,
        tau: float = 0.1,
        window: int = 500,
        decay: float = 0.0,
    ) -> None:
        check_knobs("predictor", "rescp", {"units": units, "rho": rho, "window": window}, KNOBS)
        if not tau > 0:
            raise ConfigError(
                f'The knob "tau" of ReservoirIntervals was given {tau!r}; a temperature is above 0 (infinite for equal weights).'
            )
        self.level, self.tau, self.window, self.decay = level, tau, window, decay
        self.reservoir = Reservoir(inputs + 1, units, radius=rho, leak=leak, seed=seed)
        self._state = self.reservoir.start(1)
        self._states: list[Array] = []
        self._errors: list[Array] = []
        self._unit: Array | None = None

    def calibrate(self, errors: Array, inputs: Array) -> ReservoirIntervals:
        """Take in n steps of the past: errors [n] or [n, H], inputs [n, d]. Their scale is what later ones are divided by."""
        errors = np.asarray(errors, dtype=float).reshape(len(errors), -1)
        columns = np.column_stack([np.asarray(inputs, dtype=float).reshape(len(errors), -1), errors[:, 0]])
        deviation = np.nanstd(columns, axis=0)
        self._unit = np.stack([np.nanmean(columns, axis=0), np.where(deviation > 0, deviation, 1.0)])
        for error, given in zip(errors, columns[:, :-1], strict=True):
            self.observe(error, given)
        return self

    def weights(self, inputs: Array) -> Array:
        """What each remembered error counts for now, [n], summing to 1."""
        found = similarity_weights(self._next(inputs), np.array(self._states), self.tau)[0]
        found = found * np.exp(-self.decay * np.arange(len(found) - 1, -1, -1))
        return found / found.sum()

    def interval(self, forecast: Array, inputs: Array) -> Interval:
        """The interval around a forecast, a number or [H], before its value is known; infinite where no error is known."""
        forecast = np.atleast_1d(np.asarray(forecast, dtype=float))
        outside = (1 - self.level) / 2
        ends = np.full((2, len(forecast)), [[-np.inf], [np.inf]])
        if self._errors:
            weights, errors = self.weights(inputs), np.array(self._errors)
            for step in range(len(forecast)):
                known = np.isfinite(errors[:, step])
                if known.any():
                    share = weights[known] / weights[known].sum()
                    both = np.stack([share, share])
                    ends[:, step] = weighted_quantile(errors[known, step], both, np.array([outside, 1 - outside]))
        return Interval(forecast + ends[0], forecast + ends[1])

    def observe(self, error: Array, inputs: Array) -> None:
        """Remember the error of this step, a number or [H] with NaN for what is not known yet, and go on to the next."""
        self._state = self._next(inputs)
        self._states.append(self._state[0])
        self._errors.append(np.atleast_1d(np.asarray(error, dtype=float)).copy())
        del self._states[: -self.window], self._errors[: -self.window]

    def complete(self, ago: int, step: int, error: float) -> None:
        """Fill in the error at ``step`` (0 for the next value) of the forecast made ``ago`` steps back, 1 being the last one."""
        if ago <= len(self._errors):
            self._errors[-ago][step] = error

    def _next(self, inputs: Array) -> Array:
        """The state before this step's error: from its inputs and the error before it."""
        before = self._errors[-1][0] if self._errors else 0.0
        given = np.append(np.asarray(inputs, dtype=float).reshape(-1), before)
        if self._unit is not None:
            given = (given - self._unit[0]) / self._unit[1]
        return self.reservoir.step(self._state, np.nan_to_num(given)[None])


def interval_scores(low: Array, high: Array, values: Array, level: float = 0.9) -> Mapping[str, float]:
    """``coverage`` (share of values inside), ``width`` (mean) and ``winkler``, the mean of
    ``high - low + (2 / a) (max(low - y, 0) + max(y - high, 0))`` with ``a = 1 - level``; smaller Winkler scores are better."""
    low, high, values = (np.asarray(each, dtype=float) for each in (low, high, values))
    missed = np.maximum(low - values, 0.0) + np.maximum(values - high, 0.0)
    return {
        "coverage": float(np.mean(missed == 0.0)),
        "width": float(np.mean(high - low)),
        "winkler": float(np.mean(high - low + 2 / (1 - level) * missed)),
    }
