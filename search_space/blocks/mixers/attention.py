"""Softmax attention, with values that may come from an earlier layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...choices import Domain, Integer, OneOf, Real
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import chosen, linear
from .heads import appended, attend, checked_heads, merge, refuse_state, split

_VALUES = ("own", "resformer", "resformer-learned", "svformer")
_KNOBS: dict[str, Domain] = {"heads": Integer(1, 8), "causal": OneOf((True, False)), "values": OneOf(_VALUES), "lambda1": Real(0.0, 1.0)}
Ports = dict[str, Tensor]


@block(
    "attention",
    "mixer",
    knobs=_KNOBS,
    takes=("values",),
    outputs=("values",),
    keeps_zero=True,
    paper="Attention Is All You Need (2017, 1706.03762)",
)
class Attention(nn.Module):
    """Each token reads the others in proportion to how well its query fits their keys.

    ``y = softmax(Q K' / sqrt(d)) V' W_o`` per head, Q = x W_q, K = x W_k, V = x W_v, d = D / heads. Where the port ``values`` is
    wired to an earlier layer's V_1, ``values`` says what V' is ("Value Residual Learning", 2024, 2410.17897):

    ===================== ====================================================================
    ``own``               V' = V
    ``resformer``         V' = lambda1 V_1 + lambda2 V, lambda2 = 1 - lambda1 unless given
    ``resformer-learned`` the same with both scalars learned from 0.5
    ``svformer``          V' = V_1; there is no W_v, and only keys are kept per layer
    ===================== ====================================================================

    The port carries V' of all tokens so far, [B, past + T, D] with heads side by side, so that a taker needs no cache of it.
    Shapes: [B, T, D] -> [B, T, D]. State: keys [B, past, D] and values (``svformer``: keys alone).
    Cost per token: 8 D^2 + 4 T D operations, 4 D^2 parameters (``svformer``: 3 D^2).
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int = 4,
        causal: bool = True,
        values: str = "own",
        lambda1: float = 0.5,
        lambda2: float | None = None,
    ) -> None:
        super().__init__()
        width = spec.width
        self.heads, self.causal = checked_heads("attention", width, heads), causal
        self.values = chosen("attention", "values", values, _VALUES)
        self.query, self.key = linear(width, width, bias=False), linear(width, width, bias=False)
        self.value = linear(width, width, bias=False) if values != "svformer" else None
        self.out = linear(width, width, bias=False)
        self.lambdas: Tensor | tuple[float, float] = (lambda1, 1.0 - lambda1 if lambda2 is None else lambda2)
        if values == "resformer-learned":
            self.lambdas = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, x: Tensor, state: tuple[Tensor, ...] | None = None, values: Tensor | None = None) -> tuple[Tensor, Any, Ports]:
        refuse_state("attention", self.causal, state)
        keys = appended(state[0] if state else None, self.key(x))
        used = self._values(x, state, values)
        heads = (split(part, self.heads) for part in (self.query(x), keys, used))
        y = self.out(merge(attend(*heads, causal=self.causal)))
        new_state = (keys,) if self.value is None else (keys, used)
        return y, new_state if self.causal else None, {"values": used}

    def _values(self, x: Tensor, state: tuple[Tensor, ...] | None, given: Tensor | None) -> Tensor:
        """V' of all tokens so far, [batch, past + tokens, width]."""
        if self.value is None:
            if given is None:
                raise BuildError('"attention" with values="svformer" has no values of its own; wire its port "values" to an earlier layer.')
            return given
        new = self.value(x)
        if self.values != "own" and given is not None:
            new = self.lambdas[0] * given[:, -x.shape[1] :] + self.lambdas[1] * new
        return appended(state[1] if state else None, new)
