"""EvoNorm-B0 in Triton: two launches per direction, one that measures and one that writes; what lies between has one number per row.

A row is one channel of one sample; a program owns some rows and walks over their positions.
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
from .b0 import backward_between, forward_between, reference

Given = tuple[Any, ...]
COMPILER = {"num_warps": 4}


@triton.jit
def moments_kernel(x, means, variances, rows, size, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr):
    """x (rows, size); means, variances (rows,)."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    mean = tl.zeros((BLOCK_R,), dtype=ACC)
    for start in range(0, size, BLOCK_S):
        position = start + tl.arange(0, BLOCK_S)
        mask = inside[:, None] & (position < size)[None, :]
        mean += tl.sum(tl.load(x + row[:, None] * size + position[None, :], mask=mask, other=0.0).to(ACC), axis=1)
    mean = mean / size
    variance = tl.zeros((BLOCK_R,), dtype=ACC)
    for start in range(0, size, BLOCK_S):
        position = start + tl.arange(0, BLOCK_S)
        mask = inside[:, None] & (position < size)[None, :]
        value = tl.load(x + row[:, None] * size + position[None, :], mask=mask, other=0.0).to(ACC)
        value = tl.where(mask, value - mean[:, None], 0.0)
        variance += tl.sum(value * value, axis=1)
    tl.store(means + row, mean, mask=inside)
    tl.store(variances + row, variance / size, mask=inside)


