"""A small network as a sparse Gaussian process that takes finished candidates in without being trained again: ``sfr``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..search_space.choices import Domain, Integer, OneOf, Real
from ..search_space.protocols import Observation
from .architecture_surrogate import ArchitectureSurrogate, Fitted
from .dual_process import DualProcess, gaussian_terms
from .encoding.encoder import Encoder, Row, usable
from .gradient_kernel import Layer, gradient_gram
from .mlp import Perceptrons, train
from .registry import check_knobs, predictor
from .warping import Scale

KNOBS: dict[str, Domain] = {
    "n_inducing": Integer(16, 512),
    "delta": Real(1e-4, 10.0, log=True),
    "members": Integer(2, 20),
    "steps": Integer(10, 2000),
    "absorb": OneOf((False, True)),
    "min_trials": Integer(4, 100),
}
FAR = 5.0
"""A score this many deviations off is beyond the scale of the history: the network is trained anew."""
FLOOR = 1e-6

Array = Any
Members = Sequence[Sequence[Layer]]


@dataclass(frozen=True)
class FunctionSpace:
    """A trained network, the data it was trained on, those that came after, and the process around it.

    Args:
        network: the mean of its members is f.
        known: features [n, p] it was trained on.
        added, scores: features [k, p] and warped scores [k] that came after.
        unit: of the kernel: ``k(x, x') = unit J(x) J(x')^T``.
        noise: variance of an evaluation, in the kernel's unit.
        width: factor of the variance that the candidates it was trained on call for.
    """

    network: Perceptrons
    known: Array
    added: Array
    scores: Array
    unit: float
    noise: float
    width: float
    most: int
    process: DualProcess | None = None
    inducing: Members = ()

    @classmethod
    def of(cls, network: Perceptrons, known: Array, *, delta: float, most: int) -> FunctionSpace:
        """Unit and width from the candidates that the network was trained on.

        The mean prior variance is ``noise / delta``. Noise and prior variance are then widened together, which leaves the mean as it
        is, until the mean variance of a candidate left out is the squared error of the members on what they were not trained on.
        """
        layers = network.layers(known)
        gram, noise = _gram(layers, layers), max(network.error, FLOOR)
        unit = noise / delta / max(float(np.diag(gram).mean()), FLOOR)
        left_out = 1.0 / np.diag(np.linalg.inv(unit * gram + noise * np.eye(len(known))))
        empty = cls(network, known, known[:0], np.zeros(0), unit, noise, noise / float(left_out.mean()), most)
        return empty.with_added(known[:0], np.zeros(0))

    def with_added(self, features: Array, scores: Array) -> FunctionSpace:
        """With further candidates; their inputs join the inducing ones, and no weight changes."""
        added, targets = np.concatenate([self.added, features]), np.concatenate([self.scores, scores])
        recent = added[-self.most // 2 :]
        chosen = np.unique(np.linspace(0, len(self.known) - 1, min(self.most - len(recent), len(self.known))).astype(int))
        inducing = self.network.layers(np.concatenate([self.known[chosen], recent]))
        process = DualProcess(self.unit * _gram(inducing, inducing))
        # the network is at the optimum of what it was trained on: that has curvature, and slope zero
        residuals = np.concatenate([np.zeros(len(self.known)), targets - self.network(added).mean(axis=0)])
        seen = self.network.layers(np.concatenate([self.known, added]))
        process.add(self.unit * _gram(inducing, seen), *gaussian_terms(residuals, self.noise))
        return replace(self, added=added, scores=targets, process=process, inducing=inducing)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation [q] of a new evaluation."""
        assert self.process is not None
        layers = self.network.layers(features)
        cross = self.unit * _gram(self.inducing, layers)
        variance = self.process.variance(cross, self.unit * _powers(layers)) + self.noise
        return self.network(features).mean(axis=0) + self.process.correction(cross), np.sqrt(self.width * variance)

    def embed(self, features: Array) -> Array:
        """Features [q, m] whose inner products are the kernel as far as the inducing inputs tell it."""
        assert self.process is not None
        return self.process.features(self.unit * _gram(self.inducing, self.network.layers(features))).T


