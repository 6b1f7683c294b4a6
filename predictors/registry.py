"""The registries of predictors and stoppers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..search_space.choices import Domain
from ..search_space.errors import ConfigError
from ..search_space.registry import Registry

_HOME = "archwright.predictors"
_CURVES = ("last_value", "parametric", "ridge", "svr", "boosting", "ensemble")
_ARCHITECTURES = ("architecture_gp", "ghn_embedding", "mlp_ensemble", "sfr", "graph_structure_predictor")
_PREDICTORS = (*(f"curves.{module}" for module in _CURVES), "prior_fitted.predictor", "rescp", *_ARCHITECTURES)
_STOPPERS = (
    "fast_hyperband",
    "hyperband",
    "median_stopping",
    "pareto_stopping",
    "predictive_termination",
    "risk_bounded",
    "successive_halving",
)
PREDICTORS = Registry("predictor", tuple(f"{_HOME}.{module}" for module in _PREDICTORS))
STOPPERS = Registry("stopper", tuple(f"{_HOME}.{module}" for module in _STOPPERS))


def predictor(name: str, *, knobs: Mapping[str, Domain] | None = None, paper: str = "") -> Callable[[Any], Any]:
    """Register a class built as ``cls(*, seed, **knobs)`` as a predictor.

    Args:
        name: kebab-case name used in configurations.
        knobs: its keyword arguments with their domains.
        paper: title, year and arXiv number of the paper it is from.
    """
    return PREDICTORS.decorator(name, knobs=knobs, paper=paper)


def stopper(name: str, *, knobs: Mapping[str, Domain] | None = None, paper: str = "") -> Callable[[Any], Any]:
    """Register a class built as ``cls(objectives, *, seed, budget, trials, **knobs)`` as a stopper; see :func:`predictor`."""
    return STOPPERS.decorator(name, knobs=knobs, paper=paper)


def check_knobs(kind: str, name: str, given: Mapping[str, Any], known: Mapping[str, Domain]) -> None:
    """Raise ConfigError unless every knob given lies in its domain."""
    for knob, value in given.items():
        if knob in known and not known[knob].permits(value):
            raise ConfigError(f'The knob "{knob}" of the {kind} "{name}" was given {value!r}, which {known[knob]} does not permit.')
