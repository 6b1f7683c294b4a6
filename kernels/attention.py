"""Attention to the neighbourhood, by PyTorch's scaled dot product attention on blocks along the diagonal.

"Longformer: The Long-Document Transformer" (2020, 2004.05150); the decay is that of "Train Short, Test Long: Attention with Linear
Biases Enables Input Length Extrapolation" (2021, 2108.12409).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_BLOCK = 32


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, *, window: int, causal: bool = True, decay: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Softmax attention of every step to the steps less than ``window`` away: ``softmax(scale q k' - decay |t - s|) v``.

    Work and memory grow with steps times window, since only blocks along the diagonal are ever formed.

    Args:
        q, k: (batch, heads, steps, width). v: (batch, heads, steps, any width).
        window: step t reads the steps s with ``t - window < s <= t``, and for ``causal=False`` also those with ``s < t + window``.
        decay: (heads), subtracted from the scores per step of distance; its exponential fades what is read. None is zero.
        scale: of the scores; None is ``width ** -0.5``.

    Returns:
        (batch, heads, steps, width of v) in the dtype of ``q``.

    Raises:
        ValueError: a shape does not fit, or ``window`` is below 1.
    """
    if window < 1:
        raise ValueError(f"local_attention needs a window of at least 1, the step itself. Got {window} instead.")
    if q.dim() != 4 or q.shape != k.shape or q.shape[:3] != v.shape[:3]:
        shapes = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        raise ValueError(f"local_attention needs q, k and v of shape (batch, heads, steps, width). Got {shapes}.")
    if decay is not None and decay.shape != (q.shape[1],):
        raise ValueError(f"local_attention needs one decay per head, shape {(q.shape[1],)}. Got {tuple(decay.shape)} instead.")
    batch, heads, steps, width = q.shape
    if q.numel() == 0 or v.numel() == 0:
        return v.new_zeros(batch, heads, steps, v.shape[-1]) + 0 * (q.sum() + k.sum())
    reach = min(window, steps) - 1
    block = max(min(window, steps), min(steps, _LEAST_BLOCK))
    blocks = -(-steps // block)
    missing = blocks * block - steps
    ahead = 0 if causal else reach
    span = reach + block + ahead

    def banded(x: Tensor) -> Tensor:
        """For every block of steps what its steps may read: (batch, heads * blocks, span, width)."""
        padded = F.pad(x, (0, 0, reach, missing + ahead))
        return padded.unfold(2, span, block).transpose(-1, -2).reshape(batch, heads * blocks, span, x.shape[-1])

    asked = F.pad(q, (0, 0, 0, missing)).reshape(batch, heads * blocks, block, width)
    bias = _bias(steps, block, blocks, reach, ahead, decay, q)
    read = F.scaled_dot_product_attention(asked, banded(k), banded(v), attn_mask=bias, scale=scale)
    return read.reshape(batch, heads, blocks * block, v.shape[-1])[:, :, :steps]


def _bias(steps: int, block: int, blocks: int, reach: int, ahead: int, decay: Tensor | None, q: Tensor) -> Tensor:
    """What is added to the scores, (1, heads * blocks, block, span): minus the decay inside the window, minus infinity outside.

    A step beyond the end, which only fills up the last block, reads others of its kind, so that its softmax is a number.
    """
    heads = q.shape[1]
    t = torch.arange(blocks * block, device=q.device).view(blocks, block, 1)
    first = torch.arange(blocks, device=q.device).view(blocks, 1, 1) * block - reach
    s = first + torch.arange(reach + block + ahead, device=q.device)
    distance = t - s
    inside = (distance <= reach) & (distance >= -ahead) & (((s >= 0) & (s < steps)) | (t >= steps))
    bias = torch.zeros(inside.shape, dtype=q.dtype, device=q.device).masked_fill(~inside, -torch.inf)
    if decay is None:
        return bias.expand(heads, -1, -1, -1).reshape(1, heads * blocks, block, -1)
    faded = (decay.view(heads, 1, 1, 1) * distance.abs()).to(q.dtype)
    return (bias - faded).reshape(1, heads * blocks, block, -1)
