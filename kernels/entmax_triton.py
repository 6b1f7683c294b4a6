"""Entmax in Triton: one launch per direction, several rows per program, each held whole while Newton's method runs on it."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import numerics
from .entmax import MOST_STEPS, WIDEST, per_row
from .function import Optional, Tensors, accumulate_dtype
from .launching import ACCUMULATE, cdiv, cover, launch, or_unused, tile
from .spec import Variant


@triton.jit
def log1p(w):
    """log(1 + w) for w in [-1, 0]: the rounding of 1 + w cancels in the quotient."""
    u = 1.0 + w
    nearly = u == 1.0
    return tl.where(nearly, w, tl.log(tl.where(nearly, 0.5, u)) * (w / tl.where(nearly, 1.0, u - 1.0)))


@triton.jit
def solve(z, delta, power, KIND: tl.constexpr):
    """(u^q, u^(q - 1)) for u = [1 + z + delta]_+; the comparison is written so that NaN stays."""
    w = z + delta[:, None]
    out = w <= -1.0
    if KIND == "1.5":
        lower = tl.where(out, 0.0, 1.0 + w)
        p = lower * lower
    elif KIND == "2":
        p = tl.where(out, 0.0, 1.0 + w)
        lower = tl.where(out, 0.0, 1.0).to(p.dtype)
    else:
        inner = tl.where(out, 0.0, w)
        p = tl.where(out, 0.0, tl.exp(log1p(inner) * (1.0 / power)[:, None]))
        lower = p / (1.0 + inner)
    return p, lower


@triton.jit
def forward_kernel(
    x, powers, y, rows, width,
    KIND: tl.constexpr, TOLERANCE: tl.constexpr, MOST: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """y = entmax(x) for x, y (rows, width); powers (rows) hold alpha - 1 where KIND is "any"."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    offset = row[:, None].to(tl.int64) * width + column[None, :]
    z = tl.load(x + offset, mask=mask, other=-float("inf")).to(ACC)
    top = tl.max(z, axis=1)
    z = z - tl.where(top == -float("inf"), 0.0, top)[:, None]
    power = tl.full((ROWS,), 0.5, ACC)
    if KIND == "2":
        power = tl.full((ROWS,), 1.0, ACC)
    if KIND == "any":
        power = tl.load(powers + row, mask=row < rows, other=1.0)
    z = z * power[:, None]
    delta = tl.zeros((ROWS,), dtype=ACC)
    steps = 0
    largest = 1.0
    while (steps < MOST) & (largest > 0.0):
        p, lower = solve(z, delta, power, KIND)
        total = tl.sum(p, axis=1)
        empty = total == 0.0
        full = tl.where(empty, 1.0, total)
        step = -full * numerics.expm1(-power * tl.log(full)) / tl.where(empty, 1.0, tl.sum(lower, axis=1))
        step = tl.where(step > TOLERANCE * (power - delta), step, 0.0)
        delta -= step
        largest = tl.max(step, axis=0).to(tl.float32)
        steps += 1
    p, lower = solve(z, delta, power, KIND)
    total = tl.sum(p, axis=1)
    p = p / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(y + offset, p, mask=mask)


