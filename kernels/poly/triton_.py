"""PolyNorm and PolyReLU in Triton: one launch per direction, powers in float32 (float64 for float64 inputs).

Nothing is saved but the arguments: powers and their means are found again from x, which the backward pass reads anyway.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype
from ..launching import ACCUMULATE, cdiv, cover, launch, or_unused, tile
from ..spec import Variant
from . import norm, relu

Given = tuple[Any, ...]


@triton.jit
def norm_forward_kernel(
    x, weight, bias, y, rows, width, bound,
    ORDER: tl.constexpr, EPS: tl.constexpr, HAS_BIAS: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """x, y (rows, width); rows that could overflow are divided by their largest magnitude."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.arange(0, BLOCK_D)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    offset = row[:, None] * width + column[None, :]
    u = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
    largest = tl.max(tl.abs(u), axis=1)
    scale = 1.0 / tl.where(largest > bound, largest, 1.0)
    u = u * scale[:, None]
    even = scale * scale
    eps = even * EPS
    power = u
    out = tl.zeros((BLOCK_R, BLOCK_D), dtype=ACC)
    for p in tl.static_range(ORDER):
        r = tl.rsqrt(tl.sum(power * power, axis=1) / width + eps)
        out += power * (r * tl.load(weight + p).to(ACC))[:, None]
        power = power * u
        eps = eps * even
    if HAS_BIAS:
        out += tl.load(bias).to(ACC)
    tl.store(y + offset, out, mask=mask)


