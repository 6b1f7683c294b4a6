"""DeltaNet: a matrix memory that writes what it got wrong, so that a new value of a key replaces the old one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.delta_rule import delta_rule
from ...choices import Domain, Integer, OneOf
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .heads import refuse_state
from .matrix_memory import HeadNorm, fitting_heads, turned
from .selective import Decay
from .short_conv import ShortConv

_FEATURES = ("silu", "elu1", "identity")
_NORMS = ("l2", "l1")
_KNOBS: dict[str, Domain] = {
    "head_dim": OneOf((16, 32, 64, 128)),
    "conv": OneOf((0, 4)),
    "beta_max": OneOf((1, 2)),
    "n_householder": Integer(1, 4),
    "gate": OneOf((False, True)),
    "qk_norm": OneOf(_NORMS),
    "feature": OneOf(_FEATURES),
    "causal": OneOf((True, False)),
}


@block(
    "deltanet",
    "mixer",
    knobs=_KNOBS,
    paper="Parallelizing Linear Transformers with the Delta Rule over Sequence Length (2024, 2406.06484)",
)
class DeltaNet(nn.Module):
    """A memory of keys and values in which a key is overwritten, with reflections that can track a state.

    Per head of d = ``head_dim`` channels (as many heads as come nearest to the width D, H d = E channels in all):
    ``S_t = (I - beta_t k_t' k_t) S_{t-1} + beta_t k_t' v_t``, ``o_t = q_t S_t``, ``y = RMSNorm(o) W_o`` with the norm over each
    head; q, k, v are ``ShortConv(W x)`` (``conv`` is its window, 0 for none), v through SiLU, q and k through ``feature`` (SiLU,
    ELU + 1 or nothing) and divided by their L2 or L1 norm; ``beta = beta_max sigmoid(W x + b)``.

    ``beta_max=2`` lets the transition reflect (its eigenvalue 1 - beta reaches -1), which parity needs, and ``n_householder``
    takes that many keys, values and rates per token, one after the other, which gives rotations ("Unlocking State-Tracking in
    Linear RNNs Through Negative Eigenvalues", 2024, 2411.12537; "DeltaProduct: Improving State-Tracking in Linear RNNs via
    Householder Products", 2025, 2502.10297). ``gate`` multiplies S_{t-1} by exp(-softplus(W x + b) A) before each token ("Gated
    Delta Networks: Improving Mamba2 with Delta Rule", 2024, 2412.06464). With ``causal=False`` half of the heads run backwards
    and the convolution is centred. Shapes: [B, T, D] -> [B, T, D]. State: the convolution's last inputs (or None) and S,
    [B, H, d, d]. Parameters: about (2 + 2 n) D E with n = n_householder; cost per token: twice that and about 8 n d E operations.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        head_dim: int = 32,
        conv: int = 4,
        beta_max: float = 1,
        n_householder: int = 1,
        gate: bool = False,
        qk_norm: str = "l2",
        feature: str = "silu",
        causal: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < beta_max <= 2:
            raise BuildError(f'The "beta_max" parameter of "deltanet" must be above 0 and at most 2. Got {beta_max!r} instead.')
        self.head_dim, self.beta_max, self.causal = checked("deltanet", "head_dim", head_dim, low=2), beta_max, causal
        self.factors = checked("deltanet", "n_householder", n_householder)
        self.qk_norm, self.feature = chosen("deltanet", "qk_norm", qk_norm, _NORMS), chosen("deltanet", "feature", feature, _FEATURES)
        self.heads = fitting_heads(spec.width, head_dim, causal)
        inner = self.heads * head_dim
        self.enter = linear(spec.width, (1 + 2 * n_householder) * inner, bias=False)
        self.conv = ShortConv(self.enter.out_features, conv, causal=causal) if checked("deltanet", "conv", conv, low=0) else None
        self.rate = linear(spec.width, n_householder * self.heads)
        self.gate = Decay(spec.width, self.heads) if gate else None
        self.norm = HeadNorm(self.heads, head_dim)
        self.out = linear(inner, spec.width, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor | None, Tensor] | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("deltanet", self.causal, state)
        past, memory = state or (None, None)
        u = self.enter(x)
        if self.conv is not None:
            u, past = self.conv(u, past)
        q, k, v = u.unflatten(-1, (-1, self.heads, self.head_dim)).split([1, self.factors, self.factors], dim=2)
        q, k = self._key(q).expand_as(k), self._key(k)
        beta = self.beta_max * torch.sigmoid(self.rate(x)).unflatten(-1, (self.factors, self.heads, 1))
        q, k, v, beta = (turned(part, self.causal).flatten(1, 2) for part in (q, k, F.silu(v), beta))
        o, memory = delta_rule(q, k, v, beta.squeeze(-1), self._log_decay(x), memory, scale=1.0, normalise=self.qk_norm == "l2")
        y = self.out(self.norm(turned(o[:, self.factors - 1 :: self.factors], self.causal)))
        return y, (past, memory) if self.causal else None, {}

    def _key(self, x: Tensor) -> Tensor:
        if self.feature != "identity":
            x = F.silu(x) if self.feature == "silu" else F.elu(x) + 1.0
        return F.normalize(x, p=1.0, dim=-1, eps=1e-6) if self.qk_norm == "l1" else x

    def _log_decay(self, x: Tensor) -> Tensor | None:
        """[batch, tokens * n_householder, heads]: a token's decay comes before the first of its corrections."""
        if self.gate is None:
            return None
        decay = turned(self.gate(x)[1].unsqueeze(-1), self.causal)
        return F.pad(decay.mT, (0, 0, 0, self.factors - 1)).flatten(1, 2)
