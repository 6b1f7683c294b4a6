"""What mixers with a matrix per head as their memory share: heads that run backwards, and the norm of what a head reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....kernels.linear_attention import linear_attention
from ...errors import BuildError

TRANSITIONS = ("positive", "signed")
_LEAST = 1e-6  # magnitude of a signed transition: its logarithm has to be finite


def checked_directions(block: str, heads: int, causal: bool) -> int:
    """``heads`` if they can be shared out among the directions.

    Raises:
        BuildError: half of them should run backwards and there is an odd number.
    """
    if not causal and heads % 2:
        raise BuildError(f'"{block}" with causal=False runs half of its heads backwards; choose an even number of heads, not {heads}.')
    return heads


def fitting_heads(inner: float, head_dim: int, causal: bool) -> int:
    """How many heads of ``head_dim`` channels come nearest to ``inner``: at least one, and one for each direction."""
    directions = 1 if causal else 2
    return max(1, round(inner / head_dim / directions)) * directions


def turned(x: Tensor, causal: bool) -> Tensor:
    """[batch, tokens, ..., heads, width] with the second half of the heads in reversed time; all as they are where causal.

    Done twice it undoes itself.
    """
    if causal:
        return x
    ahead, back = x.chunk(2, dim=-2)
    return torch.cat([ahead, back.flip(1)], dim=-2)


def decaying_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None, *, transition: str, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """:func:`archwright.kernels.linear_attention` with ``a = e^g`` (``positive``) or ``a = 2 e^g - 1`` in (-1, 1) (``signed``).

    ``a_{j+1} ... a_t = c_j c_t |a_{j+1}| ... |a_t|`` with ``c`` the running product of the signs, which queries and keys take with
    them, so that the kernel sees magnitudes alone. "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues"
    (2024, 2411.12537).

    Args:
        log_decay: g, [batch, tokens, heads, 1 or width of the keys].
    """
    signs = None
    if transition == "signed":
        a = 1.0 + 2.0 * torch.expm1(log_decay)
        log_decay = a.abs().clamp(min=_LEAST).log()
        signs = torch.where(a.detach() < 0, -1.0, 1.0).to(k.dtype).cumprod(1)
        q, k = q * signs, k * signs
    o, memory = linear_attention(q, k, v, log_decay.squeeze(-1), state, scale=scale)
    return o, memory if signs is None else memory * signs[:, -1, :, :, None].to(memory.dtype)


class HeadNorm(nn.Module):
    """``g x / sqrt(mean(x^2) + eps)`` over the channels of each head, with a gain for each; ``centred`` takes their mean away first.

    Shapes: [..., heads, width] -> [..., heads * width].
    """

    def __init__(self, heads: int, width: int, *, centred: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.centred, self.eps = centred, eps
        self.gain = nn.Parameter(torch.ones(heads, width))

    def forward(self, x: Tensor) -> Tensor:
        norm = F.layer_norm if self.centred else F.rms_norm
        return (norm(x, x.shape[-1:], eps=self.eps) * self.gain).flatten(-2)


def checked_values(block: str, width: int, heads: int) -> int:
    """The channels each of ``heads`` reads, ``width / heads``.

    Raises:
        BuildError: a head would have a single one, of which the norm leaves nothing but the sign.
    """
    if width // heads < 2:
        raise BuildError(f'"{block}" needs heads of two channels or more; {heads} heads on {width} channels leave one. Choose fewer heads.')
    return width // heads