@triton.jit
def norm_backward_kernel(
    x, weight, dy, dx, partials, rows, width, bound,
    ORDER: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dx (rows, width); ``partials`` (programs, ORDER + 1): sums of dy n_1, ..., dy n_ORDER and dy over the rows of a program."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.arange(0, BLOCK_D)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    offset = row[:, None] * width + column[None, :]
    u = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
    g = tl.load(dy + offset, mask=mask, other=0.0).to(ACC)
    largest = tl.max(tl.abs(u), axis=1)
    scale = 1.0 / tl.where(largest > bound, largest, 1.0)
    u = u * scale[:, None]
    even = scale * scale
    eps = even * EPS
    before = tl.full((BLOCK_R, BLOCK_D), 1.0, dtype=ACC)
    power = u
    out = tl.zeros((BLOCK_R, BLOCK_D), dtype=ACC)
    into = partials + tl.program_id(0).to(tl.int64) * (ORDER + 1)
    for p in tl.static_range(ORDER):
        r = tl.rsqrt(tl.sum(power * power, axis=1) / width + eps)
        along = tl.sum(g * power, axis=1) * r
        factor = (p + 1.0) * r * scale * tl.load(weight + p).to(ACC)
        out += factor[:, None] * before * (g - power * (r * along / width)[:, None])
        tl.store(into + p, tl.sum(along, axis=0))
        before = power
        power = power * u
        eps = eps * even
    tl.store(into + ORDER, tl.sum(tl.sum(g, axis=1), axis=0))
    tl.store(dx + offset, out, mask=mask)


@triton.jit
def relu_forward_kernel(x, coef, y, count, TERMS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    r = tl.load(x + at, mask=mask, other=0.0).to(ACC)
    r = tl.where(r <= 0, 0.0, r)  # NaN stays
    value = tl.zeros((BLOCK,), dtype=ACC)
    for i in tl.static_range(TERMS):
        value = value * r + tl.load(coef + TERMS - 1 - i).to(ACC)
    tl.store(y + at, value, mask=mask)


@triton.jit
def relu_backward_kernel(x, coef, dy, dx, partials, count, TERMS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """``partials`` (programs, TERMS): sums of dy r^i over the elements of a program."""
    program = tl.program_id(0).to(tl.int64)
    at = program * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    r = tl.load(x + at, mask=mask, other=0.0).to(ACC)
    g = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
    r = tl.where(r <= 0, 0.0, r)
    slope = tl.zeros((BLOCK,), dtype=ACC)
    weighted = g
    for i in tl.static_range(TERMS):
        if i < TERMS - 1:
            slope = slope * r + (TERMS - 1 - i) * tl.load(coef + TERMS - 1 - i).to(ACC)
        tl.store(partials + program * TERMS + i, tl.sum(weighted, axis=0))
        weighted = weighted * r
    tl.store(dx + at, tl.where(r <= 0, 0.0, slope * g), mask=mask)


def _norm_tiles(rows: int, width: int) -> dict[str, int]:
    """Tiles of about 2048 elements, so that 16 of each tensor lie in the registers of a thread."""
    held = cover(width)
    return {"BLOCK_R": tile(rows, max(1, 2048 // held)), "BLOCK_D": held, "num_warps": max(4, min(16, held // 512))}


def _norm_forward(x: Tensor, weight: Tensor, bias: Tensor | None, *, eps: float) -> tuple[Tensors, Optional]:
    x, weight = x.contiguous(), weight.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    dtype = accumulate_dtype(x, weight, bias)
    y = torch.empty_like(x)
    options = {**_norm_constants(weight, eps, dtype), "HAS_BIAS": bias is not None, **_norm_tiles(rows, width)}
    bound = norm.largest_plain(dtype, len(weight))
    launch(norm_forward_kernel, (cdiv(rows, options["BLOCK_R"]),), x, weight, or_unused(bias, x), y, rows, width, bound, **options)
    return (y,), ()


def _norm_backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, eps: float
) -> tuple[Tensor | None, ...]:
    x, weight, bias = args
    (dy,) = cotangents
    x, weight, dy = x.contiguous(), weight.contiguous(), dy.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    dtype = accumulate_dtype(x, weight, bias)
    options = {**_norm_constants(weight, eps, dtype), **_norm_tiles(rows, width)}
    programs = cdiv(rows, options["BLOCK_R"])
    dx, partials = torch.empty_like(x), torch.empty((programs, len(weight) + 1), dtype=dtype, device=x.device)
    bound = norm.largest_plain(dtype, len(weight))
    launch(norm_backward_kernel, (programs,), x, weight, dy, dx, partials, rows, width, bound, **options)
    sums = partials.sum(0)
    return dx, sums[:-1].to(weight.dtype), None if bias is None else sums[-1].to(bias.dtype)


def _norm_constants(weight: Tensor, eps: float, dtype: torch.dtype) -> dict[str, Any]:
    return {"ORDER": len(weight), "EPS": eps, "ACC": ACCUMULATE[dtype]}


NORM = Core(_norm_forward, _norm_backward, norm.reference)


def _relu_forward(x: Tensor, coef: Tensor) -> tuple[Tensors, Optional]:
    x, coef = x.contiguous(), coef.contiguous()
    y = torch.empty_like(x)
    options = _relu_options(x, coef)
    launch(relu_forward_kernel, (cdiv(x.numel(), options["BLOCK"]),), x, coef, y, x.numel(), **options)
    return (y,), ()


def _relu_backward(args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    x, coef = args
    (dy,) = cotangents
    x, coef, dy = x.contiguous(), coef.contiguous(), dy.contiguous()
    options = _relu_options(x, coef)
    programs = cdiv(x.numel(), options["BLOCK"])
    dx = torch.empty_like(x)
    partials = torch.empty((programs, len(coef)), dtype=accumulate_dtype(x, coef), device=x.device)
    launch(relu_backward_kernel, (programs,), x, coef, dy, dx, partials, x.numel(), **options)
    return dx, partials.sum(0).to(coef.dtype)


def _relu_options(x: Tensor, coef: Tensor) -> dict[str, Any]:
    return {"TERMS": len(coef), "ACC": ACCUMULATE[accumulate_dtype(x, coef)], "BLOCK": tile(x.numel(), 1024), "num_warps": 4}


RELU = Core(_relu_forward, _relu_backward, relu.reference)


def norm_variants() -> list[Variant]:
    types = {"rows": "i32", "width": "i32", "bound": "fp32", "weight": "*fp32", "bias": "*fp32", "partials": "*fp32"}
    made = []
    for rows, width in ((4096, 64), (4096, 1000), (4096, norm.WIDEST)):
        tiles = _norm_tiles(rows, width)
        options = {"num_warps": tiles.pop("num_warps")}
        constants = {"ORDER": 3, "EPS": 1e-6, "ACC": tl.float32, **tiles}
        made.append(Variant(norm_backward_kernel, constants, types, options))
    made.append(Variant(norm_forward_kernel, {**constants, "HAS_BIAS": True}, types, options))
    return made


def relu_variants() -> list[Variant]:
    types = {"count": "i32", "coef": "*fp32", "partials": "*fp32"}
    constants = {"TERMS": 4, "ACC": tl.float32, "BLOCK": 1024}
    return [Variant(kernel, constants, types, {"num_warps": 4}) for kernel in (relu_forward_kernel, relu_backward_kernel)]
