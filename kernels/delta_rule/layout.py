"""Sequences as chunks: (batch, steps, heads, width) to contiguous (chunks, batch * heads, rows, width) and back; decays inside a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


def chunked(x: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """(batch, steps, heads, width) into ``out``, (chunks, batch * heads, rows, width); the last chunk is filled up with zeros."""
    batch, steps, heads, width = x.shape
    chunks = -(-steps // rows)
    if steps % rows:
        x = pad(x, (0, 0, 0, 0, 0, chunks * rows - steps))
    out = torch.empty((chunks * batch * heads, rows, width), dtype=dtype, device=x.device)
    out.view(chunks, batch, heads, rows, width).copy_(x.view(batch, chunks, rows, heads, width).permute(1, 0, 3, 2, 4))
    return out


def joined(x: Tensor, like: Tensor) -> Tensor:
    """(chunks, batch * heads, rows, width) as (batch, steps, heads, width), contiguous, in the shape and dtype of ``like``."""
    batch, steps, heads, width = like.shape
    rows = x.shape[1]
    chunks = x.shape[0] // (batch * heads)
    whole = torch.empty((batch, chunks, rows, heads, width), dtype=like.dtype, device=like.device)
    whole.copy_(x.view(chunks, batch, heads, rows, width).permute(1, 0, 3, 2, 4))
    return whole.view(batch, chunks * rows, heads, width)[:, :steps]


@dataclass(frozen=True)
class Decay:
    """The factors by which a state shrinks inside a chunk, none above 1.

    The exponent of each pair is the sum of the log decays between the two, never a difference of sums from the start: one strong decay
    would take the digits of all mild ones after it.

    Args:
        pairs: (..., rows, rows), from step j (exclusive) to step i; zero above the diagonal.
        enter: (..., rows, 1), from before the chunk to step i.
        leave: (..., rows, 1), from step i (exclusive) to the end of the chunk.
        whole: (..., 1, 1), over the chunk.
    """

    pairs: Tensor
    enter: Tensor
    leave: Tensor
    whole: Tensor

    @classmethod
    def of(cls, log_decay: Tensor, rows: int, dtype: torch.dtype) -> Decay:
        gates = chunked(log_decay[..., None], rows, dtype)
        pairs = gates.expand(-1, -1, rows).tril(-1).cumsum(1).exp_().tril_()
        enter = gates.cumsum(1).exp_()
        return cls(pairs, enter, pairs[:, -1:].mT.contiguous(), enter[:, -1:].clone())
