"""Rows taken a block at a time, so that what one operation writes is still in a CPU's cache when the next one reads it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ELEMENTS = 1 << 18  # more are out of cache, fewer leave the overhead of each operation in sight


def row_blocks(rows: Tensor) -> Iterator[slice]:
    """Slices of the first axis of ``rows`` that hold about ``ELEMENTS`` entries each; everything at once on other devices than the CPU."""
    count, width = rows.shape[0], rows.shape[1:].numel()
    step = max(1, ELEMENTS // width) if rows.device.type == "cpu" else count
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def buffers(rows: Tensor, dtype: torch.dtype, count: int) -> list[Tensor]:
    """Uninitialised tensors as long as the longest of :func:`row_blocks`, to be used for every block in turn."""
    longest = next(row_blocks(rows)).stop
    return list(torch.empty((count, longest, *rows.shape[1:]), dtype=dtype, device=rows.device).unbind())
