"""The recurrent block of Griffin: a short convolution and a real-gated linear recurrent unit under an output gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.gated_scan import rg_lru_scan
from ...choices import Domain, OneOf, Real
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, largest_divisor, linear, scaled_width
from .heads import refuse_state
from .short_conv import ShortConv

_KNOBS: dict[str, Domain] = {
    "ratio": Real(1.0, 2.0),
    "conv": OneOf((0, 2, 4)),
    "c": Real(1.0, 16.0),
    "gate_blocks": OneOf((1, 2, 4, 8, 16)),
    "causal": OneOf((True, False)),
}


class RealGatedLRU(nn.Module):
    """``h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t x_t)`` with ``a_t = sigmoid(Lambda) ** (c r_t)``, per channel.

    The gates ``r_t = sigmoid(W_a x_t + b_a)`` and ``i_t = sigmoid(W_x x_t + b_x)`` read the input alone (block-diagonal weights),
    so all steps are one scan. ``Lambda`` starts so that ``sigmoid(Lambda) ** c`` is uniform in [0.9, 0.999].
    Unit-variance white inputs keep the state at unit variance. State: h, [B, width].
    """

    def __init__(self, width: int, *, c: float = 8.0, gate_blocks: int = 4, reverse: bool = False) -> None:
        super().__init__()
        self.c, self.reverse = c, reverse
        self.blocks = largest_divisor(width, gate_blocks)
        inside = width // self.blocks
        self.gate_weight = nn.Parameter(torch.empty(self.blocks, inside, 2 * inside).normal_(std=inside**-0.5))
        self.gate_bias = nn.Parameter(torch.zeros(self.blocks, 2 * inside))
        decay = torch.empty(width).uniform_(0.9, 0.999)
        self.log_odds = nn.Parameter(-torch.log(torch.expm1(-torch.log(decay) / c)))
        self.log_odds.no_weight_decay = True  # type: ignore[attr-defined]

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        blocks = x.unflatten(-1, (self.blocks, -1))
        pre = torch.einsum("btnk,nko->btno", blocks, self.gate_weight) + self.gate_bias
        recurrence, entry = (part.flatten(2) for part in pre.chunk(2, dim=-1))
        return rg_lru_scan(recurrence, entry, x, self.log_odds, state, c=self.c, reverse=self.reverse)


@block("rg-lru", "mixer", knobs=_KNOBS, paper="Griffin: Mixing Gated Linear Recurrences with Local Attention (2024, 2402.19427)")
class RGLRU(nn.Module):
    """A gated diagonal recurrence that remembers for as long as its input tells it to, in constant memory.

    ``u = ShortConv(W_1 x)``, ``g = gelu(W_2 x)``, ``y = W_o (g * RG-LRU(u))`` in ``ratio * D`` channels (rounded to fit the
    blocks of the gates); ``conv`` is the window of the short convolution, 0 for none. See :class:`RealGatedLRU` for the
    recurrence. With ``causal=False`` one half of the channels runs backwards and the convolution is centred.
    Shapes: [B, T, D] -> [B, T, D]. State: the convolution's last inputs (or None) and h.
    Cost per token: about 6 r D^2 + 4 (r D)^2 / blocks operations, half as many parameters.
    """

    def __init__(
        self, spec: TensorSpec, *, ratio: float = 4 / 3, conv: int = 4, c: float = 8.0, gate_blocks: int = 4, causal: bool = True
    ) -> None:
        super().__init__()
        if not c > 0:
            raise BuildError(f'The "c" parameter of "rg-lru" must be above 0. Got {c!r} instead.')
        blocks = checked("rg-lru", "gate_blocks", gate_blocks) * (1 if causal else 2)
        inner = max(1, round(scaled_width("rg-lru", spec.width, ratio) / blocks)) * blocks
        self.causal = causal
        self.enter, self.gate = linear(spec.width, inner), linear(spec.width, inner)
        self.conv = ShortConv(inner, conv, causal=causal) if checked("rg-lru", "conv", conv, low=0) else None
        directions = (False,) if causal else (False, True)
        self.recurrence = nn.ModuleList(
            RealGatedLRU(inner // len(directions), c=c, gate_blocks=gate_blocks, reverse=reverse) for reverse in directions
        )
        self.out = linear(inner, spec.width)

    def forward(self, x: Tensor, state: tuple[Tensor | None, Tensor] | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("rg-lru", self.causal, state)
        past, h = state or (None, None)
        u = self.enter(x)
        if self.conv is not None:
            u, past = self.conv(u, past)
        runs = [run(part, h) for run, part in zip(self.recurrence, u.chunk(len(self.recurrence), dim=-1), strict=True)]
        y = torch.cat([states for states, _ in runs], dim=-1)
        return self.out(y * F.gelu(self.gate(x))), (past, runs[0][1]) if self.causal else None, {}
