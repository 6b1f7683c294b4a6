"""How deep an untrained network is for its width, read off one run: the ratio that decides how far it strays from a Gaussian process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .batch import Batch
from .registry import proxy

BOOK = "The Principles of Deep Learning Theory (2021, 2106.10165)"
_MATRIX = frozenset({"mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "linear", "convolution", "_convolution"})
_SUMS = frozenset({"add", "sub", "rsub", "_foreach_add"})
_SMOOTH = frozenset({"tanh", "sin", "erf"})
_RECTIFIERS = frozenset({"relu", "threshold", "elu", "gelu", "silu", "mish", "softplus", "hardswish", "clamp_min"})
RELU, LINEAR, SMOOTH = 5.0, 2.0, 2.0 / 3.0


@dataclass(frozen=True)
class Shape:
    """What one run of a network shows of its shape.

    Args:
        ratio: r, the sum of 1 / n over the hidden layers of width n on the longest path.
        depth: weights on the longest path.
        vertex: nu, the strength of the fluctuations that each layer adds: 5 for rectifiers, ``3 A4 / A2^2 - 1`` for a leaky one,
            2/3 for tanh and its like, 2 for a network without activations; the largest where there are several.
        outputs: values that the output has per sample.
    """

    ratio: float
    depth: int
    vertex: float
    outputs: int

    @property
    def optimum(self) -> float:
        """``r* = 4 / ((20 + 3 n_out) nu)``, where fluctuations help most; here only a place to measure distances from."""
        return 4.0 / ((20.0 + 3.0 * self.outputs) * self.vertex)

    @property
    def distance(self) -> float:
        """``log(r / r*)``; -inf for a network without hidden layers."""
        return math.log(self.ratio / self.optimum) if self.ratio > 0 else -math.inf


@proxy("aspect-ratio", paper=BOOK)
def aspect_ratio(network: nn.Module, batch: Batch) -> float:
    """``r = sum of 1 / n_l`` over the hidden layers on the longest path: near 0 a Gaussian process, from about 1 on chaotic.

    Unlike other proxies a smaller value is the safer one: ``constraints: {aspect-ratio: {max: 1}}`` rejects networks too deep for
    their width before they are trained. See :func:`shape_of` for how layers are counted.
    """
    return shape_of(network, batch.x).ratio


@proxy("aspect-ratio-match", paper=BOOK)
def aspect_ratio_match(network: nn.Module, batch: Batch) -> float:
    """``-|log(r / r*)|``: 0 at the book's optimal ratio :attr:`Shape.optimum`, falling on both sides of it; -inf without hidden layers."""
    return -abs(shape_of(network, batch.x).distance)


def shape_of(network: nn.Module, x: Tensor) -> Shape:
    """The :class:`Shape` of ``network``, from one run on samples ``x`` (n, ...).

    A layer is an operation that multiplies what comes from the samples by weights. One that reads n features (channels, for a
    convolution) of a hidden layer adds 1 / n; the first on a path, which reads the samples, adds nothing, and a weight that is used
    again, as in a recurrence, counts as it did the first time. Where tensors are summed, r is that of the least deep plus, for each
    other, what it is deeper by times the square of its share in the variance: a residual branch of scale 0 adds nothing, two equal
    branches count once. Elsewhere (products, concatenations, attention) the largest r goes on.

    Departures: the book treats perceptrons. Counting channels for convolutions, and the class of rectifiers for gelu, silu and the
    like, are our reading.
    """
    with torch.no_grad(), _Trace(x) as trace:
        output = network(x)
    found = trace.found(output) or (0.0, 0)
    return Shape(found[0], found[1], max(trace.vertices, default=LINEAR), output[0].numel())


