"""Small neural networks as a surrogate, with the kernel of their gradients: ``mlp-ensemble``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..search_space.choices import Domain, Integer, OneOf, Real
from ..search_space.seeds import derive_seed
from .architecture_surrogate import ArchitectureSurrogate, Fitted
from .encoding.encoder import Encoder, Row
from .gradient_kernel import gradient_sketch, last_layer_features, posterior_features
from .mlp import Perceptrons, train
from .registry import check_knobs, predictor

KNOBS: dict[str, Domain] = {
    "members": Integer(2, 20),
    "steps": Integer(10, 2000),
    "kernel": OneOf(("last-layer", "grad")),
    "sketch_dim": Integer(16, 4096),
    "posterior": OneOf((True, False)),
    "noise": Real(1e-4, 10.0, log=True),
    "min_trials": Integer(2, 100),
}
_PAPER = "A Framework and Benchmark for Deep Batch Active Learning for Regression (2022, 2203.09410)"


@predictor("mlp-ensemble", knobs=KNOBS, paper=_PAPER)
class MlpEnsemble(ArchitectureSurrogate[Perceptrons]):
    """Networks of two hidden layers on the features of a candidate, each trained without one fold of the history.

    The prediction is the mean of the members; its variance their variance plus the mean squared error of each on the fold it has
    not seen. ``embed`` gives a sketch of the gradient kernel, summed over members and divided by their number, or the last hidden
    layer; its inner products are the similarity by which batches are chosen.

    Args:
        seed: of the initial weights, the folds and the sketch.
        members: number of networks, and of folds.
        steps: of Adam on the whole history.
        kernel: ``grad`` (the gradient by all weights, sketched) or ``last-layer``.
        sketch_dim: features of the sketch.
        posterior: whether similarity is what remains after observing the history.
        noise: variance of an observation in the posterior, in units of the kernel's mean on the history.
        min_trials: finished candidates below which nothing is predicted.
    """

    def __init__(
        self,
        *,
        seed: int,
        members: int = 5,
        steps: int = 150,
        kernel: str = "grad",
        sketch_dim: int = 512,
        posterior: bool = False,
        noise: float = 0.01,
        min_trials: int = 8,
    ) -> None:
        given = {"members": members, "steps": steps, "kernel": kernel, "sketch_dim": sketch_dim, "posterior": posterior, "noise": noise}
        check_knobs("predictor", "mlp-ensemble", {**given, "min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)
        self.members, self.steps, self.kernel = members, steps, kernel
        self.sketch_dim, self.posterior, self.noise = sketch_dim, posterior, noise

    def learned(self, encoder: Encoder, features: Any, scores: Any) -> Perceptrons:
        return train(features, scores, members=self.members, steps=self.steps, seed=self.seed)

    def answers(self, model: Perceptrons, features: Any) -> tuple[Any, Any]:
        each = model(features)
        return each.mean(axis=0), np.sqrt(each.var(axis=0) + model.error)

    def kernel_features(self, fitted: Fitted[Perceptrons], rows: Sequence[Row]) -> Any:
        """The sketch of the gradients or the last layer; with ``posterior`` what remains of it after the history."""
        features = self._features(fitted, rows)
        if not self.posterior:
            return features
        seen = self._features(fitted, fitted.rows)
        return posterior_features(features, seen, self.noise * float((seen**2).sum(axis=1).mean()))

    def _features(self, fitted: Fitted[Perceptrons], rows: Sequence[Row]) -> Any:
        members = fitted.model.layers(fitted.encoder(rows))
        share = math.sqrt(len(members))
        if self.kernel == "last-layer":
            return np.concatenate([last_layer_features(layers) for layers in members], axis=1) / share
        seeds = [derive_seed(self.seed, "fit", f"sketch {member}") for member in range(len(members))]
        sketches = [gradient_sketch(layers, self.sketch_dim, seed) for layers, seed in zip(members, seeds, strict=True)]
        return np.sum(sketches, axis=0) / share
