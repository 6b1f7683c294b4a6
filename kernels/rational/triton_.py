"""The safe rational function in Triton: one launch per direction, and no atomics.

A program owns a tile of rows and of the columns of one group, so that the coefficients are scalars. Their gradients are summed over
the tile into one row of partial sums per program, and these over the programs by a second reduction. Entries too large for their
powers take the polynomials in 1/x; see :mod:`archwright.kernels.rational.reversed` for the formula that serves both.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype
from ..launching import ACCUMULATE, cdiv, launch, tile
from ..spec import Variant
from .reference import largest_plain, reference

Given = tuple[Any, ...]
COMPILER = {"num_warps": 4}


@triton.jit
def coefficient(c, stride, i: tl.constexpr, FIRST: tl.constexpr, MAGNITUDE: tl.constexpr, ACC: tl.constexpr):
    """c_i, where the first row that is stored is that of power FIRST and those before it are zero."""
    if i < FIRST:
        value = tl.full((), 0.0, dtype=ACC)
    else:
        value = tl.load(c + (i - FIRST) * stride).to(ACC)
        if MAGNITUDE:
            value = tl.abs(value)
    return value


@triton.jit
def polynomial(t, far, c, stride, DEGREE: tl.constexpr, FIRST: tl.constexpr, MAGNITUDE: tl.constexpr, ACC: tl.constexpr):
    """sum_k c_k t^k, and where far sum_k c_(DEGREE - k) t^k."""
    value = tl.where(far, coefficient(c, stride, 0, FIRST, MAGNITUDE, ACC), coefficient(c, stride, DEGREE, FIRST, MAGNITUDE, ACC))
    for k in tl.static_range(1, DEGREE + 1):
        near = coefficient(c, stride, DEGREE - k, FIRST, MAGNITUDE, ACC)
        value = value * t + tl.where(far, coefficient(c, stride, k, FIRST, MAGNITUDE, ACC), near)
    return value


@triton.jit
def slope(t, far, c, stride, DEGREE: tl.constexpr, FIRST: tl.constexpr, MAGNITUDE: tl.constexpr, ACC: tl.constexpr):
    """sum_k (k + 1) c_(k + 1) t^k, and where far sum_k (DEGREE - k) c_(DEGREE - k) t^k."""
    value = t * 0.0
    for k in tl.static_range(0, DEGREE):
        near = (DEGREE - k) * coefficient(c, stride, DEGREE - k, FIRST, MAGNITUDE, ACC)
        value = value * t + tl.where(far, (k + 1) * coefficient(c, stride, k + 1, FIRST, MAGNITUDE, ACC), near)
    return value


@triton.jit
def power(t, K: tl.constexpr):
    value = tl.where(t == t, 1.0, t)  # NaN stays
    for _ in tl.static_range(K):
        value = value * t
    return value


@triton.jit
def beyond(x, q, stride, bound, N: tl.constexpr, ACC: tl.constexpr):
    """Where the polynomials are taken in 1/x: powers could overflow, and the denominator is not the constant 1."""
    curved = tl.full((), 0.0, dtype=ACC)
    for j in tl.static_range(N):
        curved += tl.where(tl.load(q + j * stride).to(ACC) != 0, 1.0, 0.0)
    return tl.abs(x) > tl.where(curved > 0, bound, float("inf"))


@triton.jit
def growth(x, far, M: tl.constexpr, N: tl.constexpr):
    """x^M / |x|^N where far, else 1."""
    at = tl.where(far, x, 1.0)
    value = at * 0.0 + 1.0
    if N % 2 == 1:
        value = tl.where(at < 0, -value, value)
    for _ in tl.static_range(M - N):
        value = value * at
    for _ in tl.static_range(N - M):
        value = value / at
    return value


@triton.jit
def forward_kernel(
    x, p, q, y, rows, width, each, p_groups, q_groups, bound,
    M: tl.constexpr, N: tl.constexpr, MAGNITUDES: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """x, y (rows, width); p (M + 1, p_groups), q (N, q_groups); a program's group has ``each`` columns."""
    group = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = (row < rows)[:, None] & (column < each)[None, :]
    offset = row[:, None] * width + group * each + column[None, :]
    above = p + group % p_groups
    below = q + group % q_groups
    at = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
    far = beyond(at, below, q_groups, bound, N, ACC)
    t = tl.where(far, 1.0 / tl.where(far, at, 1.0), at)
    base = tl.abs(t) if MAGNITUDES else t
    sums = polynomial(base, far, below, q_groups, N, 1, MAGNITUDES, ACC)
    quotient = tl.where(far, power(tl.abs(t), N), 1.0) + tl.abs(sums)
    out = polynomial(t, far, above, p_groups, M, 0, False, ACC) * growth(at, far, M, N) / quotient
    tl.store(y + offset, out, mask=mask)


