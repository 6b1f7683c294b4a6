"""What surrogates of networks that nobody trained have in common: encode the history, learn from it, answer in the metric's unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation
from .encoding.encoder import Encoder, Row, row_of, usable
from .warping import Scale

Model = TypeVar("Model")


@dataclass(frozen=True)
class Fitted(Generic[Model]):
    """What one history taught: how to encode a candidate, the model of warped scores, and the way back to the metric."""

    encoder: Encoder
    rows: Sequence[Row]
    scale: Scale
    model: Model


class ArchitectureSurrogate(ABC, Generic[Model]):
    """Base of the surrogates; a subclass says what it learns, what it answers, and the features of its kernel."""

    def __init__(self, seed: int, min_trials: int) -> None:
        self.seed, self.min_trials = seed, min_trials
        self._fitted: Fitted[Model] | None = None

    @abstractmethod
    def learned(self, encoder: Encoder, features: Any, scores: Any) -> Model:
        """The model of warped ``scores`` [n] by the ``features`` [n, p] that ``encoder`` made."""

    @abstractmethod
    def answers(self, model: Model, features: Any) -> tuple[Any, Any]:
        """Mean and standard deviation [n] of new evaluations of the candidates with these features, on the warped scale."""

    @abstractmethod
    def kernel_features(self, fitted: Fitted[Model], rows: Sequence[Row]) -> Any:
        """Features [len(rows), p] whose inner products are the similarities of candidates."""

    def fit(self, history: Sequence[Observation]) -> None:
        """Learn from the observations that have a finite final score and a trace or an architecture."""
        self._fitted = None
        rows, scores = usable(history)
        if len(rows) < self.min_trials:
            return
        encoder = Encoder(rows)
        if not encoder.names:
            return
        scale = Scale.of(scores)
        self._fitted = Fitted(encoder, rows, scale, self.learned(encoder, encoder(rows), scale(scores)))

    def predict(self, partial: Observation) -> Prediction | None:
        known = partial.trace is not None or partial.architecture is not None
        found = self.predict_many([partial]) if known else None
        return None if found is None else found[0]

    def predict_many(self, asked: Sequence[Observation]) -> list[Prediction] | None:
        """The median expected of each and half the central 68 % interval of a new evaluation; None before ``min_trials`` are known."""
        fitted = self._fitted
        if fitted is None:
            return None
        return fitted.scale.predictions(*self.answers(fitted.model, fitted.encoder([row_of(seen) for seen in asked])))

    def embed(self, asked: Sequence[Observation]) -> Any:
        """The features of the kernel, [len(asked), p]; zeros [len(asked), 1] before ``min_trials`` are known."""
        if self._fitted is None:
            return np.zeros((len(asked), 1))
        return self.kernel_features(self._fitted, [row_of(seen) for seen in asked])
