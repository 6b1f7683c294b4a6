"""Gated linear attention: a matrix memory that forgets each key channel at a rate of its own, as the input tells it to."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...choices import Domain, Integer, OneOf, Real
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .heads import checked_heads, refuse_state
from .matrix_memory import TRANSITIONS, HeadNorm, checked_directions, checked_values, decaying_attention, turned

_KNOBS: dict[str, Domain] = {
    "heads": Integer(1, 8),
    "expand_k": OneOf((0.5, 1.0)),
    "expand_v": OneOf((1.0, 2.0)),
    "gate_rank": Integer(4, 32),
    "tau": Real(1.0, 32.0),
    "transition": OneOf(TRANSITIONS),
    "causal": OneOf((True, False)),
}


@block(
    "gla",
    "mixer",
    knobs=_KNOBS,
    keeps_zero=True,
    paper="Gated Linear Attention Transformers with Hardware-Efficient Training (2023, 2312.06635)",
)
class GatedLinearAttention(nn.Module):
    """Linear attention whose memory fades, channel by channel and token by token, as far as the input says.

    Per head, with keys of K = expand_k D / heads and values of V = expand_v D / heads channels (rounded, at least 1):
    ``S_t = diag(alpha_t) S_{t-1} + k_t' v_t``, ``o_t = q_t S_t / sqrt(K)``, ``alpha_t = sigmoid(x_t W_1 W_2 + b) ** (1 / tau)``
    with ``gate_rank`` channels between W_1 and W_2, and ``y = (silu(x W_r + b_r) * LayerNorm(o)) W_o``, the norm over each head
    without a bias. A large ``tau`` remembers for longer. ``transition="signed"`` puts 2 alpha - 1 in the place of alpha, which can
    turn the sign of a channel and so count ("Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", 2024,
    2411.12537). With ``causal=False`` half of the heads run backwards (their number must be even).
    Shapes: [B, T, D] -> [B, T, D]. State: S, [B, heads, K, V].
    Parameters: about (2 expand_k + 3 expand_v) D^2 + (1 + expand_k) gate_rank D; cost per token: twice that and
    about 6 expand_k expand_v D^2 / heads operations.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int = 4,
        expand_k: float = 0.5,
        expand_v: float = 1.0,
        gate_rank: int = 16,
        tau: float = 16.0,
        transition: str = "positive",
        causal: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("expand_k", expand_k), ("expand_v", expand_v), ("tau", tau)):
            if not value > 0:
                raise BuildError(f'The "{name}" parameter of "gla" must be above 0. Got {value!r} instead.')
        width = spec.width
        self.heads, self.causal, self.tau = checked_directions("gla", checked_heads("gla", width, heads), causal), causal, tau
        self.transition = chosen("gla", "transition", transition, TRANSITIONS)
        keys = max(1, round(expand_k * width / heads)) * heads
        values = max(1, round(expand_v * width / heads)) * heads
        self.query, self.key = linear(width, keys, bias=False), linear(width, keys, bias=False)
        self.value, self.gate = linear(width, values, bias=False), linear(width, values)
        rank = checked("gla", "gate_rank", gate_rank)
        self.forget = nn.Sequential(linear(width, rank, bias=False), linear(rank, keys))
        self.norm = HeadNorm(heads, checked_values("gla", values, heads), centred=True)
        self.out = linear(values, width, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("gla", self.causal, state)
        log_decay = F.logsigmoid(self.forget(x)) / self.tau
        parts = (self.query(x), self.key(x), self.value(x), log_decay)
        q, k, v, decay = (turned(part.unflatten(-1, (self.heads, -1)), self.causal) for part in parts)
        o, memory = decaying_attention(q, k, v, decay, state, transition=self.transition)
        y = self.out(F.silu(self.gate(x)) * self.norm(turned(o, self.causal)))
        return y, memory if self.causal else None, {}
