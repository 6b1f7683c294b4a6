"""Norm, affine map, activation and residual sum in Triton: one launch per direction, several rows per program.

A row is held whole. A program of the backward kernel walks over blocks of rows, keeps the sums for weight and bias in registers and
writes them as one line; the lines are summed afterwards, so that the result never depends on timing.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import numerics
from .function import Optional, Tensors, accumulate_dtype
from .launching import ACCUMULATE, cdiv, cover, launch, or_unused, tile
from .spec import Variant


@triton.jit
def activate(z, ACT: tl.constexpr):
    if ACT == "relu":
        z = tl.where(z <= 0.0, 0.0, z)
    elif ACT == "relu2":
        z = tl.where(z <= 0.0, 0.0, z) * z
    elif ACT == "silu":
        z = numerics.silu(z)
    elif ACT == "gelu":
        z = numerics.gelu(z)
    elif ACT == "tanh":
        z = numerics.tanh(z)
    elif ACT == "sigmoid":
        z = numerics.sigmoid(z)
    return z


@triton.jit
def slope(z, ACT: tl.constexpr):
    if ACT == "relu":
        z = tl.where(z <= 0.0, 0.0, 1.0).to(z.dtype)
    elif ACT == "relu2":
        z = tl.where(z <= 0.0, 0.0, z) * 2.0
    elif ACT == "silu":
        z = numerics.silu_slope(z)
    elif ACT == "gelu":
        z = numerics.gelu_slope(z)
    elif ACT == "tanh":
        t = numerics.tanh(z)
        z = 1.0 - t * t
    elif ACT == "sigmoid":
        s = numerics.sigmoid(z)
        z = s * (1.0 - s)
    else:
        z = tl.full(z.shape, 1.0, z.dtype)
    return z


@triton.jit
def load_sum(x, residual, offset, mask, HAS_RESIDUAL: tl.constexpr, ACC: tl.constexpr):
    """x + residual as it is stored: rounded to the type of x, then in the accumulate type."""
    h = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
    if HAS_RESIDUAL:
        h += tl.load(residual + offset, mask=mask, other=0.0).to(ACC)
        h = h.to(x.dtype.element_ty).to(ACC)
    return h


@triton.jit
def gains(weight, column, inside, NORM: tl.constexpr, ACC: tl.constexpr):
    """One gain per column as a row, or for "scale" the same one for all."""
    if NORM == "scale":
        column = column * 0
    return tl.load(weight + column, mask=inside, other=0.0).to(ACC)[None, :]


@triton.jit
def affine(
    normal, weight, bias, column, inside,
    NORM: tl.constexpr, HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    z = normal
    if HAS_WEIGHT:
        z = z * gains(weight, column, inside, NORM, ACC)
    if HAS_BIAS:
        z = z + tl.load(bias + column, mask=inside, other=0.0).to(ACC)[None, :]
    return z


@triton.jit
def forward_kernel(
    x, weight, bias, residual, y, h_out, means, reciprocals, rows, width,
    NORM: tl.constexpr, ACT: tl.constexpr, EPS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """y = act(norm(x + residual) weight + bias) for x, residual, y, h_out (rows, width); means, reciprocals (rows)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = column < width
    mask = (row < rows)[:, None] & inside[None, :]
    offset = row[:, None].to(tl.int64) * width + column[None, :]
    h = load_sum(x, residual, offset, mask, HAS_RESIDUAL, ACC)
    if HAS_RESIDUAL:
        tl.store(h_out + offset, h, mask=mask)
    if NORM == "layer":
        mean = tl.sum(h, axis=1) / width
        h = tl.where(mask, h - mean[:, None], 0.0)
        tl.store(means + row, mean, mask=row < rows)
    squares = tl.sum(h * h, axis=1)
    if NORM == "scale":
        length = tl.sqrt(squares)
        reciprocal = 1.0 / tl.where(length < EPS, EPS, length)
    else:
        reciprocal = 1.0 / tl.sqrt(squares / width + EPS)
    tl.store(reciprocals + row, reciprocal, mask=row < rows)
    z = affine(h * reciprocal[:, None], weight, bias, column, inside, NORM, HAS_WEIGHT, HAS_BIAS, ACC)
    tl.store(y + offset, activate(z, ACT), mask=mask)


