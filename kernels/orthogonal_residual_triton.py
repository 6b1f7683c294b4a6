"""The orthogonal residual in Triton: one launch per direction.

A program owns a tile of rows and walks over the width twice, first for the inner products, then for the result; the second walk finds
rows of common widths in the cache. The rows of whole samples are long and few, so a tile of them is one row and wide.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .function import Core, Optional, Tensors, accumulate_dtype
from .launching import ACCUMULATE, cdiv, launch, tile
from .orthogonal_residual import reference, rows
from .spec import Variant

COMPILER = {"num_warps": 4}


@triton.jit
def load(pointer, row, column, count, width, ACC: tl.constexpr):
    mask = (row < count)[:, None] & (column < width)[None, :]
    return tl.load(pointer + row[:, None] * width + column[None, :], mask=mask, other=0.0).to(ACC)


@triton.jit
def store(pointer, value, row, column, count, width):
    mask = (row < count)[:, None] & (column < width)[None, :]
    tl.store(pointer + row[:, None] * width + column[None, :], value, mask=mask)


@triton.jit
def forward_kernel(
    x, f, y, share, norm, count, width, eps, strength, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """y = x + f - share x with share = strength <x, f> / norm, norm = <x, x> + eps, for x, f (count, width)."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    squares = tl.zeros((BLOCK_R, BLOCK_D), dtype=ACC)
    products = tl.zeros((BLOCK_R, BLOCK_D), dtype=ACC)
    for start in range(0, width, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        stream = load(x, row, column, count, width, ACC)
        squares += stream * stream
        products += stream * load(f, row, column, count, width, ACC)
    total = tl.sum(squares, axis=1) + eps
    taken = strength * (tl.sum(products, axis=1) / total)
    for start in range(0, width, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        stream = load(x, row, column, count, width, ACC)
        branch = load(f, row, column, count, width, ACC)
        store(y, branch + (1.0 - taken)[:, None] * stream, row, column, count, width)
    tl.store(share + row, taken, mask=row < count)
    tl.store(norm + row, total, mask=row < count)


@triton.jit
def backward_kernel(
    x, f, dy, share, norm, dx, df, count, width, strength, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """With e = <x, dy> / norm: df = dy - strength e x and dx = (1 - share) dy - strength e f + 2 share e x."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    products = tl.zeros((BLOCK_R, BLOCK_D), dtype=ACC)
    for start in range(0, width, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        products += load(x, row, column, count, width, ACC) * load(dy, row, column, count, width, ACC)
    taken = tl.load(share + row, mask=row < count, other=0.0)
    e = tl.sum(products, axis=1) / tl.load(norm + row, mask=row < count, other=1.0)
    for start in range(0, width, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        stream = load(x, row, column, count, width, ACC)
        branch = load(f, row, column, count, width, ACC)
        cotangent = load(dy, row, column, count, width, ACC)
        store(df, cotangent - (strength * e)[:, None] * stream, row, column, count, width)
        mixed = (1.0 - taken)[:, None] * cotangent - (strength * e)[:, None] * branch + (2.0 * taken * e)[:, None] * stream
        store(dx, mixed, row, column, count, width)


def blocks(count: int, width: int) -> dict[str, int]:
    """About 1024 elements in a tile: 4096 spill."""
    wide = tile(width, 1024)
    return {"BLOCK_R": tile(count, max(1, 1024 // wide)), "BLOCK_D": wide}


def _forward(x: Tensor, f: Tensor, *, eps: float, scope: str, strength: float) -> tuple[Tensors, Optional]:
    stream, branch = rows(x, scope).contiguous(), rows(f, scope).contiguous()
    count, width = stream.shape
    dtype = accumulate_dtype(x, f)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    share, norm = (torch.empty((count,), dtype=dtype, device=x.device) for _ in range(2))
    tiles = blocks(count, width)
    grid = (cdiv(count, tiles["BLOCK_R"]),)
    launch(
        forward_kernel, grid, stream, branch, y, share, norm, count, width, float(eps), float(strength),
        ACC=ACCUMULATE[dtype], **tiles, **COMPILER,
    )  # fmt: skip
    return (y,), (share, norm)


def _backward(
    args: Tensors, outputs: Tensors, saved: Tensors, cotangents: Tensors, wanted: tuple[bool, ...], *, scope: str, strength: float, **_: Any
) -> Optional:
    x, f = args
    stream, branch, dy = (rows(tensor, scope).contiguous() for tensor in (x, f, cotangents[0]))
    count, width = stream.shape
    dx, df = torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty(f.shape, dtype=f.dtype, device=f.device)
    tiles = blocks(count, width)
    grid = (cdiv(count, tiles["BLOCK_R"]),)
    launch(
        backward_kernel, grid, stream, branch, dy, *saved, dx, df, count, width, float(strength),
        ACC=ACCUMULATE[accumulate_dtype(x, f)], **tiles, **COMPILER,
    )  # fmt: skip
    return dx, df


CORE = Core(_forward, _backward, reference)


def variants() -> list[Variant]:
    types = {"count": "i32", "width": "i32", "eps": "fp32", "strength": "fp32", "share": "*fp32", "norm": "*fp32"}
    made = []
    for width in (64, 1 << 16):
        constants = {"ACC": tl.float32, **blocks(1 << 16, width)}
        made += [Variant(kernel, constants, types, COMPILER) for kernel in (forward_kernel, backward_kernel)]
    return made
