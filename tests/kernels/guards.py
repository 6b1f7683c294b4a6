"""Tensors between guard zones, to show reads and writes that go astray and elements that are never written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from archwright.kernels.spec import Inputs

SENTINEL = 7.25
GUARD = 64


class Memory:
    """The buffers handed out inside :func:`guarded`."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []

    def empty(self, *shape, dtype=None, device=None):
        size = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        buffer, view = _between(size, dtype or torch.get_default_dtype(), float("nan"), SENTINEL)
        self.buffers.append(buffer)
        return view

    def empty_like(self, like, dtype=None, device=None, memory_format=None):
        return self.empty(like.shape, dtype=dtype or like.dtype)

    @staticmethod
    def between_nan(inputs: Inputs) -> Inputs:
        made = []
        for arg in inputs.args:
            if arg is None:
                made.append(None)
                continue
            _, view = _between(arg.shape, arg.dtype, 0.0, float("nan"))
            made.append(view.copy_(arg))
        return Inputs(tuple(made), inputs.options)

    def check(self) -> None:
        for index, buffer in enumerate(self.buffers):
            inside = buffer[GUARD:-GUARD]
            if buffer.is_floating_point() or buffer.is_complex():
                assert torch.isfinite(inside).all(), f"buffer {index}, {inside.numel()} elements: not every element was written"
            for guard in (buffer[:GUARD], buffer[-GUARD:]):
                assert (guard == torch.tensor(SENTINEL).to(buffer.dtype)).all(), f"buffer {index}: a write outside"


def _between(shape, dtype, fill, guard):
    size = int(torch.Size(shape).numel())
    buffer = torch.zeros((size + 2 * GUARD,), dtype=dtype).fill_(guard if dtype.is_floating_point or dtype.is_complex else int(SENTINEL))
    buffer[GUARD : GUARD + size] = fill if dtype.is_floating_point or dtype.is_complex else 0
    return buffer, buffer[GUARD : GUARD + size].view(shape)


@contextmanager
def guarded() -> Iterator[Memory]:
    """Inside, ``torch.empty`` and ``torch.empty_like`` give NaN between finite guards."""
    memory = Memory()
    with mock.patch.object(torch, "empty", memory.empty), mock.patch.object(torch, "empty_like", memory.empty_like):
        yield memory
