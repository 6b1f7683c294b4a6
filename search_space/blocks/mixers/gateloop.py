"""GateLoop: a linear recurrence that each token turns and fades as it wants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.gated_scan import gate_loop_scan
from ...choices import Domain, OneOf
from ...facts import block
from ...specs import TensorSpec
from ..initialise import chosen, linear
from .directions import scan_channels
from .heads import checked_heads, refuse_state

_BOOL = OneOf((True, False))
_PHASES, _MAGNITUDES = ("data", "fixed", "none"), ("data", "fixed")
_KNOBS: dict[str, Domain] = {
    "heads": OneOf((1, 4, "max")),
    "phase": OneOf(_PHASES),
    "magnitude": OneOf(_MAGNITUDES),
    "input_gate": _BOOL,
    "causal": _BOOL,
}


@block(
    "gateloop",
    "mixer",
    knobs=_KNOBS,
    keeps_zero=True,
    paper="GateLoop: Fully Data-Controlled Linear Recurrence for Sequence Modeling (2023, 2311.01927)",
)
class GateLoop(nn.Module):
    """Linear attention whose memory fades and turns by gates that the input sets.

    ``S_t = diag(a_t) S_{t-1} + k_t v_t'`` and ``r_t = Re(S_t' q_t)`` per head with q, k, v linear in x and
    ``a_t = sigmoid(alpha_t) exp(i beta_t)``; ``y_t = W_o (LayerNorm(r_t) * silu(W_g x_t))``. alpha and beta are linear in x
    (``data``) or learned numbers (``fixed``); ``phase="none"`` is beta = 0. ``input_gate`` multiplies k by ``1 - |a|``.
    ``heads="max"`` has one channel per head, ``h_t = a_t h_{t-1} + k_t v_t`` and ``r_t = Re(q_t h_t)``, which is by far the
    cheapest. |a| starts spread over [0.9, 0.999]. With ``causal=False`` the second half of all rows of the memories runs
    backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: S, complex, [B, D * D / heads].
    Cost per token: 14 D^2 operations and 7 D^2 parameters with both gates from data (2 D^2 and D^2 less for each that is not),
    and about 20 D^2 / heads operations of the recurrence.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int | str = "max",
        phase: str = "data",
        magnitude: str = "data",
        input_gate: bool = False,
        causal: bool = True,
    ) -> None:
        super().__init__()
        width = spec.width
        self.heads = width if heads == "max" else checked_heads("gateloop", width, heads)  # type: ignore[arg-type]
        self.phase, self.magnitude = chosen("gateloop", "phase", phase, _PHASES), chosen("gateloop", "magnitude", magnitude, _MAGNITUDES)
        self.input_gate, self.causal = input_gate, causal
        self.query, self.key = linear(width, width, bias=False), linear(width, width, bias=False)
        self.value, self.gate = linear(width, width, bias=False), linear(width, width, bias=False)
        # A start away from large turns: phases drawn anew at every step average the memory away.
        self.turn = linear(width, width, bias=False, variance=0.01) if phase == "data" else None
        self.fade = linear(width, width, bias=False, variance=0.1) if magnitude == "data" else None
        self.angle = nn.Parameter(10000.0 ** (-torch.arange(width) / width)) if phase == "fixed" else None
        self.logit = nn.Parameter(torch.logit(torch.linspace(0.9, 0.999, width)))
        self.norm, self.out = nn.LayerNorm(width), linear(width, width, bias=False)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of |a| and the phases, each [B, T, D]."""
        magnitude = self.logit.expand(x.shape) if self.fade is None else self.fade(x) + self.logit
        if self.turn is not None:
            return magnitude, self.turn(x)
        return magnitude, torch.zeros_like(x) if self.angle is None else self.angle.expand(x.shape)

    def retrieve(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """All r, [B, T, D], and the last S."""
        magnitude, phase = self.gates(x)
        tensors = (self._rows(magnitude), self._rows(phase), self._rows(self.key(x)), self._columns(self.value(x)))
        states, last = scan_channels(gate_loop_scan, tensors, state, causal=self.causal, input_gate=self.input_gate)
        size = x.shape[-1] // self.heads
        memory, query = states.real.unflatten(-1, (self.heads, size, size)), self.query(x).unflatten(-1, (self.heads, size, 1))
        return (memory * query).sum(-2).flatten(2), last

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("gateloop", self.causal, state)
        r, last = self.retrieve(x, state)
        return self.out(self.norm(r) * F.silu(self.gate(x))), last, {}

    def _rows(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D * D / heads]: a number for each row of every head's memory, in all its columns."""
        x = x.unflatten(-1, (self.heads, -1, 1))
        return x.expand(*x.shape[:-1], x.shape[-2]).flatten(2)

    def _columns(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D * D / heads]: a number for each column, in all its rows."""
        x = x.unflatten(-1, (self.heads, 1, -1))
        return x.expand(*x.shape[:-2], x.shape[-1], x.shape[-1]).flatten(2)
