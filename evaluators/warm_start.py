"""The evaluator that trains candidates from weights predicted for them: ``ghn2-warm-start``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..search_space.outcomes import Report
from ..search_space.protocols import Job
from .errors import EvaluationError
from .registry import evaluator
from .trainer import test_metrics, train
from .training.recipe import KNOBS


@evaluator("ghn2-warm-start", paper="Parameter Prediction for Unseen Deep Architectures (2021, arXiv 2110.13100)")
def ghn2_warm_start(job: Job, *, start: str, recipe: Mapping[str, Any] | None = None) -> Iterator[Report]:
    """Trains as ``train`` does, from initial weights that a graph hypernetwork predicts for each candidate.

    Args:
        start: in a study the file of a hypernetwork trained over its space (``archwright.studies.warm_start.train_over``); the study
            predicts the weights and puts them into the trial's folder. Elsewhere a safetensors file of the candidate's own weights.
        recipe: changes to the training recipe (``{learning_rate: 0.001}``).

    Raises:
        EvaluationError: a field of the recipe is unknown or out of range, the loss is not finite, or the file does not fit the network.
    """
    for name in recipe or {}:
        if name not in KNOBS:
            raise EvaluationError(f'The recipe of "ghn2-warm-start" has the field "{name}"; expected one of {", ".join(sorted(KNOBS))}.')
    yield from train(job, start=start, **(recipe or {}))


ghn2_warm_start.test_metrics = test_metrics  # type: ignore[attr-defined]
