"""Multi-scale retention: linear attention that forgets at a fixed rate per head, with rotated queries and keys."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.linear_attention import linear_attention
from ...choices import Domain, OneOf
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .heads import checked_heads, refuse_state
from .matrix_memory import HeadNorm, checked_directions, checked_values, turned

_DECAYS = ("fixed-multiscale", "learned", "none")
_KNOBS: dict[str, Domain] = {
    "heads": OneOf((1, 2, 4, 8)),
    "value_mult": OneOf((1, 2)),
    "rotary": OneOf((True, False)),
    "decay": OneOf(_DECAYS),
    "causal": OneOf((True, False)),
}


@block(
    "retention",
    "mixer",
    knobs=_KNOBS,
    keeps_zero=True,
    paper="Retentive Network: A Successor to Transformer for Large Language Models (2023, 2307.08621)",
)
class Retention(nn.Module):
    """Linear attention with one fixed rate of forgetting per head, from a memory of 32 tokens upwards.

    Per head h = 0, 1, ..., with keys of K = D / heads and values of V = value_mult D / heads channels:
    ``S_t = gamma_h S_{t-1} + k_t' v_t``, ``o_t = q_t S_t / sqrt(K)``, ``gamma_h = 1 - 2^(-5 - h)``, and
    ``y = (silu(x W_g) * LayerNorm(o)) W_o``, the norm over each head without a bias. ``decay="learned"`` learns gamma from there,
    ``"none"`` has gamma = 1. ``rotary`` turns pairs of the channels of q and k by an angle that grows with the position, so that
    their product knows the distance. With ``causal=False`` half of the heads run backwards (their number must be even).
    Shapes: [B, T, D] -> [B, T, D]. State: S, [B, heads, K, V], turned so that positions may start at 0 again.
    Parameters: (2 + 3 value_mult) D^2; cost per token: twice that and about 6 value_mult D^2 / heads operations.
    """

    forgotten: Tensor

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int = 4,
        value_mult: int = 1,
        rotary: bool = True,
        decay: str = "fixed-multiscale",
        causal: bool = True,
    ) -> None:
        super().__init__()
        width = spec.width
        heads = checked_directions("retention", checked_heads("retention", width, heads), causal)
        values = width * checked("retention", "value_mult", value_mult)
        self.heads, self.rotary, self.causal = heads, rotary, causal
        self.decay = chosen("retention", "decay", decay, _DECAYS)
        self.query, self.key = linear(width, width, bias=False), linear(width, width, bias=False)
        self.value, self.gate = linear(width, values, bias=False), linear(width, values, bias=False)
        scales = [2.0 ** -(5 + head) for head in range(heads if causal else heads // 2)] * (1 if causal else 2)
        if decay == "fixed-multiscale":
            self.register_buffer("forgotten", torch.tensor(scales), persistent=False)  # 1 - gamma, exact in every dtype
        elif decay == "learned":
            self.log_odds = nn.Parameter(torch.tensor([math.log((1 - scale) / scale) for scale in scales]))
            self.log_odds.no_weight_decay = True  # type: ignore[attr-defined]
        self.norm = HeadNorm(heads, checked_values("retention", values, heads), centred=True)
        self.out = linear(values, width, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("retention", self.causal, state)
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.query, self.key, self.value))
        steps = x.shape[1]
        if self.rotary:
            positions = torch.arange(steps, device=x.device)[:, None, None]
            q, k = rotated(q, positions), rotated(k, positions)
        q, k, v = (turned(part, self.causal) for part in (q, k, v))
        o, memory = linear_attention(q, k, v, self._log_decay(), state)
        y = self.out(F.silu(self.gate(x)) * self.norm(turned(o, self.causal)))
        if not self.causal:
            return y, None, {}
        if self.rotary:
            memory = rotated(memory.mT, torch.full((1, 1), -steps, device=x.device)).mT
        return y, memory, {}

    def _log_decay(self) -> Tensor | None:
        if self.decay == "none":
            return None
        return F.logsigmoid(self.log_odds) if self.decay == "learned" else torch.log1p(-self.forgotten)


def rotated(x: Tensor, positions: Tensor) -> Tensor:
    """Channel i and channel i + half turned by ``position * 10000 ** (-i / half)``, half = width // 2; an odd last one stays.

    Args:
        x: [..., width].
        positions: [..., 1], broadcast against ``x``.
    """
    half = x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=dtype) / max(1, half))
    angles = positions.to(dtype) * rates
    cos, sin = angles.cos(), angles.sin()
    left, right, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos, rest.to(dtype)], dim=-1).to(x.dtype)
