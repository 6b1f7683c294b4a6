"""Rows taken a block at a time, so that what one operation writes is still in a CPU's cache when the next one reads it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ELEMENTS = 1 << 18


def row_blocks(rows: Tensor, elements: int = ELEMENTS) -> Iterator[slice]:
    """Slices of the first axis of ``rows`` that hold about ``elements`` each; everything at once on other devices than the CPU."""
    count, width = len(rows), rows[0].numel()
    step = max(1, elements // width) if rows.device.type == "cpu" else count
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def largest_block(rows: Tensor, elements: int = ELEMENTS) -> int:
    """The number of rows in the longest of :func:`row_blocks`: the size of a buffer that serves them all."""
    return next(row_blocks(rows, elements)).stop


def widened(block: Tensor, dtype: torch.dtype) -> Tensor:
    """``block`` in ``dtype``: itself where it has that dtype, so never write to it."""
    return block.to(dtype)
