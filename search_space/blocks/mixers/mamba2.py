"""Mamba-2: a selective state space with one decay per head and token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...choices import Domain, OneOf
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .heads import refuse_state
from .matrix_memory import TRANSITIONS, HeadNorm, decaying_attention, fitting_heads, turned
from .selective import Decay
from .short_conv import ShortConv

_KNOBS: dict[str, Domain] = {
    "expand": OneOf((1, 2)),
    "head_dim": OneOf((16, 32, 64)),
    "state": OneOf((16, 64, 128)),
    "conv": OneOf((0, 4)),
    "transition": OneOf(TRANSITIONS),
    "causal": OneOf((True, False)),
}


@block(
    "mamba2",
    "mixer",
    knobs=_KNOBS,
    paper="Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality (2024, 2405.21060)",
)
class Mamba2(nn.Module):
    """A state space whose step, input and output maps the tokens choose: it remembers long, and lets the input decide what.

    E = H P channels in H heads of P = ``head_dim`` (as many heads as come nearest to expand D), a state of N per channel:
    ``z = W_z x``, ``[u, B, C] = silu(ShortConv(W x))`` (``conv`` is its window, 0 for none; B and C are shared by the heads),
    ``delta = softplus(W_d x + b)``, ``a = exp(-delta A)`` per head, ``h_t = a_t h_{t-1} + delta_t B_t' u_t``,
    ``y_t = C_t h_t + d u_t``, out ``= RMSNorm(y * silu(z)) W_o``. A starts uniform in [1, 16], softplus(b) log-uniform in
    [0.001, 0.1], d at 1. ``transition="signed"`` puts 2 a - 1 in the place of a, which can turn the state's sign and so count
    ("Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", 2024, 2411.12537). With ``causal=False`` half of the
    heads run backwards and the convolution is centred.
    Shapes: [B, T, D] -> [B, T, D]. State: the convolution's last inputs (or None) and h, [B, H, N, P].
    Parameters: about (3 E + 2 N) D; cost per token: twice that and about 6 N E operations.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        expand: float = 2,
        head_dim: int = 32,
        state: int = 64,
        conv: int = 4,
        transition: str = "positive",
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not expand > 0:
            raise BuildError(f'The "expand" parameter of "mamba2" must be above 0. Got {expand!r} instead.')
        checked("mamba2", "head_dim", head_dim)
        self.transition = chosen("mamba2", "transition", transition, TRANSITIONS)
        self.heads, self.causal = fitting_heads(expand * spec.width, head_dim, causal), causal
        inner = self.heads * head_dim
        self.sizes = [inner, checked("mamba2", "state", state), state]
        self.enter, self.gate = linear(spec.width, sum(self.sizes), bias=False), linear(spec.width, inner, bias=False)
        self.conv = ShortConv(sum(self.sizes), conv, causal=causal) if checked("mamba2", "conv", conv, low=0) else None
        self.decay = Decay(spec.width, self.heads)
        self.skip = nn.Parameter(torch.ones(self.heads, 1))
        self.norm = HeadNorm(1, inner)
        self.out = linear(inner, spec.width, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor | None, Tensor] | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("mamba2", self.causal, state)
        past, memory = state or (None, None)
        mixed = self.enter(x)
        if self.conv is not None:
            mixed, past = self.conv(mixed, past)
        u, keys, queries = F.silu(mixed).split(self.sizes, dim=-1)
        delta, log_decay = (part.unsqueeze(-1) for part in self.decay(x))
        u = u.unflatten(-1, (self.heads, -1))
        q, k = (part.unsqueeze(2).expand(-1, -1, self.heads, -1) for part in (queries, keys))
        q, k, v, log_decay = (turned(part, self.causal) for part in (q, k, (delta * u).to(u.dtype), log_decay))
        y, memory = decaying_attention(q, k, v, log_decay, memory, transition=self.transition, scale=1.0)
        y = (turned(y, self.causal) + self.skip * u).flatten(-2)
        y = self.out(self.norm((y * F.silu(self.gate(x))).unsqueeze(-2)))
        return y, (past, memory) if self.causal else None, {}
