"""Reading a Tune result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS

_TUNES_OWN = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, "step", "seconds", "iterations_since_restore", "timesteps_since_restore"}


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a result that Tune did not add itself."""
    return {
        name: float(value)
        for name, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in _TUNES_OWN and not name.startswith("config/")
    }


def step_of(result: Mapping[str, Any]) -> int:
    """The units spent: the result's ``step``, else Tune's own count."""
    return int(result.get("step", result.get("training_iteration", 0)))
