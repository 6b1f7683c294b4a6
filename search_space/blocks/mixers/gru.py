"""The gated recurrent unit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.rnn import rnn
from ...choices import OneOf
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from .heads import refuse_state


@block(
    "gru",
    "mixer",
    knobs={"causal": OneOf((True, False))},
    paper="Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (2014, 1406.1078)",
)
class GRU(nn.Module):
    """A recurrence whose gates read its own state, so it can count and switch, one token after the other.

    ``r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)``, ``z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)``,
    ``n_t = tanh(W_n x_t + b_n + r_t (U_n h_{t-1} + c_n))``, ``h_t = (1 - z_t) n_t + z_t h_{t-1}``, ``y_t = h_t``.
    With ``causal=False`` one half of the channels runs forwards and the other backwards (the width must be even).
    Shapes: [B, T, D] -> [B, T, D]. State: h, [B, D].
    Cost per token: 12 D^2 operations, 6 D^2 + 6 D parameters (``causal=False``: three quarters of the weights).
    """

    def __init__(self, spec: TensorSpec, *, causal: bool = True) -> None:
        super().__init__()
        width = spec.width
        if not causal and width % 2:
            raise BuildError(f'"gru" with causal=False splits its width into two directions; {width} is odd.')
        self.causal = causal
        self.cell = nn.GRU(width, width if causal else width // 2, batch_first=True, bidirectional=not causal)
        self._initialise()

    def _initialise(self) -> None:
        """Input weights from N(0, 1/D), recurrent ones orthogonal gate by gate, biases zero."""
        for name, parameter in self.cell.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("weight_ih"):
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            else:
                for gate in parameter.detach().chunk(3):
                    nn.init.orthogonal_(gate)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("gru", self.causal, state)
        if x.is_cuda or (x.is_meta and not torch.is_grad_enabled()):  # cuDNN's own; or only the shapes are asked for
            y, last = self.cell(x, None if state is None else state.unsqueeze(0))
            return y, last[0] if self.causal else None, {}
        runs = [self._run(x, state, suffix) for suffix in ("",) + (() if self.causal else ("_reverse",))]
        return torch.cat([y for y, _ in runs], -1), runs[0][1] if self.causal else None, {}

    def _run(self, x: Tensor, state: Tensor | None, suffix: str) -> tuple[Tensor, Tensor]:
        """One direction by PyTorch's parameters: outputs [B, T, width] and the final state [B, width]."""
        weight, recurrent, bias, own = (
            getattr(self.cell, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        width = self.cell.hidden_size
        gates = F.linear(x, weight, bias).unflatten(-1, (3, 1, width))
        before = None if state is None else state[None, :, None]
        h, last = rnn(gates, recurrent.view(3, 1, width, width), own.view(3, 1, width), before, cell="gru", reverse=bool(suffix))
        return h.squeeze(2), last[0, :, 0]
