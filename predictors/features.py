"""A candidate as numbers."""

from __future__ import annotations

import math

from ..search_space.choices import Integer, OneOf, Real
from ..search_space.protocols import Candidate

ARCHITECTURE = "architecture/"
CHOICE = "choice/"


def candidate_features(candidate: Candidate) -> dict[str, float]:
    """What is known of a candidate before training.

    * ``architecture/NAME``: the metrics known before training; ``log(1 + v)`` of those that are not negative (parameters, FLOPs).
    * ``choice/ROLE``: a numeric choice by its value (its logarithm where the domain is logarithmic), the mean over a repeated role.
    * ``choice/ROLE=OPTION``: how often an option was chosen in a role.
    """
    features = {ARCHITECTURE + name: _tamed(value) for name, value in candidate.known.items() if math.isfinite(value)}
    numeric: dict[str, list[float]] = {}
    for choice in candidate.trace:
        if isinstance(choice.domain, OneOf) and not _is_scale(choice.domain):
            key = f"{CHOICE}{choice.role}={choice.value}"
            features[key] = features.get(key, 0.0) + 1.0
        elif isinstance(choice.value, int | float):
            logarithmic = isinstance(choice.domain, Integer | Real) and choice.domain.log
            numeric.setdefault(CHOICE + choice.role, []).append(math.log(choice.value) if logarithmic else float(choice.value))
    features.update({key: sum(values) / len(values) for key, values in numeric.items()})
    return features


def _tamed(value: float) -> float:
    return math.log1p(value) if value >= 0 else float(value)


def _is_scale(domain: OneOf) -> bool:
    """True when the options are numbers, so that their order means something."""
    return all(isinstance(option, int | float) and not isinstance(option, bool) for option in domain.options)
