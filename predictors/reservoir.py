"""A fixed random recurrent network that tells moments of a time series apart; nothing in it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..search_space.seeds import derive_seed

Array = Any
SPARSITY = 0.1
"""Share of recurrent weights that are not zero, at least ten per unit."""
BIAS = 0.1


class Reservoir:
    """An echo state network, ``h_t = (1 - l) h_{t-1} + l tanh(W h_{t-1} + W_in u_t + b)``.

    The "echo state" approach to analysing and training recurrent neural networks (2001, GMD Report 148). W is sparse and scaled to the
    spectral radius, W_in uniform in [-1, 1] over the square root of the inputs, b uniform in [-0.1, 0.1].

    Args:
        inputs: numbers in u_t.
        units: numbers in h_t.
        radius: spectral radius of W; below 1 the past is forgotten.
        leak: l in (0, 1].
        seed: of the weights.
    """

    def __init__(self, inputs: int, units: int, *, radius: float, leak: float, seed: int) -> None:
        rng = np.random.default_rng(derive_seed(seed, "fit", "reservoir"))
        recurrent = rng.standard_normal((units, units)) * (rng.random((units, units)) < max(SPARSITY, 10 / units))
        self.recurrent = recurrent * (radius / max(float(np.abs(np.linalg.eigvals(recurrent)).max()), 1e-12))
        self.reading = rng.uniform(-1, 1, (units, inputs)) / np.sqrt(max(1, inputs))
        self.bias = rng.uniform(-BIAS, BIAS, units)
        self.leak = leak

    def start(self, count: int) -> Array:
        """States [count, units] of series of which nothing is known."""
        return np.zeros((count, len(self.bias)))

    def step(self, states: Array, inputs: Array) -> Array:
        """The states [n, units] after the next inputs [n, d] of n series."""
        return (1 - self.leak) * states + self.leak * np.tanh(states @ self.recurrent.T + inputs @ self.reading.T + self.bias)


def similarity_weights(asked: Array, known: Array, temperature: float) -> Array:
    """``softmax_s(cos(h - c, h_s - c) / temperature)`` over the known states [n, units] with mean c, for asked ones [m, units], as [m, n].

    Centring is a departure from the paper: states share a large common part, which would make all cosines alike.
    """
    centre = known.mean(axis=0)
    left, right = (
        (states - centre) / np.maximum(np.linalg.norm(states - centre, axis=1, keepdims=True), 1e-12) for states in (asked, known)
    )
    exponent = left @ right.T / temperature
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def weighted_quantile(values: Array, weights: Array, share: Array) -> Array:
    """``inf {q : sum_i w_i [v_i <= q] >= p}`` for each row of weights.

    Args:
        values: [n].
        weights: [m, n], each row summing to 1.
        share: p in [0, 1], one number or [m].
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    enough = np.minimum(np.broadcast_to(share, len(weights)), 1.0 - 1e-9) - 1e-12  # sums of weights are exact to rounding only
    short = (reached < enough[:, None]).sum(axis=1)
    return values[order][np.minimum(short, len(values) - 1)]
