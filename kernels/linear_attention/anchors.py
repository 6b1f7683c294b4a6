"""A decay per channel: the decay between rows i and j is a factor of row i times a factor of row j, both finite.

Mild decays take one anchor, the middle row of the chunk: with half a chunk of the strongest decay within ``e^-REACH``, no factor leaves
``e^+-REACH``. Any other decay takes one anchor per pair of rows: written in binary, i and j part at their highest different bit, and
the row where that bit turns from 0 to 1 lies between them. All pairs that part at one bit are one product of matrices, so that a chunk
of C rows takes log2 C of them, and every factor is at most one, whatever the decays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

REACH = 40.0  # e^40 times e^-40 leaves float32 room for inputs up to 1e20
STRONG_CHUNK = 16


@dataclass(frozen=True)
class Anchors:
    """Factors (levels, chunks, C, K) of queries and keys; the last level also serves the state before and after the chunk.

    Args:
        pre: (chunks, K, 1) the state before the chunk is multiplied by, or None for one.
        post: (chunks, K, 1) what leaves the chunk is multiplied by, or None for one.
        total: the decay over each chunk, (chunks, K, 1).
    """

    query: Tensor
    key: Tensor
    pre: Tensor | None
    post: Tensor | None
    total: Tensor


def strongest(log_decay: Tensor) -> float:
    """The largest decay, read from the device: not for CUDA."""
    return -float(log_decay.amin())


def fitting(log_decay: Tensor, most: int) -> int:
    """The largest chunk, ``most`` rows or that halved, that one anchor in its middle can serve; 0 if that is less than 8."""
    if log_decay.is_cuda:
        return 0
    if log_decay.is_meta:  # shapes alone, as mild decays have them
        return most
    strength, size = strongest(log_decay), most
    while size >= 16 and not strength * (size // 2) <= REACH:
        size //= 2
    return size if strength * (size // 2) <= REACH else 0


def middle(log_decay: Tensor) -> Anchors:
    """One anchor for flat chunks (chunks, C, K). Rows are multiplied one by one from the middle outwards, in float64 on the way."""
    decay = log_decay.exp().double()
    size = decay.shape[1]
    anchor = (size - 1) // 2
    query = torch.empty_like(decay)
    query[:, anchor] = 1
    for i in range(anchor + 1, size):
        torch.mul(query[:, i - 1], decay[:, i], out=query[:, i])
    for i in reversed(range(anchor)):
        torch.div(query[:, i + 1], decay[:, i + 1], out=query[:, i])
    pre, post = decay[:, 0] / query[:, 0], query[:, -1]
    ends = [made.to(log_decay.dtype).unsqueeze(-1) for made in (pre, post, pre * post)]
    return Anchors(query.to(log_decay.dtype)[None], query.reciprocal().to(log_decay.dtype)[None], *ends)


def halving(log_decay: Tensor) -> Anchors:
    """One level per bit, then one for the state, for flat chunks (chunks, C, K); a row follows from its neighbour but at an anchor."""
    decay = log_decay.exp()
    size = decay.shape[1]
    query = decay.new_empty(levels(size) + 1, *decay.shape)
    key = torch.empty_like(query)
    query[:-1, :, 0], query[-1, :, 0], key[:, :, -1] = 1, decay[:, 0], 1
    for row in range(1, size):
        parted = (row & -row).bit_length()  # levels that have an anchor in this row
        query[:parted, :, row] = 1
        torch.mul(query[parted:, :, row - 1], decay[:, row], out=query[parted:, :, row])
    for row in reversed(range(1, size)):
        parted = (row & -row).bit_length()
        key[:parted, :, row - 1] = decay[:, row]
        torch.mul(key[parted:, :, row], decay[:, row], out=key[parted:, :, row - 1])
    return Anchors(query, key, None, None, query[-1, :, -1].unsqueeze(-1).clone())


def levels(size: int) -> int:
    return (size - 1).bit_length()


def meeting(size: int, like: Tensor) -> Tensor:
    """(levels, C, C): 1 where the query of row i and the key of row j < i part at this bit."""
    row, column = torch.arange(size)[:, None], torch.arange(size)[None, :]
    pairs = [((row >> level) == (column >> level) + 1) & ((column >> level) % 2 == 0) for level in range(levels(size))]
    return (torch.stack(pairs) if pairs else torch.zeros(0, size, size)).to(like)