@triton.jit
def backward_kernel(
    p, powers, dy, dx, dorder, rows, width,
    KIND: tl.constexpr, WANTS_ORDER: tl.constexpr, ACC: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """dx = g (dy - <g, dy> / sum g) with g = p^(2 - alpha); dorder (rows) is the gradient of alpha."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    mask = (row < rows)[:, None] & (column < width)[None, :]
    offset = row[:, None].to(tl.int64) * width + column[None, :]
    kept = tl.load(p + offset, mask=mask, other=0.0).to(ACC)
    cotangent = tl.load(dy + offset, mask=mask, other=0.0).to(ACC)
    outside = kept == 0.0
    if KIND == "1.5":
        g = tl.sqrt(kept)
    elif KIND == "2":
        g = tl.where(outside, 0.0, 1.0).to(ACC)
    else:
        power = tl.load(powers + row, mask=row < rows, other=1.0)
        logarithm = tl.log(tl.where(outside, 1.0, kept))
        g = tl.where(outside, 0.0, tl.exp((1.0 - power[:, None]) * logarithm))
    total = tl.sum(g, axis=1)
    mean = tl.sum(g * cotangent, axis=1) / tl.where(total == 0.0, 1.0, total)
    d = g * (cotangent - mean[:, None])
    tl.store(dx + offset, d, mask=mask)
    if WANTS_ORDER:
        logarithm = power[:, None] * logarithm
        curve = numerics.expm1(logarithm) - tl.exp(logarithm) * logarithm
        tl.store(dorder + row, tl.sum(curve * d, axis=1) / (power * power), mask=row < rows)


def _shape(rows: int, width: int) -> dict[str, int]:
    across = cover(width)
    down = tile(rows, max(1, 1024 // across))
    return {"ROWS": down, "WIDTH": across, "num_warps": min(16, max(4, down * across // 512))}


def _powers(x: Tensor, alpha: Tensor | None, order: float | None, dtype: torch.dtype) -> tuple[str, Tensor | None]:
    """The kind of solver, and alpha - 1 for every row where it is needed."""
    if alpha is not None:
        return "any", (per_row(alpha, x, dtype) - 1).contiguous()
    if order in (1.5, 2.0):
        return f"{order:g}", None
    return "any", torch.empty((x.numel() // x.shape[-1],), dtype=dtype, device=x.device).fill_(float(order or 0.0) - 1)


def forward(x: Tensor, alpha: Tensor | None, *, order: float | None) -> tuple[Tensors, Optional]:
    x = x.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    dtype = accumulate_dtype(x, alpha)
    kind, powers = _powers(x, alpha, order, dtype)
    y = torch.empty_like(x)
    settings = {"KIND": kind, "TOLERANCE": 2 * torch.finfo(dtype).eps, "MOST": MOST_STEPS, "ACC": ACCUMULATE[dtype], **_shape(rows, width)}
    launch(forward_kernel, (cdiv(rows, settings["ROWS"]),), x, or_unused(powers, x), y, rows, width, **settings)
    return (y,), ()


def backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, order: float | None) -> Optional:
    (x, alpha), (p,), (dy,) = args, outputs, cotangents
    p, dy = p.contiguous(), dy.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    dtype = accumulate_dtype(x, alpha)
    kind, powers = _powers(x, alpha, order, dtype)
    dx = torch.empty_like(p)
    dorder = torch.empty((rows,), dtype=dtype, device=x.device) if alpha is not None and wanted[1] else None
    settings = {"KIND": kind, "WANTS_ORDER": dorder is not None, "ACC": ACCUMULATE[dtype], **_shape(rows, width)}
    tensors = (p, or_unused(powers, p), dy, dx, or_unused(dorder, dx))
    launch(backward_kernel, (cdiv(rows, settings["ROWS"]),), *tensors, rows, width, **settings)
    dalpha = None if dorder is None else dorder.view(*x.shape[:-1], 1).sum_to_size(alpha.shape).to(alpha.dtype)
    return dx, dalpha


def variants() -> list[Variant]:
    types = {"rows": "i32", "width": "i32", "powers": "*fp32", "dorder": "*fp32"}
    made = []
    for kind, width in (("1.5", 64), ("any", WIDEST)):
        shape = _shape(1 << 20, width)
        options = {"num_warps": shape.pop("num_warps")}
        constants = {"KIND": kind, "ACC": tl.float32, **shape}
        made.append(Variant(forward_kernel, {**constants, "TOLERANCE": 2.0**-22, "MOST": MOST_STEPS}, types, options))
        made.append(Variant(backward_kernel, {**constants, "WANTS_ORDER": kind == "any"}, types, options))
    return made
