"""Classic recurrences in heads: Elman, GRU, LSTM and sLSTM with block-diagonal recurrent weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.rnn import rnn
from ...choices import Domain, Integer, OneOf
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import chosen, linear
from .heads import checked_heads, refuse_state

_BOOL = OneOf((True, False))
_GATES = {"elman": 1, "gru": 3, "lstm": 4, "slstm": 4}
_KNOBS: dict[str, Domain] = {"cell": OneOf(tuple(_GATES)), "heads": Integer(1, 16), "head_norm": _BOOL, "causal": _BOOL}


@block(
    "headwise-rnn",
    "mixer",
    knobs=_KNOBS,
    paper="FlashRNN: Optimizing Traditional RNNs on Modern Hardware (2024, 2412.07752)",
)
class HeadwiseRNN(nn.Module):
    """A recurrence whose gates read the state of their own head, so it can track states that no linear recurrence can.

    With ``u = W x_t + b + R h_{t-1}`` for each gate, R one matrix per gate and head:

    ========= =====================================================================================================
    ``elman`` ``h = tanh(u)``
    ``gru``   ``r, z = sigmoid(u)``, ``n = tanh(W_n x_t + b_n + r (R_n h_{t-1} + b'_n))``, ``h = (1 - z) n + z h_{t-1}``
    ``lstm``  ``c = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``, ``h = sigmoid(o) tanh(c)``
    ``slstm`` exponential input gate: ``c = sigmoid(f) c_{t-1} + exp(i) tanh(g)``, ``n = sigmoid(f) n_{t-1} + exp(i)``,
              ``h = sigmoid(o) c / n``, all of it relative to the largest exponent so far
    ========= =====================================================================================================

    R starts orthogonal (``slstm``: zero), the bias of the forget gate spread over 3 to 6 in each head. ``head_norm`` normalises
    h in every head, with a scale per channel; an ``slstm`` wants it, since h starts as a long average, hence small.
    With ``causal=False`` one half of the heads runs backwards; there are two at least.
    Shapes: [B, T, D] -> [B, T, D]. State: [B, S, heads, D / heads], h first (and c for ``lstm``; c, n, m for ``slstm``).
    Cost per token: 2 G D^2 (1 + 1 / heads) operations, G D^2 (1 + 1 / heads) parameters for G = 1, 3, 4, 4 gates.
    """

    def __init__(self, spec: TensorSpec, *, cell: str = "lstm", heads: int = 4, head_norm: bool = False, causal: bool = True) -> None:
        super().__init__()
        self.cell, self.causal = chosen("headwise-rnn", "cell", cell, tuple(_GATES)), causal
        self.heads = checked_heads("headwise-rnn", spec.width, heads if causal or heads != 1 else 2)
        self.size, count = spec.width // self.heads, _GATES[cell]
        if head_norm and self.size == 1:
            raise BuildError(
                f'"headwise-rnn" with head_norm=True needs heads of 2 channels at least; {heads} heads have 1. Use fewer heads.'
            )
        self.enter = linear(spec.width, count * spec.width)
        self.recurrent = nn.Parameter(torch.zeros(count, self.heads, self.size, self.size))
        self.bias = nn.Parameter(torch.zeros(self.heads, self.size)) if cell == "gru" else None
        self.scale = nn.Parameter(torch.ones(self.heads, self.size)) if head_norm else None
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.cell != "slstm":
            for matrix in self.recurrent.flatten(0, 1):
                nn.init.orthogonal_(matrix)
        if self.cell in ("lstm", "slstm"):
            forget = self.enter.bias.view(-1, self.heads, self.size)[1]
            forget.copy_(torch.linspace(3.0, 6.0, self.size).expand_as(forget))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("headwise-rnn", self.causal, state)
        gates = self.enter(x).unflatten(-1, (-1, self.heads, self.size))
        if self.causal:
            h, last = self._run(gates, slice(None), None if state is None else state.transpose(0, 1))
        else:
            middle = self.heads - self.heads // 2
            h = torch.cat([self._run(gates, slice(middle))[0], self._run(gates, slice(middle, None), reverse=True)[0]], dim=2)
        if self.scale is not None:
            h = F.layer_norm(h, (self.size,)) * self.scale
        return h.flatten(2), last.transpose(0, 1) if self.causal else None, {}

    def _run(self, gates: Tensor, heads: slice, state: Tensor | None = None, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
        """Some of the heads: outputs [B, T, heads, size] and final states [S, B, heads, size]."""
        # r and z have a bias on the side of the input; that of n stands inside the reset.
        bias = None if self.bias is None else F.pad(self.bias[None, heads], (0, 0, 0, 0, 2, 0))
        return rnn(gates[:, :, :, heads], self.recurrent[:, heads], bias, state, cell=self.cell, reverse=reverse)
