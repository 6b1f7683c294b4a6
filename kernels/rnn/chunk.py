"""Buffers for a chunk of steps, (heads, steps, batch, ...), and the views of each step, made once and used for every chunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

# elements of all gates in a chunk: it stays in the second-level cache, and its matrix products are large enough to be efficient
_ELEMENTS = 1 << 18


class Chunk:
    """Buffers of up to ``steps`` steps of one call; those of states have one step more, since a state lies before the first.

    One head needs no batched product: its views drop the axis of heads.
    """

    def __init__(self, gates: Tensor, dtype: torch.dtype, reverse: bool) -> None:
        self.batch, total, count, self.heads, self.width = gates.shape
        self.steps = min(total, max(8, min(64, _ELEMENTS // max(1, self.batch * count * self.heads * self.width))))
        self.dtype, self.device, self.reverse = dtype, gates.device, reverse
        at_once: Any = torch.addmm if self.heads == 1 else torch.baddbmm
        self.add_product: Any = at_once if self.batch > 3 else _add_product
        self._total = total

    def buffer(self, *slots: int) -> Tensor:
        return self._new(self.steps, *slots)

    def states(self) -> Tensor:
        return self._new(self.steps + 1)

    def for_all_steps(self, *slots: int, more: int = 0) -> Tensor:
        """A buffer for the whole sequence."""
        return self._new(self._total + more, *slots)

    def _new(self, steps: int, *slots: int) -> Tensor:
        return torch.empty((self.heads, steps, self.batch, *slots, self.width), dtype=self.dtype, device=self.device)

    def each(self, buffer: Tensor) -> Sequence[Tensor]:
        """The views of every step."""
        return buffer[0].unbind(0) if self.heads == 1 else buffer.unbind(1)

    def through(self, states: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The views of every step's state before and after it."""
        views = self.each(states)
        return (views[1:], views[:-1]) if self.reverse else (views[:-1], views[1:])

    def before(self, states: Tensor) -> Tensor:
        return states[:, 1:] if self.reverse else states[:, :-1]

    def after(self, states: Tensor) -> Tensor:
        return states[:, :-1] if self.reverse else states[:, 1:]

    def first(self, states: Tensor) -> Tensor:
        """The state before all steps of the buffer."""
        return states[:, -1 if self.reverse else 0]

    def last(self, states: Tensor) -> Tensor:
        return states[:, 0 if self.reverse else -1]

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor (heads, ...) that is the same at every step, without the axis of heads where there is but one."""
        return tensor[0] if self.heads == 1 else tensor

    def spans(self) -> list[tuple[int, int]]:
        """The chunks from, to, in the order of the recurrence."""
        spans = [(low, min(self._total, low + self.steps)) for low in range(0, self._total, self.steps)]
        return spans[::-1] if self.reverse else spans

    def forwards(self, views: Sequence[Any], steps: int) -> Iterable[Any]:
        """The views of the first ``steps`` steps of the buffers in the order of the recurrence."""
        return views[steps - 1 :: -1] if self.reverse else views[:steps]

    def backwards(self, views: Sequence[Any], steps: int) -> Iterable[Any]:
        return views[:steps] if self.reverse else views[steps - 1 :: -1]


def _add_product(sum_to: Tensor, left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
    """For few rows some libraries add the terms of the product to the sum one by one, which rounds more."""
    return torch.add(sum_to, left @ right, out=out)
