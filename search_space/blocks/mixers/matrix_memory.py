"""What mixers with a matrix per head as their memory share: heads that run backwards, and the norm of what a head reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import BuildError


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