@triton.jit
def backward_kernel(
    x, weight, bias, residual, means, reciprocals, dy, dh, dx, dweight, dbias, rows, width, blocks,
    NORM: tl.constexpr, ACT: tl.constexpr, EPS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, HAS_DH: tl.constexpr,
    WANTS_WEIGHT: tl.constexpr, WANTS_BIAS: tl.constexpr, ACC: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """dx = r (dn - mean(dn) - n mean(dn n)) with dn = dy act'(z) weight; dweight, dbias (programs, width) are partial sums."""
    program = tl.program_id(0)
    column = tl.arange(0, WIDTH)
    inside = column < width
    sum_weight = tl.zeros((ROWS, WIDTH), dtype=ACC)
    sum_bias = tl.zeros((ROWS, WIDTH), dtype=ACC)
    for block in range(program, blocks, tl.num_programs(0)):
        row = block * ROWS + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        offset = row[:, None].to(tl.int64) * width + column[None, :]
        h = load_sum(x, residual, offset, mask, HAS_RESIDUAL, ACC)
        if NORM == "layer":
            mean = tl.load(means + row, mask=row < rows, other=0.0)
            h = tl.where(mask, h - mean[:, None], 0.0)
        r = tl.load(reciprocals + row, mask=row < rows, other=0.0)
        normal = h * r[:, None]
        dz = tl.load(dy + offset, mask=mask, other=0.0).to(ACC)
        if ACT != "identity":
            z = affine(normal, weight, bias, column, inside, NORM, HAS_WEIGHT, HAS_BIAS, ACC)
            dz = dz * slope(z, ACT)
        if WANTS_WEIGHT:
            sum_weight += dz * normal
        if WANTS_BIAS:
            sum_bias += dz
        if HAS_WEIGHT:
            dz = dz * gains(weight, column, inside, NORM, ACC)
        along = tl.sum(dz * normal, axis=1)
        if NORM == "scale":
            along = tl.where(r * EPS >= 1.0, 0.0, along)
        if NORM != "scale":
            along = along / width
        if NORM == "layer":
            dz = dz - (tl.sum(dz, axis=1) / width)[:, None]
        d = (dz - normal * along[:, None]) * r[:, None]
        if HAS_DH:
            d += tl.load(dh + offset, mask=mask, other=0.0).to(ACC)
        tl.store(dx + offset, d, mask=mask)
    line = program.to(tl.int64) * width + column
    if WANTS_WEIGHT:
        tl.store(dweight + line, tl.sum(sum_weight, axis=0), mask=inside)
    if WANTS_BIAS:
        tl.store(dbias + line, tl.sum(sum_bias, axis=0), mask=inside)


def _shape(rows: int, width: int, elements: int) -> dict[str, int]:
    """Rows per program for about ``elements`` in all, and the warps they take: four for that many, more for wider rows."""
    across = cover(width)
    down = tile(rows, max(1, elements // across))
    return {"ROWS": down, "WIDTH": across, "num_warps": min(32, max(4, 4 * down * across // elements))}


def _flags(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, norm: str, act: str, eps: float
) -> dict[str, Any]:
    given = {"HAS_WEIGHT": weight is not None, "HAS_BIAS": bias is not None, "HAS_RESIDUAL": residual is not None}
    return {"NORM": norm, "ACT": act, "EPS": eps, "ACC": ACCUMULATE[accumulate_dtype(x, weight, bias, residual)], **given}


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *, norm: str, act: str, eps: float
) -> tuple[Tensors, Optional]:
    """(y,) or (y, x + residual) in the dtype of x; saved are the means (layer only) and the reciprocal lengths of the rows."""
    x = x.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    dtype = accumulate_dtype(x, weight, bias, residual)
    y = torch.empty_like(x)
    h = None if residual is None else torch.empty_like(x)
    reciprocals = torch.empty((rows,), dtype=dtype, device=x.device)
    means = torch.empty((rows,), dtype=dtype, device=x.device) if norm == "layer" else None
    options = {**_flags(x, weight, bias, residual, norm, act, eps), **_shape(rows, width, 2048)}
    inputs = (x, or_unused(weight, x), or_unused(bias, x), or_unused(residual, x))
    outputs = (y, or_unused(h, y), or_unused(means, reciprocals), reciprocals)
    launch(forward_kernel, (cdiv(rows, options["ROWS"]),), *inputs, *outputs, rows, width, **options)
    return (y,) if h is None else (y, h), (means, reciprocals)


def backward(
    args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, norm: str, act: str, eps: float
) -> Optional:
    """dx, dweight, dbias, dresidual in the dtypes of the arguments; dx and dresidual are one tensor."""
    (x, weight, bias, residual), (means, reciprocals) = args, saved
    dy, dh = cotangents[0], cotangents[1] if len(cotangents) > 1 else None
    if dy is None and dh is not None:
        return dh, None, None, None if residual is None else dh.to(residual.dtype)
    x, dy = x.contiguous(), dy.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    shape = _shape(rows, width, 1024)
    blocks = cdiv(rows, shape["ROWS"])
    programs = min(blocks, tile(blocks, 1024 if width <= 1024 else 256))
    dx = torch.empty_like(x)
    wants_weight, wants_bias = weight is not None and wanted[1], bias is not None and wanted[2]
    lines = ((programs, width) if wants else None for wants in (wants_weight, wants_bias))
    dweight, dbias = (None if size is None else torch.empty(size, dtype=reciprocals.dtype, device=x.device) for size in lines)
    options = {
        **_flags(x, weight, bias, residual, norm, act, eps),
        **shape,
        **{"HAS_DH": dh is not None, "WANTS_WEIGHT": wants_weight, "WANTS_BIAS": wants_bias},
    }
    inputs = (x, or_unused(weight, x), or_unused(bias, x), or_unused(residual, x), or_unused(means, reciprocals), reciprocals)
    results = (dx, or_unused(dweight, reciprocals), or_unused(dbias, reciprocals))
    launch(backward_kernel, (programs,), *inputs, dy, or_unused(dh, dy), *results, rows, width, blocks, **options)
    if dweight is not None and weight is not None:
        dweight = (dweight.sum() if norm == "scale" else dweight.sum(0)).to(weight.dtype)
    if dbias is not None and bias is not None:
        dbias = dbias.sum(0).to(bias.dtype)
    return dx, dweight, dbias, None if residual is None else dx.to(residual.dtype)


def variants() -> list[Variant]:
    types = {"rows": "i32", "width": "i32", "blocks": "i32", "means": "*fp32", "reciprocals": "*fp32", "dweight": "*fp32", "dbias": "*fp32"}
    made = []
    for norm, act, width in (("layer", "gelu", 64), ("rms", "silu", 1024), ("layer", "silu", 4096)):
        flags = {"NORM": norm, "ACT": act, "EPS": 1e-5, "HAS_WEIGHT": True, "HAS_BIAS": True, "HAS_RESIDUAL": True, "ACC": tl.float32}
        for kernel, elements in ((forward_kernel, 2048), (backward_kernel, 1024)):
            shape = _shape(1 << 20, width, elements)
            options = {"num_warps": shape.pop("num_warps")}
            wants = {"HAS_DH": True, "WANTS_WEIGHT": True, "WANTS_BIAS": True}
            made.append(Variant(kernel, {**flags, **shape, **(wants if kernel is backward_kernel else {})}, types, options))
    return made
