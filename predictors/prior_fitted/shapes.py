"""The parts that made-up learning curves are put together from: how fast a gap closes, how a learning rate falls, what goes wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

FAMILIES = 4
Array = Any
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float, size: Any = None) -> Array:
    """Numbers whose logarithm is uniform between those of ``low`` and ``high``."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def remaining(time: Array, pace: Array, bend: Array, weights: Array, horizon: Array) -> Array:
    r"""The share of the gap between start and asymptote that is left at ``time``: 1 at 0, falling.

    A mixture of four families with the time constant :math:`\tau` (``pace``) and the exponent :math:`\alpha` (``bend``):

    .. math:: (1 + t/\tau)^{-\alpha}, \quad e^{-(t/\tau)^{\alpha}}, \quad \frac{1}{1 + (t/\tau)^{\alpha}}, \quad
              1 - \frac{\log(1 + t/\tau)}{\log(1 + H/\tau)}

    Args:
        time: [B, C, T] steps of training.
        pace, bend: [B, C, 1].
        weights: [B, 1, 1, 4], of sum 1.
        horizon: [B, 1, 1], the H at which the logarithm arrives.
    """
    ratio = time / pace
    raised = ratio**bend
    shapes = ((1 + ratio) ** -bend, np.exp(-raised), 1 / (1 + raised), np.maximum(0.0, 1 - np.log1p(ratio) / np.log1p(horizon / pace)))
    return sum(weights[..., index] * shape for index, shape in enumerate(shapes))


def learning_rates(rng: Rng, studies: int, steps: int) -> Array:
    """[B, 1, T] in [0, 1]: constant, cosine, step decay (at epochs that a study's candidates share), linear or exponential."""
    done = np.arange(1, steps + 1) / steps
    rates = np.ones((studies, steps))
    kinds = rng.choice(5, size=studies, p=[0.35, 0.2, 0.3, 0.05, 0.1])
    for row, kind in zip(rates, kinds, strict=True):
        if kind == 1:
            row[:] = 0.5 * (1 + np.cos(np.pi * done))
        elif kind == 2:
            drops = np.sort(rng.uniform(0.15, 0.95, rng.integers(1, 5)))
            row[:] = rng.choice([0.1, 0.2, 0.3, 0.5]) ** np.searchsorted(drops, done)
        elif kind == 3:
            row[:] = 1 - done
        elif kind == 4:
            row[:] = np.exp(-rng.uniform(1, 6) * np.maximum(0.0, done - rng.uniform(0, 0.6)))
    return rates[:, None, :]


def mishaps(rng: Rng, studies: int, candidates: int, steps: int) -> Array:
    """[B, C, T] in [0, 1]: how far a curve has fallen back to where it began; divergence stays, a reset is made up for again."""
    shape = (studies, candidates, 1)
    time = np.arange(1, steps + 1)
    rate = np.where(rng.random((studies, 1, 1)) < 0.3, rng.beta(1, 15, (studies, 1, 1)), 0.0)
    since = time - rng.uniform(1, steps + 1, shape)
    diverged = (rng.random(shape) < rate) * (since >= 0) * 1.0
    rate = np.where(rng.random((studies, 1, 1)) < 0.3, rng.beta(1, 15, (studies, 1, 1)), 0.0)
    since = time - rng.uniform(1, steps + 1, shape)
    recovery = np.exp(-np.maximum(since, 0) / log_uniform(rng, 0.3, 4.0, shape)) * rng.uniform(0.2, 1.0, shape)
    reset = (rng.random(shape) < rate) * (since >= 0) * recovery
    return np.maximum(diverged, reset)


def jitter(rng: Rng, studies: int, candidates: int, steps: int) -> Array:
    """[B, C, T] of unit scale: white noise, in a third of the studies with heavy tails, in a third with a part that wanders."""
    shape = (studies, candidates, steps)
    white = rng.standard_normal(shape)
    tails = np.sqrt(3 / np.maximum(rng.chisquare(3, shape), 0.05))
    wandering = np.cumsum(rng.standard_normal(shape), axis=-1) / np.sqrt(steps)
    heavy, wanders = rng.random((2, studies, 1, 1)) < 1 / 3
    return np.where(heavy, white * tails, white) + wanders * log_uniform(rng, 0.3, 3.0, (studies, 1, 1)) * wandering