class _Trace(TorchDispatchMode):
    """Keeps (r, depth) of every storage that depends on the samples; (None, 0) marks one that no weight has touched yet."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.vertices: set[float] = set()
        self._states: dict[int, tuple[float | None, int]] = {}
        self._kept: list[Any] = []  # a storage that is freed would lend its address to another
        self._weights: dict[int, float] = {}  # the ratio behind its first use
        self._set(x, (None, 0))

    def found(self, tensor: Tensor) -> tuple[float, int] | None:
        """The state of a tensor; None where it does not depend on the samples through a weight."""
        state = self._states.get(_address(tensor))
        return None if state is None or state[0] is None else (state[0], state[1])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__.rstrip("_")
        given = [leaf for leaf in torch.utils._pytree.tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        after = self._after(name, given, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if after is not None:
            for made in torch.utils._pytree.tree_leaves(result):
                if isinstance(made, Tensor):
                    self._set(made, after)
        return result

    def _after(self, name: str, given: list[Tensor], args: Any, kwargs: Any) -> tuple[float | None, int] | None:
        """The state of what an operation makes; None where it does not depend on the samples."""
        from_samples = [tensor for tensor in given if _address(tensor) in self._states]
        if not from_samples:
            return None
        states = [self._states[_address(tensor)] for tensor in from_samples]
        if name in _MATRIX or name == "embedding":
            weights = [tensor for tensor in given if _address(tensor) not in self._states and tensor.dim() > 1]
            if weights:
                return self._through(name, weights[-1], from_samples[0], states)
        if name in _SUMS and len(from_samples) > 1:
            return _summed(from_samples, states, float(kwargs.get("alpha", 1.0)))
        self._note(name, args)
        return max(states, key=_order)

    def _through(self, name: str, weight: Tensor, tensor: Tensor, states: list[tuple[float | None, int]]) -> tuple[float | None, int]:
        ratio, depth = max(states, key=_order)
        width = tensor.shape[1] if "convolution" in name else tensor.shape[-1]
        behind = 0.0 if ratio is None else ratio + 1.0 / width
        if _address(weight) in self._weights:
            return max(ratio or 0.0, self._weights[_address(weight)]), max(depth, 1)
        if ratio is not None:  # the first symbols of a recurrence read no hidden layer yet
            self._weights[_address(weight)] = behind
            self._kept.append(weight.untyped_storage())
        return behind, depth + 1

    def _note(self, name: str, args: Any) -> None:
        if name in _SMOOTH:
            self.vertices.add(SMOOTH)
        elif name in ("leaky_relu", "rrelu_with_noise"):
            slope = float(args[1]) if name == "leaky_relu" and len(args) > 1 else 0.01
            self.vertices.add(leaky_vertex(slope))
        elif name in _RECTIFIERS:
            self.vertices.add(RELU)

    def _set(self, tensor: Tensor, state: tuple[float | None, int]) -> None:
        self._states[_address(tensor)] = state
        self._kept.append(tensor.untyped_storage())


def leaky_vertex(slope: float) -> float:
    """``3 A4 / A2^2 - 1`` with ``A_k = (1 + slope^k) / 2``: 5 for a slope of 0, 2 for a linear map."""
    return 3.0 * ((1 + slope**4) / 2) / ((1 + slope**2) / 2) ** 2 - 1.0


def _summed(tensors: list[Tensor], states: list[tuple[float | None, int]], alpha: float) -> tuple[float | None, int]:
    """State of ``a + alpha b``."""
    powers = [float(tensor.double().square().mean()) * factor for tensor, factor in zip(tensors, (1.0, alpha**2), strict=False)]
    whole = sum(powers)
    ratios = [state[0] or 0.0 for state in states]
    least = min(ratios)
    shares = [power / whole if whole > 0 else 0.0 for power in powers]
    deeper = sum(share**2 * (ratio - least) for share, ratio in zip(shares, ratios, strict=True))
    touched = any(state[0] is not None for state in states)
    return (least + deeper if touched else None), max(depth for _, depth in states)


def _order(state: tuple[float | None, int]) -> tuple[float, int]:
    return (-1.0 if state[0] is None else state[0], state[1])


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