@triton.jit
def forward_kernel(
    x, v, weight, bias, spreads, own, y, rows, channels, size, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr
):  # fmt: skip
    """spreads (channels,) of the batch, own (rows,) of the instances."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    channel = row % channels
    slope = tl.load(v + channel, mask=inside, other=0.0).to(ACC)
    gain = tl.load(weight + channel, mask=inside, other=0.0).to(ACC)
    shift = tl.load(bias + channel, mask=inside, other=0.0).to(ACC)
    spread = tl.load(spreads + channel, mask=inside, other=1.0)
    instance = tl.load(own + row, mask=inside, other=1.0)
    for start in range(0, size, BLOCK_S):
        position = start + tl.arange(0, BLOCK_S)
        mask = inside[:, None] & (position < size)[None, :]
        at = row[:, None] * size + position[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        below = slope[:, None] * value + instance[:, None]
        below = tl.where(below <= spread[:, None], spread[:, None], below)
        tl.store(y + at, gain[:, None] * (value / below) + shift[:, None], mask=mask)


@triton.jit
def measure_kernel(
    x, v, weight, dy, spreads, own, sums, rows, channels, size, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr
):  # fmt: skip
    """sums (5, rows): gradients of the instances' spread and of the batch's, and for dv, dweight and dbias."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    channel = row % channels
    slope = tl.load(v + channel, mask=inside, other=0.0).to(ACC)
    gain = tl.load(weight + channel, mask=inside, other=0.0).to(ACC)
    spread = tl.load(spreads + channel, mask=inside, other=1.0)
    instance = tl.load(own + row, mask=inside, other=1.0)
    to_instance = tl.zeros((BLOCK_R,), dtype=ACC)
    to_batch = tl.zeros((BLOCK_R,), dtype=ACC)
    dv = tl.zeros((BLOCK_R,), dtype=ACC)
    dweight = tl.zeros((BLOCK_R,), dtype=ACC)
    dbias = tl.zeros((BLOCK_R,), dtype=ACC)
    for start in range(0, size, BLOCK_S):
        position = start + tl.arange(0, BLOCK_S)
        mask = inside[:, None] & (position < size)[None, :]
        at = row[:, None] * size + position[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        given = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
        below = slope[:, None] * value + instance[:, None]
        wins = below > spread[:, None]
        below = tl.where(wins, below, spread[:, None])
        pull = -given * gain[:, None] * value / (below * below)
        to_instance += tl.sum(tl.where(wins, pull, 0.0), axis=1)
        to_batch += tl.sum(tl.where(wins, 0.0, pull), axis=1)
        dv += tl.sum(tl.where(wins, pull * value, 0.0), axis=1)
        dweight += tl.sum(given * (value / below), axis=1)
        dbias += tl.sum(given, axis=1)
    tl.store(sums + row, to_instance, mask=inside)
    tl.store(sums + rows + row, to_batch, mask=inside)
    tl.store(sums + 2 * rows + row, dv, mask=inside)
    tl.store(sums + 3 * rows + row, dweight, mask=inside)
    tl.store(sums + 4 * rows + row, dbias, mask=inside)


@triton.jit
def backward_kernel(
    x, v, weight, dy, spreads, own, means, lines, offsets, dx, rows, channels, size,
    ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """dx (rows, size): through the quotient, and lines (x - means) + offsets through the variances."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = row < rows
    channel = row % channels
    slope = tl.load(v + channel, mask=inside, other=0.0).to(ACC)
    gain = tl.load(weight + channel, mask=inside, other=0.0).to(ACC)
    spread = tl.load(spreads + channel, mask=inside, other=1.0)
    instance = tl.load(own + row, mask=inside, other=1.0)
    mean = tl.load(means + row, mask=inside, other=0.0)
    line = tl.load(lines + row, mask=inside, other=0.0)
    offset = tl.load(offsets + row, mask=inside, other=0.0)
    for start in range(0, size, BLOCK_S):
        position = start + tl.arange(0, BLOCK_S)
        mask = inside[:, None] & (position < size)[None, :]
        at = row[:, None] * size + position[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
        given = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
        below = slope[:, None] * value + instance[:, None]
        wins = below > spread[:, None]
        below = tl.where(wins, below, spread[:, None])
        direct = given * gain[:, None] / below
        out = direct - tl.where(wins, direct * (value / below) * slope[:, None], 0.0)
        tl.store(dx + at, out + (value - mean[:, None]) * line[:, None] + offset[:, None], mask=mask)


def _forward(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> tuple[Tensors, Optional]:
    x, v, weight, bias = (tensor.contiguous() for tensor in (x, v, weight, bias))
    dtype = accumulate_dtype(x, v, weight, bias, running_var)
    rows = x.view(*x.shape[:2], -1)
    mean, var = (torch.empty(x.shape[:2], dtype=dtype, device=x.device) for _ in range(2))
    grid, options = _plan(rows, dtype)
    launch(moments_kernel, grid, x, mean, var, mean.numel(), rows.shape[2], **options)
    spread, own, new = forward_between(rows, mean, var, running_var, training, momentum, eps)
    y = torch.empty_like(x)
    launch(forward_kernel, grid, x, v, weight, bias, spread, own, y, mean.numel(), *rows.shape[1:], **options)
    return (y, new), (mean, var, spread)


def _backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, training: bool, momentum: float, eps: float
) -> Optional:
    x, v, weight, bias, running_var = args
    (mean, var, spread), (dy, drunning) = saved, cotangents
    x, v, weight = x.contiguous(), v.contiguous(), weight.contiguous()
    dy = torch.zeros_like(x) if dy is None else dy.contiguous()
    rows, own = x.view(*x.shape[:2], -1), (var + eps).sqrt()
    sums = torch.empty((5, *x.shape[:2]), dtype=mean.dtype, device=x.device)
    grid, options = _plan(rows, mean.dtype)
    sizes = (mean.numel(), *rows.shape[1:])
    launch(measure_kernel, grid, x, v, weight, dy, spread, own, sums, *sizes, **options)
    line, offset, drunning_var = backward_between(sums, rows, mean, var, spread, drunning, training, momentum, eps)
    dx = torch.empty_like(x)
    launch(backward_kernel, grid, x, v, weight, dy, spread, own, mean, line, offset, dx, *sizes, **options)
    per_channel = (total.sum(0).to(like.dtype) for total, like in zip(sums[2:], (v, weight, bias), strict=True))
    return dx, *per_channel, drunning_var.to(running_var.dtype)


CORE = Core(_forward, _backward, reference)


def _plan(rows: Tensor, dtype: torch.dtype) -> tuple[tuple[int], dict[str, Any]]:
    count, positions = rows.shape[0] * rows.shape[1], tile(rows.shape[2], 512)
    held = tile(count, max(1, 1024 // positions))
    return (cdiv(count, held),), {"ACC": ACCUMULATE[dtype], "BLOCK_R": held, "BLOCK_S": positions, **COMPILER}


def variants() -> list[Variant]:
    floats = ("v", "weight", "bias", "means", "variances", "spreads", "own", "sums", "lines", "offsets")
    types = {**dict.fromkeys(("rows", "channels", "size"), "i32"), **dict.fromkeys(floats, "*fp32")}
    constants = {"ACC": tl.float32, "BLOCK_R": 4, "BLOCK_S": 256}
    return [Variant(kernel, constants, types, COMPILER) for kernel in (moments_kernel, forward_kernel, measure_kernel, backward_kernel)]
