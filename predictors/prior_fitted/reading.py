"""A context that the network has read, and its answers in the unit of the metric."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...search_space.errors import ConfigError
from .bars import Bars
from .rows import Context, Group

if TYPE_CHECKING:
    from .network import Memory, RowTransformer

LONGEST, FARTHEST = 200, 1e12
"""Steps of the longest training that the network knows; values beyond which nothing is any larger."""
Array = Any


@dataclass(frozen=True)
class Answers:
    """The distributions of m final values: ``anchor + unit z`` with z as in ``bars``."""

    bars: Bars
    anchor: Array
    unit: Array

    @property
    def mean(self) -> Array:
        """[m]."""
        return self.anchor + self.unit * self.bars.mean()

    @property
    def spread(self) -> Array:
        """[m]; mean +- 1.645 spreads hold 90 %."""
        return self.unit * self.bars.spread()

    def above(self, value: float) -> Array:
        """[m], the probability of a final value above ``value``."""
        return 1 - self.bars.below((value - self.anchor) / self.unit)


@dataclass(frozen=True)
class Reading:
    """What the network remembers of the other candidates of a study, at one observed length.

    Args:
        stride: of a training with more than 200 steps every so many are read.
    """

    network: RowTransformer
    context: Context
    memory: Memory
    stride: int

    @classmethod
    def of(cls, network: RowTransformer, finished: Group, running: Group, step: int, steps: int) -> Reading:
        """Read the context of candidates ``step`` long where a full training takes ``steps``."""
        import torch

        stride = math.ceil(steps / LONGEST)
        length = max(math.ceil(steps / stride), math.ceil(step / stride) + 1)
        context = Context.of(_thinned(finished, stride), _thinned(running, stride), length)
        with torch.no_grad():
            return cls(network, context, network.memory(torch.from_numpy(context.rows).float()), stride)

    def answers(self, curves: Any, features: Array) -> Answers:
        """What ``curves`` [m, s] of candidates with ``features`` [m, p] will end at."""
        import torch

        asked = group(curves, features, np.zeros(len(curves)), np.zeros(len(curves)))
        rows, anchor, unit = self.context.asked(_thinned(asked, self.stride))
        with torch.no_grad():
            told = self.network.answer(self.memory, torch.from_numpy(rows).float())
        shares = told[0].double().exp().numpy()
        return Answers(Bars(shares / shares.sum(axis=1, keepdims=True)), anchor[0], unit[0])


@dataclass(frozen=True)
class ReadLesson:
    """A lesson as a rule of :class:`~archwright.predictors.curves.base.CurvePredictor`.

    Args:
        held_out, spread: [n], predictions of each curve by what the others teach.
    """

    reading: Reading
    held_out: Array
    spread: Array

    def __call__(self, curves: Any, features: Array) -> Array:
        return self.reading.answers(curves, features).mean


def group(curves: Any, features: Array, latest: Array, reached: Array) -> Group:
    """One study of B = 1, without numbers so large that their squares are not finite."""
    known = np.clip(np.where(np.isfinite(features), features, np.nan), -FARTHEST, FARTHEST)
    values, ends = (np.clip(np.asarray(part, dtype=float), -FARTHEST, FARTHEST) for part in (curves, latest))
    return Group(values[None], known[None], ends[None], np.asarray(reached, dtype=float)[None])


def spread_over(count: int, most: int) -> Sequence[int]:
    """At most so many of ``count`` places, evenly spread, the first and the last among them."""
    return range(count) if count <= most else [round(place * (count - 1) / max(1, most - 1)) for place in range(most)]


def _thinned(seen: Group, stride: int) -> Group:
    step = seen.prefixes.shape[-1]
    return Group(seen.prefixes[..., (step - 1) % stride :: stride], seen.features, seen.latest, seen.reached / stride)


@functools.cache
def load(path: str) -> RowTransformer:
    """The network of a file of weights, read once.

    Raises:
        ConfigError: the file is missing or holds something else.
    """
    from safetensors import SafetensorError

    from .network import load_network

    try:
        return load_network(path)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f'The predictor "prior-fitted" cannot use the weights {path}: {str(error).splitlines()[0]} '
            "Give a file that studies/training/prior_fitted.py wrote."
        ) from error