@predictor("sfr", knobs=KNOBS, paper="Function-space Parameterization of Neural Networks for Sequential Learning (2024, 2403.10929)")
class SparseFunctionSpace(ArchitectureSurrogate[FunctionSpace]):
    """Networks as in ``mlp-ensemble``, seen as one sparse Gaussian process with the kernel of their gradients.

    The kernel is ``k(x, x') = J(x) J(x')^T / delta`` with the Jacobian J of the members' mean by all weights. :meth:`update` takes
    finished candidates in within milliseconds (:class:`.dual_process.DualProcess`), without training.

    ``fit`` trains on the whole history. With ``absorb`` it trains anew only where the history has grown by more than half since, or
    where a score lies far beyond the scale of those it was trained on, and absorbs what came after. Both are read off the history
    itself, in its order, so a surrogate made anew on a resumed study answers as the old one would; within what came after the last
    training, and only there, the answer depends on that order. It is for callers that keep one surrogate and give candidates in the
    order in which they finished.

    Departures from the paper: data that the network was trained on have curvature and no slope, since it is at their optimum; inputs
    of candidates that come later join the inducing ones, without which the process cannot learn at places it has not been to; prior
    variance and noise are scaled by the squared error on what the members were not trained on.

    Args:
        seed: of the initial weights and the folds.
        n_inducing: most inducing inputs.
        delta: prior precision of the weights, in the unit that makes the mean prior variance of a candidate ``noise / delta``.
        members: number of networks, each trained without one of as many folds.
        steps: of Adam on the whole history.
        absorb: whether ``fit`` keeps a network while the history has grown by less than half.
        min_trials: finished candidates below which nothing is predicted.
    """

    def __init__(
        self,
        *,
        seed: int,
        n_inducing: int = 256,
        delta: float = 0.1,
        members: int = 5,
        steps: int = 150,
        absorb: bool = False,
        min_trials: int = 8,
    ) -> None:
        given = {"n_inducing": n_inducing, "delta": delta, "members": members, "steps": steps, "absorb": absorb, "min_trials": min_trials}
        check_knobs("predictor", "sfr", given, KNOBS)
        super().__init__(seed, min_trials)
        self.n_inducing, self.delta, self.members, self.steps, self.absorb = n_inducing, delta, members, steps, absorb
        self._trained: tuple[Any, Fitted[FunctionSpace]] | None = None

    def fit(self, history: Sequence[Observation]) -> None:
        """Train on the history; with ``absorb`` on the first part of it, which may have been done before, and absorb the rest."""
        self._fitted = None
        if not self.absorb:
            super().fit(history)
            return
        known = [seen for seen in history if len(usable([seen])[0])]
        count = trained_on([seen.final for seen in known if seen.final is not None], self.min_trials)
        if count is None:
            return
        rows, scores = usable(known[:count])
        key = (tuple(row.text for row in rows), tuple(scores))
        if self._trained is None or self._trained[0] != key:
            super().fit(known[:count])
            self._trained = None if self._fitted is None else (key, self._fitted)
        self._fitted = None if self._trained is None else self._trained[1]
        if self._fitted is None:  # nothing differs among the first; with the rest something may
            super().fit(known)
        else:
            self.update(known[count:])

    def update(self, observations: Sequence[Observation]) -> None:
        """Absorb further finished candidates without training; a score that the scale cannot express waits for the next ``fit``."""
        fitted = self._fitted
        if fitted is None:
            return
        rows, scores = usable(observations)
        within = _within(fitted.scale, scores)
        rows, scores = [row for row, good in zip(rows, within, strict=True) if good], scores[within]
        if rows:
            model = fitted.model.with_added(fitted.encoder(rows), fitted.scale(scores))
            self._fitted = replace(fitted, model=model)

    def learned(self, encoder: Encoder, features: Array, scores: Array) -> FunctionSpace:
        network = train(features, scores, members=self.members, steps=self.steps, seed=self.seed)
        return FunctionSpace.of(network, features, delta=self.delta, most=self.n_inducing)

    def answers(self, model: FunctionSpace, features: Array) -> tuple[Array, Array]:
        return model.predict(features)

    def kernel_features(self, fitted: Fitted[FunctionSpace], rows: Sequence[Row]) -> Array:
        return fitted.model.embed(fitted.encoder(rows))


def trained_on(scores: Sequence[float], least: int) -> int | None:
    """How many of the scores, in their order, the network is trained on: the first ``least``, and all so far whenever these have grown
    by more than half or the next lies off the scale of those it was trained on. None where there are fewer than ``least``.

    >>> [trained_on([0.1, 0.5, 0.2, 0.4] * 5, least) for least in (4, 8, 21)]
    [16, 20, None]
    """
    if len(scores) < least:
        return None
    values, due = np.array(scores, dtype=float), least
    scale = Scale.of(values[:due])
    for count in range(least + 1, len(values) + 1):
        if 2 * count > 3 * due or not _within(scale, values[count - 1 : count])[0]:
            due, scale = count, Scale.of(values[:count])
    return due


def _within(scale: Scale, scores: Array) -> Array:
    """Which scores the scale expresses, and within ``FAR`` deviations."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(scale(scores)) <= FAR


def _gram(left: Members, right: Members) -> Array:
    """``J J^T`` of the mean of the members, [n, m]."""
    return np.sum([gradient_gram(one, other) for one, other in zip(left, right, strict=True)], axis=0) / len(left) ** 2


def _powers(layers: Members) -> Array:
    """The diagonal of :func:`_gram`."""
    each = [((z**2).sum(axis=1) + 1.0) * (g**2).sum(axis=1) for member in layers for z, g in member]
    return np.sum(each, axis=0) / len(layers) ** 2