@triton.jit
def backward_kernel(
    x, p, q, dy, dx, partials, rows, width, each, p_groups, q_groups, bound,
    M: tl.constexpr, N: tl.constexpr, MAGNITUDES: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dx (rows, width); partials (tiles of a group, groups, M + 1 + N): sums of the tile for da_0, ..., da_M, db_1, ..., db_N."""
    group = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = (row < rows)[:, None] & (column < each)[None, :]
    offset = row[:, None] * width + group * each + column[None, :]
    above = p + group % p_groups
    below = q + group % q_groups
    at = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
    g = tl.load(dy + offset, mask=mask, other=0.0).to(ACC)
    far = beyond(at, below, q_groups, bound, N, ACC)
    t = tl.where(far, 1.0 / tl.where(far, at, 1.0), at)
    base = tl.abs(t) if MAGNITUDES else t
    sums = polynomial(base, far, below, q_groups, N, 1, MAGNITUDES, ACC)
    quotient = tl.where(far, power(tl.abs(t), N), 1.0) + tl.abs(sums)
    over = g * growth(at, far, M, N) / quotient
    sign = tl.where(sums > 0, 1.0, tl.where(sums < 0, -1.0, 0.0))
    under = -over * polynomial(t, far, above, p_groups, M, 0, False, ACC) / quotient * sign
    inner = tl.where(far, t, 1.0)
    turn = inner
    if MAGNITUDES:
        turn = tl.where(far, t, tl.where(t > 0, 1.0, tl.where(t < 0, -1.0, 0.0)))
    out = under * turn * slope(base, far, below, q_groups, N, 1, MAGNITUDES, ACC)
    out += over * inner * slope(t, far, above, p_groups, M, 0, False, ACC)
    tl.store(dx + offset, out, mask=mask)
    tile_index = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + tl.program_id(2)
    into = partials + (tile_index * tl.num_programs(1) + group) * (M + 1 + N)
    for i in tl.static_range(M + 1):
        tl.store(into + i, tl.sum(tl.sum(over * tl.where(far, power(t, M - i), power(t, i)), axis=1), axis=0))
    for j in tl.static_range(1, N + 1):
        tl.store(into + M + j, tl.sum(tl.sum(under * tl.where(far, power(base, N - j), power(base, j)), axis=1), axis=0))


def _forward(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> tuple[Tensors, Optional]:
    x, p, q = x.contiguous(), p.contiguous(), q.contiguous()
    y = torch.empty_like(x)
    grid, numbers, options = _plan(x, p, q, denominator)
    launch(forward_kernel, grid, x, p, q, y, *numbers, **options)
    return (y,), ()


def _backward(args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, denominator: str) -> Optional:
    x, p, q, dy = (tensor.contiguous() for tensor in (*args, *cotangents))
    dx = torch.empty_like(x)
    grid, numbers, options = _plan(x, p, q, denominator)
    partials = torch.empty((grid[0] * grid[2], grid[1], len(p) + len(q)), dtype=accumulate_dtype(x, p, q), device=x.device)
    launch(backward_kernel, grid, x, p, q, dy, dx, partials, *numbers, **options)
    sums = partials.sum(0).t()
    da, db = (_over_shared(part, like) for part, like in ((sums[: len(p)], p), (sums[len(p) :], q)))
    return dx, da.to(p.dtype), (db * q.sign() if denominator == "sum-abs" else db).to(q.dtype)


CORE = Core(_forward, _backward, reference)


def _over_shared(sums: Tensor, like: Tensor) -> Tensor:
    """(terms, groups) as it is, or summed where all groups share one function."""
    return sums if like.shape[1] == sums.shape[1] else sums.sum(1, keepdim=True)


def _plan(x: Tensor, p: Tensor, q: Tensor, denominator: str) -> tuple[tuple[int, int, int], tuple[float, ...], dict[str, Any]]:
    width, groups, dtype = x.shape[-1], max(p.shape[1], q.shape[1]), accumulate_dtype(x, p, q)
    rows, each = x.numel() // width, width // groups
    columns = tile(each, 64)
    tiles = {"BLOCK_R": tile(rows, 1024 // columns), "BLOCK_D": columns}
    grid = (cdiv(rows, tiles["BLOCK_R"]), groups, cdiv(each, columns))
    numbers = (rows, width, each, p.shape[1], q.shape[1], largest_plain(dtype, len(p), len(q)))
    constants = {"M": len(p) - 1, "N": len(q), "MAGNITUDES": denominator == "sum-abs", "ACC": ACCUMULATE[dtype]}
    return grid, numbers, {**constants, **tiles, **COMPILER}


def variants() -> list[Variant]:
    integers = dict.fromkeys(("rows", "width", "each", "p_groups", "q_groups"), "i32")
    types = {**integers, "bound": "fp32", "p": "*fp32", "q": "*fp32", "partials": "*fp32"}
    made = []
    for kernel, columns, magnitudes in ((forward_kernel, 8, True), (backward_kernel, 8, False), (backward_kernel, 64, True)):
        tiles = {"BLOCK_R": 1024 // columns, "BLOCK_D": columns}
        made.append(Variant(kernel, {"M": 5, "N": 4, "MAGNITUDES": magnitudes, "ACC": tl.float32, **tiles}, types, COMPILER))
    return made
