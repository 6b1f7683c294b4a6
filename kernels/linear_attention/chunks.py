"""A sequence as chunks of rows, and the states between the chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunks:
    """``count`` chunks of ``size`` rows; a tensor in flat chunks is (count * batch * heads, size, width)."""

    batch: int
    steps: int
    heads: int
    size: int

    @staticmethod
    def of(q: Tensor, most: int) -> Chunks:
        """As even as possible, so that little is padded."""
        batch, steps, heads, _ = q.shape
        count = -(-steps // min(most, steps))
        return Chunks(batch, steps, heads, -(-steps // count))

    @property
    def count(self) -> int:
        return -(-self.steps // self.size)

    def split(self, tensor: Tensor, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        """(batch, steps, heads, width) times ``scale`` as new flat chunks; rows after the last step are zero."""
        made = torch.empty(self._shape(tensor.shape[-1]), dtype=dtype, device=tensor.device)
        for here, there in self._views(tensor, made):
            torch.mul(here, scale, out=there) if scale != 1.0 and here.dtype == dtype else there.copy_(here).mul_(scale)
        left = self.count * self.size - self.steps
        if left:
            made[-1, :, :, self.size - left :] = 0
        return made.flatten(0, 2)

    def merge(self, chunks: Tensor, dtype: torch.dtype, spent: Tensor | None = None) -> Tensor:
        """Flat chunks as (batch, steps, heads, width), in the memory of ``spent`` if that fits: fresh pages cost as much as the copy."""
        width = chunks.shape[-1]
        shape = (self.batch, self.steps, self.heads, width)
        if spent is not None and spent.dtype == dtype and spent.numel() == self.batch * self.steps * self.heads * width:
            made = spent.view(shape)
        else:
            made = torch.empty(shape, dtype=dtype, device=chunks.device)
        for there, here in self._views(made, chunks.view(self._shape(width))):
            there.copy_(here)
        return made

    def _shape(self, width: int) -> tuple[int, ...]:
        return self.count, self.batch, self.heads, self.size, width

    def _views(self, sequence: Tensor, chunks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The same elements of both: the whole chunks, then what a short last chunk holds."""
        whole, rest = divmod(self.steps, self.size)
        if whole:
            yield sequence[:, : whole * self.size].unflatten(1, (whole, self.size)).permute(1, 0, 3, 2, 4), chunks[:whole]
        if rest:
            yield sequence[:, whole * self.size :].transpose(1, 2), chunks[whole, :, :, :rest]

    def carried(self, start: Tensor | None, keys: Tensor, values: Tensor, total: Tensor | None, post: Tensor | None) -> Tensor:
        """States (count + 1, batch * heads, K, V) from the first chunk's beginning to the last one's end: decayed, plus keys^T values."""
        states = self._room(keys, values)
        states[0] = 0 if start is None else start.flatten(0, 1)
        _products(keys, values, post, states[1:])
        total = self._by_chunk(total)
        for n in range(self.count):
            _decayed(states[n + 1], states[n], total, n)
        return states

    def carried_back(self, end: Tensor | None, queries: Tensor, cotangents: Tensor, total: Tensor | None, pre: Tensor | None) -> Tensor:
        """Gradients of those states, from the last one's to the first one's."""
        states = self._room(queries, cotangents)
        states[-1] = 0 if end is None else end.flatten(0, 1)
        _products(queries, cotangents, pre, states[:-1])
        total = self._by_chunk(total)
        for n in reversed(range(self.count)):
            _decayed(states[n], states[n + 1], total, n)
        return states

    def _by_chunk(self, total: Tensor | None) -> Tensor | None:
        return None if total is None else total.unflatten(0, (self.count, -1))

    def _room(self, left: Tensor, right: Tensor) -> Tensor:
        return left.new_empty(self.count + 1, self.batch * self.heads, left.shape[-1], right.shape[-1])


def _products(left: Tensor, right: Tensor, factor: Tensor | None, out: Tensor) -> None:
    flat = out.flatten(0, 1)
    torch.bmm(left.mT, right, out=flat)
    if factor is not None:
        flat.mul_(factor)


def _decayed(state: Tensor, before: Tensor, total: Tensor | None, n: int) -> None:
    """state += decay over chunk n times the state before it."""
    if total is None:
        state.add_(before)
    else:
        state.addcmul_(total[n], before)
