"""The domains of choices as Optuna's parameters, and back.

Optuna keeps one distribution per parameter name, but a choice may meet another domain under its path when other choices
change; its Optuna name is therefore the path with a short hash of the domain. Options that are strings or numbers go as
they are; lists with None or booleans, and reals on a grid, go by index.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..search_space.choices import Domain, Integer, OneOf, Real, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


def parameter_name(path: str, domain: Domain) -> str:
    """``path|hash(domain)``."""
    return f"{path}|{hashlib.sha256(repr(domain).encode()).hexdigest()[:8]}"


def distribution(domain: Domain) -> BaseDistribution:
    """The Optuna distribution of ``domain``."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, OneOf):
        return CategoricalDistribution(_options(domain))
    if isinstance(domain, Integer):
        if domain.log:
            return IntDistribution(domain.low, domain.values()[-1], log=True)
        return IntDistribution(domain.low, domain.values()[-1], step=domain.step)
    if _on_grid(domain):
        return IntDistribution(0, len(domain.values()) - 1)
    return FloatDistribution(domain.low, domain.high, log=domain.log)


def suggest(trial: Trial, path: str, domain: Domain) -> Value:
    """The value that ``trial`` suggests for a choice."""
    name, known = parameter_name(path, domain), distribution(domain)
    if isinstance(domain, OneOf):
        return to_value(domain, trial.suggest_categorical(name, _options(domain)))
    if isinstance(domain, Integer) or _on_grid(domain):
        assert hasattr(known, "step")
        return to_value(domain, trial.suggest_int(name, known.low, known.high, step=known.step, log=known.log))  # type: ignore[attr-defined]
    return to_value(domain, trial.suggest_float(name, domain.low, domain.high, log=domain.log))


def only_value(domain: Domain) -> Value:
    """The value of a domain that permits just one."""
    return domain.low if isinstance(domain, Real) else domain.values()[0]


def to_value(domain: Domain, parameter: Any) -> Value:
    """The choice's value for Optuna's ``parameter``."""
    if isinstance(domain, OneOf):
        return parameter if _native(domain) else domain.options[parameter]
    if isinstance(domain, Integer):
        index = round((parameter - domain.low) / domain.step)
        return domain.low + domain.step * index
    return domain.values()[parameter] if _on_grid(domain) else domain.clip(parameter)


def to_parameter(domain: Domain, value: Value) -> Any:
    """Optuna's parameter for a choice's ``value``; inverse of :func:`to_value`."""
    if isinstance(domain, OneOf) and not _native(domain):
        return next(i for i, option in enumerate(domain.options) if option is value or (option == value and type(option) is type(value)))
    if isinstance(domain, Real) and _on_grid(domain):
        return domain.values().index(float(value))  # type: ignore[arg-type]
    return value


def _on_grid(domain: Domain) -> bool:
    return isinstance(domain, Real) and domain.step is not None and not domain.log


def _native(domain: OneOf) -> bool:
    return not any(option is None or isinstance(option, bool) for option in domain.options)


def _options(domain: OneOf) -> tuple[Any, ...]:
    return domain.options if _native(domain) else tuple(range(len(domain.options)))
