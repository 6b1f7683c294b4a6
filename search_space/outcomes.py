"""What is said about a candidate between the rooms: objectives, reports, predictions, outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Status = Literal["completed", "stopped", "failed", "infeasible", "duplicate"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make large (``max``) or small (``min``)."""

    metric: str
    direction: Literal["max", "min"] = "max"

    def gain(self, value: float) -> float:
        """``value`` turned so that larger is better."""
        return value if self.direction == "max" else -value


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluator says after each unit of budget.

    Args:
        step: absolute, 1 for the first unit; a resumed evaluator goes on counting.
        metrics: name to value, measured on validation data.
        seconds: wall-clock time this unit took; never used to decide anything.
        last: True on the evaluator's final report.
    """

    step: int
    metrics: Mapping[str, float]
    seconds: float = 0.0
    last: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "metrics": dict(self.metrics), "seconds": self.seconds, "last": self.last}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        return cls(data["step"], dict(data["metrics"]), data["seconds"], data["last"])


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted value with its spread: ``mean +- 1.645 spread`` holds nine values in ten (a standard deviation, if normal)."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a candidate ended.

    Args:
        status: ``completed``; ``stopped`` early (censored: ``metrics`` are the last seen, ``predicted`` the expected finals);
            ``failed`` with a ``reason``; ``infeasible`` (breaks a constraint, never trained); ``duplicate`` of ``twin``.
        metrics: final metrics, with those known before training (``params``, ``flops``, ...).
        steps: units of budget spent.
        seconds: wall-clock time of the evaluation.
        predicted: per metric the predicted final of a stopped candidate.
        reason: one sentence for ``failed``, ``infeasible`` and ``stopped``.
        twin: for ``duplicate``, the number of the candidate whose outcome this repeats.
    """

    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    predicted: Mapping[str, Prediction] = field(default_factory=dict)
    reason: str | None = None
    twin: int | None = None

    def as_duplicate_of(self, twin: int) -> Outcome:
        """This outcome as told for a repeat: nothing was spent on it."""
        return replace(self, status="duplicate", twin=twin, steps=0, seconds=0.0)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        predicted = {name: Prediction(**item) for name, item in data.get("predicted", {}).items()}
        return cls(**{**data, "predicted": predicted})


def gains(outcome: Outcome, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """The objectives of an outcome, each turned so that larger is better.

    A stopped candidate is censored: its predicted finals count where there are some. None when a value is missing or not
    finite (failed, infeasible), so that a controller has nothing to rank.
    """
    values = []
    for objective in objectives:
        predicted = outcome.predicted.get(objective.metric)
        value = predicted.mean if predicted is not None else outcome.metrics.get(objective.metric)
        if value is None or not math.isfinite(value):
            return None
        values.append(objective.gain(value))
    return tuple(values) if outcome.status not in ("failed", "infeasible") else None
