"""All predictors from curves together, weighted by what they got wrong: ``curve-ensemble``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...search_space.choices import Domain, Integer, Real
from ...search_space.errors import ConfigError
from ..registry import PREDICTORS, check_knobs, predictor
from .base import CurvePredictor, Rule
from .lesson import Lesson
from .weights import inverse_power

MEMBERS = ("last-value", "last-value-line", "parametric-curves", "curve-ridge", "curve-svr", "curve-boosting")
UNFORESEEN = 6.0
"""Median errors of the best member beyond which an error counts no more."""
KNOBS: dict[str, Domain] = {"sharpness": Real(0.0, 20.0), "min_trials": Integer(2, 100)}


@dataclass(frozen=True)
class _Together:
    rules: tuple[Rule, ...]
    weights: Any
    held_out: Any

    def __call__(self, curves: Any, features: Any) -> Any:
        return self.weights @ np.array([rule(curves, features) for rule in self.rules])


@predictor("curve-ensemble", knobs=KNOBS)
class CurveEnsemble(CurvePredictor):
    r"""The weighted mean of several predictors from curves.

    At each observed length a member with cross-validated errors :math:`e_{mi}` weighs

    .. math:: w_m \propto E_m^{-p}, \quad E_m = \frac1n \sum_i \min(|e_{mi}|, c)^2, \quad c = 6 \min_m \operatorname{median}_i |e_{mi}|

    so that a training that fell apart, which nobody foresees, does not decide who is heard. It tends to the best member for large p
    and to the plain mean for p = 0. A member joins as soon as there are the completed curves that it asks for. The held-out predictions
    of the ensemble are the weighted means of its members', and give its spread.

    Args:
        seed: handed to every member.
        members: registered names, each of a :class:`~archwright.predictors.curves.base.CurvePredictor`.
        sharpness: p.
        min_trials: completed curves below which nothing is predicted.

    Raises:
        ConfigError: there is no member, or one that is no predictor from curves.
    """

    def __init__(self, *, seed: int, members: Sequence[str] = MEMBERS, sharpness: float = 12.0, min_trials: int = 4) -> None:
        check_knobs("predictor", "curve-ensemble", {"sharpness": sharpness, "min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)
        self.sharpness = sharpness
        self.members = tuple(_member(name, seed) for name in members)
        if not self.members:
            raise ConfigError(f'The predictor "curve-ensemble" was given no members; name some of {", ".join(MEMBERS)}.')

    def learned(self, lesson: Lesson) -> _Together:
        ready = [member for member in self.members if member.min_trials <= len(lesson)]
        rules = tuple(member.learned(lesson) for member in ready or self.members[:1])
        held_out = np.array([rule.held_out for rule in rules])
        weights = weights_of(held_out - lesson.finals, self.sharpness)
        return _Together(rules, weights, weights @ held_out)


def _member(name: str, seed: int) -> CurvePredictor:
    made = PREDICTORS[name].obj
    if not (isinstance(made, type) and issubclass(made, CurvePredictor)):
        cure = f"choose from {', '.join(MEMBERS)}"
        raise ConfigError(f'The member "{name}" of the predictor "curve-ensemble" is no predictor from curves; {cure}.')
    return made(seed=seed)  # type: ignore[call-arg]


def weights_of(errors: Any, sharpness: float) -> Any:
    """[m] of members with held-out ``errors`` [m, n]; their sum is 1."""
    sizes = np.abs(errors)
    most = float(UNFORESEEN * np.median(sizes, axis=1).min()) or np.inf
    return inverse_power(np.square(np.minimum(sizes, most)).mean(axis=1), sharpness)
