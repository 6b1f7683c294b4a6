"""The hyper-parameters of training, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...search_space.choices import Domain, Integer, OneOf, Real
from ...search_space.errors import did_you_mean
from ..errors import EvaluationError

KNOBS: dict[str, Domain] = {
    "optimizer": OneOf(("adamw", "adam", "sgd")),
    "learning_rate": Real(1e-7, 100.0, log=True),
    "weight_decay": Real(0.0, 10.0),
    "batch_size": Integer(1, 2**20),
    "schedule": OneOf(("cosine", "constant")),
    "warmup": Real(0.0, 1.0),
    "momentum": Real(0.0, 0.9999),
    "gradient_clip": Real(0.0, 1e6),
    "label_smoothing": Real(0.0, 0.9),
    "average": Real(0.0, 100.0),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a candidate is trained; the evaluator's parameters give it, fields of ``Architecture.training`` override it.

    Args:
        optimizer: ``adamw``, ``adam`` or ``sgd`` (Nesterov).
        learning_rate: its peak.
        weight_decay: decoupled for ``adamw``; matrices only, never norms, biases and what a block excludes.
        batch_size: samples per step.
        schedule: ``cosine`` to zero at the end of the budget, or ``constant``.
        warmup: share of all steps in which the rate rises linearly.
        momentum: of ``sgd``.
        gradient_clip: largest global norm of the gradient; 0 does not clip.
        label_smoothing: of cross-entropy.
        average: memory, in epochs, of the running mean of the weights that is evaluated and kept; 0 keeps the last weights.
    """

    optimizer: str = "adamw"
    learning_rate: float = 1e-2
    weight_decay: float = 0.05
    batch_size: int = 32
    schedule: str = "cosine"
    warmup: float = 0.1
    momentum: float = 0.9
    gradient_clip: float = 1.0
    label_smoothing: float = 0.0
    average: float = 1.0

    def updated(self, changes: Mapping[str, Any], where: str) -> Recipe:
        """This recipe with ``changes``, found in ``where``.

        Raises:
            EvaluationError: a field is unknown or its value outside its domain.
        """
        known = [field.name for field in fields(self)]
        for name, value in changes.items():
            if name not in known:
                raise EvaluationError(f'{where} has the training field "{name}", unknown to the trainer; {did_you_mean(name, known)}')
            if not KNOBS[name].permits(value):
                raise EvaluationError(f'{where} sets "{name}" to {value!r}; expected {_described(KNOBS[name])}.')
        return replace(self, **changes)


def _described(domain: Domain) -> str:
    if isinstance(domain, OneOf):
        return "one of " + ", ".join(map(str, domain.options))
    return f"{'an integer' if isinstance(domain, Integer) else 'a number'} from {domain.low:g} to {domain.high:g}"
