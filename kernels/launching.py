"""What every Triton launch needs; imports triton, so only ``*_triton`` modules import this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ACCUMULATE = {torch.float32: tl.float32, torch.float64: tl.float64}


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Launch ``kernel`` on the device of its first tensor; constants hold constexpr arguments and compiler options.

    Floating-point fusion is set explicitly, since Triton's default for it is about to change.
    """
    first = next(arg for arg in args if isinstance(arg, Tensor))
    with torch.cuda.device_of(first):
        kernel[grid](*args, **{"enable_fp_fusion": True, **constants})


_largest_tile: ContextVar[int | None] = ContextVar("archwright_largest_tile", default=None)


def tile(size: int, most: int, least: int = 1) -> int:
    """A tile for an axis that is walked in tiles: the power of two that covers ``size``, within bounds (few variants to compile)."""
    cap = _largest_tile.get()
    wanted = max(least, min(most, cover(size)))
    return wanted if cap is None else min(wanted, cap)


def cover(size: int) -> int:
    """The power of two that holds a whole axis at once."""
    return int(triton.next_power_of_2(max(1, size)))


@contextmanager
def small_tiles(largest: int = 8) -> Iterator[None]:
    """Cap every :func:`tile`, so that small test inputs span several tiles."""
    token = _largest_tile.set(largest)
    try:
        yield
    finally:
        _largest_tile.reset(token)


def cdiv(size: int, block: int) -> int:
    return -(-size // block)


def or_unused(tensor: Tensor | None, unused: Tensor) -> Tensor:
    """A tensor for every pointer: the kernel's flags say which are read or written."""
    return unused if tensor is None else tensor.contiguous()
