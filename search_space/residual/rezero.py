"""ReZero: x <- x + a f(x) with a = 0 at the start and no norm."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..choices import OneOf, Real
from ..errors import BuildError
from ..facts import residual
from ..specs import TensorSpec
from .rule import Rule, Stream, Write

Granularity = Literal["layer", "sublayer", "channel"]
_GRANULARITIES = ("layer", "sublayer", "channel")


class Scale(nn.Module):
    """The learned factor a, a scalar or one per channel; weight decay would pull it back to its start."""

    def __init__(self, shape: tuple[int, ...], start: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full(shape, start))
        self.alpha.no_weight_decay = True  # type: ignore[attr-defined]


class ScaledWrite(Write):
    """x <- x + a y."""

    def __init__(self, shared: nn.Module | None, own: Scale | None) -> None:
        super().__init__(shared)
        self.own = own

    def write(self, stream: Stream, y: Tensor) -> Stream:
        scale = self.own if self.own is not None else self.shared
        return stream + scale.alpha * y


@residual(
    "rezero",
    norm="none",
    knobs={"init_alpha": Real(0.0, 0.1), "granularity": OneOf(_GRANULARITIES)},
    paper="ReZero is All You Need: Fast Convergence at Large Depth (2020, 2003.04887)",
)
class ReZero(Rule):
    """x <- x + a_l f(x), a_l = ``init_alpha`` at the start; no norm anywhere.

    With a_l = 0 the stack is the identity and its Jacobian is I; only the a_l have a gradient in the first step.
    ``granularity``: one scalar per ``layer`` (shared by its mixer and channel branch, as published), per ``sublayer``, or one
    vector per sublayer with a factor per ``channel``.
    """

    def __init__(self, spec: TensorSpec, total: int, *, init_alpha: float = 0.0, granularity: Granularity = "layer") -> None:
        super().__init__(spec, total)
        if granularity not in _GRANULARITIES:
            raise BuildError(f'The "granularity" parameter of "rezero" must be layer, sublayer or channel. Got {granularity!r} instead.')
        self.start = init_alpha
        self.granularity = granularity

    def layer(self, index: int) -> nn.Module | None:
        return Scale((), self.start) if self.granularity == "layer" else None

    def write_at(self, k: int, shared: nn.Module | None) -> Write:
        if self.granularity == "layer":
            return ScaledWrite(shared, None)
        shape: tuple[int, ...] = ()
        if self.granularity == "channel":
            shape = (self.spec.width, 1, 1) if self.spec.layout == "image" else (self.spec.width,)
        return ScaledWrite(shared, Scale(shape, self.start))
