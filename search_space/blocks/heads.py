"""Heads: from the last features to class logits or real values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..choices import Domain, OneOf, Real
from ..errors import BuildError
from ..facts import block
from ..specs import OutputSpec, TensorSpec

_LAYOUTS = ("tokens", "sequence", "image", "vector")
_KNOBS: dict[str, Domain] = {"pool": OneOf(("mean", "max")), "dropout": Real(0.0, 0.5)}


@block("pooled-head", "head", _LAYOUTS, gives="vector", random=True, knobs=_KNOBS)
class PooledHead(nn.Module):
    """y = W dropout(pool(x)) + b, pooling over tokens or space: (B, T, D) or (B, D, H, W) or (B, D) -> (B, size).

    W starts at N(0, 0.02^2), b at zero: logits start near uniform.
    """

    def __init__(self, spec: TensorSpec, *, output: OutputSpec, pool: str = "mean", dropout: float = 0.0) -> None:
        super().__init__()
        if pool not in ("mean", "max"):
            raise BuildError(f'The "pool" parameter of "pooled-head" must be mean or max. Got {pool!r} instead.')
        self.axes = {"image": (2, 3), "vector": ()}.get(spec.layout, (1,))
        self.pool = pool
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(spec.width, output.size)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.axes:
            x = x.mean(self.axes) if self.pool == "mean" else x.amax(self.axes)
        return self.out(self.dropout(x))


@block("pooled-classifier", "head", _LAYOUTS, gives="vector", random=True, knobs=_KNOBS)
def pooled_classifier(spec: TensorSpec, *, output: OutputSpec, pool: str = "mean", dropout: float = 0.0) -> nn.Module:
    """The pooled head for tasks with classes."""
    return _checked("classes", spec, output, pool=pool, dropout=dropout)


@block("pooled-regressor", "head", _LAYOUTS, gives="vector", random=True, knobs=_KNOBS)
def pooled_regressor(spec: TensorSpec, *, output: OutputSpec, pool: str = "mean", dropout: float = 0.0) -> nn.Module:
    """The pooled head for tasks with real values."""
    return _checked("values", spec, output, pool=pool, dropout=dropout)


def _checked(kind: str, spec: TensorSpec, output: OutputSpec, **params: Any) -> nn.Module:
    if output.kind != kind:
        raise BuildError(f"The head gives {kind}, but the task wants {output.kind}; use pooled-head, which does both.")
    return PooledHead(spec, output=output, **params)


@block("token-head", "head", ("tokens", "sequence"), gives="tokens")
class TokenHead(nn.Module):
    """One prediction per token: (B, T, D) -> (B, T, size); with it a network advances step by step."""

    def __init__(self, spec: TensorSpec, *, output: OutputSpec) -> None:
        super().__init__()
        self.out = nn.Linear(spec.width, output.size)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)
