"""The layer in Triton: matrix products whose expanded operand is made in registers, so that no (n, Din, G) tensor reaches memory.

Forward is one launch. Backward is one for dx (a product, then the slopes of the basis, and partial sums for the grid) and one for dW
(rows shared out over programs, whose partial sums are added afterwards).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, accumulate_dtype, fused
from ..launching import ACCUMULATE, cdiv, cover, launch, tile
from ..spec import Variant
from .basis import Bumps, CoxDeBoor, grid_gradient, make_basis
from .reference import reference
from .triton_basis import CHEBYSHEV, KINDS, argument, basis, standardised

HALVES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
# Tiles (rows, inputs, outputs) and warps that need no more registers than there are; float32 products do not run on tensor cores.
TILES = {
    "forward": {True: ((32, 32, 64), 4), False: ((32, 16, 32), 4)},
    "input": {True: ((64, 32, 64), 8), False: ((32, 16, 16), 4)},
    "weight": {True: ((32, 32, 64), 8), False: ((16, 32, 32), 4)},
}


@triton.jit
def forward_kernel(
    x, weight, table, y, rows, inputs, outputs, count, step, across,
    KIND: tl.constexpr, ORDER: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """y (rows, outputs) from x (rows, inputs) and weight (count, inputs, outputs)."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    total = tl.zeros((BLOCK_N, BLOCK_O), dtype=ACC)
    for first in range(0, inputs, BLOCK_I):
        i = first + tl.arange(0, BLOCK_I)
        inside = (i < inputs)[None, :]
        u = tl.load(x + n[:, None] * inputs + i[None, :], mask=(n < rows)[:, None] & inside, other=0.0)
        u = argument(u.to(ACC), KIND)
        for g in range(count):
            phi = basis(u, g, count, table, step, (i * across)[None, :], inside, False, KIND, ORDER)
            at = (g * inputs + i)[:, None] * outputs + o[None, :]
            w = tl.load(weight + at, mask=(i < inputs)[:, None] & (o < outputs)[None, :], other=0.0)
            total = tl.dot(phi.to(DOT), w.to(DOT), total, input_precision="ieee", out_dtype=ACC)
    tl.store(y + n[:, None] * outputs + o[None, :], total, mask=(n < rows)[:, None] & (o < outputs)[None, :])


@triton.jit
def input_kernel(
    x, weight, table, dy, dx, dgrid, rows, inputs, outputs, count, step, across,
    WANTS_GRID: tl.constexpr, KIND: tl.constexpr, ORDER: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """dx (rows, inputs) from weight (count, outputs, inputs); dgrid (programs, 2, count, inputs) for centres and widths."""
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    inside = (i < inputs)[None, :]
    mask = (n < rows)[:, None] & inside
    u = argument(tl.load(x + n[:, None] * inputs + i[None, :], mask=mask, other=0.0).to(ACC), KIND)
    total = tl.zeros((BLOCK_N, BLOCK_I), dtype=ACC)
    for g in range(count):
        along = tl.zeros((BLOCK_N, BLOCK_I), dtype=ACC)
        for first in range(0, outputs, BLOCK_O):
            o = first + tl.arange(0, BLOCK_O)
            cotangent = tl.load(dy + n[:, None] * outputs + o[None, :], mask=(n < rows)[:, None] & (o < outputs)[None, :], other=0.0)
            at = (g * outputs + o)[:, None] * inputs + i[None, :]
            w = tl.load(weight + at, mask=(o < outputs)[:, None] & inside, other=0.0)
            along = tl.dot(cotangent.to(DOT), w.to(DOT), along, input_precision="ieee", out_dtype=ACC)
        along *= basis(u, g, count, table, step, (i * across)[None, :], inside, True, KIND, ORDER)
        total += along
        if WANTS_GRID:
            z = standardised(u, g, count, table, step, (i * across)[None, :], inside)
            at = dgrid + (tl.program_id(0).to(tl.int64) * 2 * count + g) * inputs + i
            tl.store(at, -tl.sum(along, axis=0), mask=i < inputs)
            tl.store(at + count * inputs, -tl.sum(along * z, axis=0), mask=i < inputs)
    if KIND == CHEBYSHEV:
        total *= 1.0 - u * u
    tl.store(dx + n[:, None] * inputs + i[None, :], total, mask=mask)


@triton.jit
def weight_kernel(
    x, table, dy, dweight, rows, inputs, outputs, count, step, across, share,
    KIND: tl.constexpr, ORDER: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """dweight (shares, count, inputs, outputs), each the sum over ``share`` rows; a program makes one tile of one function."""
    i = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    part = tl.program_id(2) // count
    g = tl.program_id(2) % count
    inside = (i < inputs)[:, None]
    total = tl.zeros((BLOCK_I, BLOCK_O), dtype=ACC)
    begin = part.to(tl.int64) * share
    for first in range(0, share, BLOCK_N):
        n = begin + first + tl.arange(0, BLOCK_N)
        there = n < rows
        u = tl.load(x + n[None, :] * inputs + i[:, None], mask=inside & there[None, :], other=0.0)
        phi = basis(argument(u.to(ACC), KIND), g, count, table, step, (i * across)[:, None], inside, False, KIND, ORDER)
        cotangent = tl.load(dy + n[:, None] * outputs + o[None, :], mask=there[:, None] & (o < outputs)[None, :], other=0.0)
        total = tl.dot(phi.to(DOT), cotangent.to(DOT), total, input_precision="ieee", out_dtype=ACC)
    at = (tl.program_id(2).to(tl.int64) * inputs + i[:, None]) * outputs + o[None, :]
    tl.store(dweight + at, total, mask=inside & (o < outputs)[None, :])


def triton_(x: Tensor, weight: Tensor, grid: Tensor | None = None, **options: Any) -> Tensor:
    return fused(CORE, x, weight, grid, **options)[0]


def forward(x: Tensor, weight: Tensor, grid: Tensor | None, **options: Any) -> tuple[tuple[Tensor, ...], tuple[()]]:
    x = x.contiguous()
    y = torch.empty((*x.shape[:-1], len(weight)), dtype=x.dtype, device=x.device)
    table, sizes, constants = _prepared(x, weight, grid, **options)
    constants |= blocks("forward", sizes, constants)
    programs = cdiv(sizes[0], constants["BLOCK_N"]), cdiv(len(weight), constants["BLOCK_O"])
    launch(forward_kernel, programs, x, weight.permute(2, 1, 0).contiguous(), table, y, *sizes, **constants)
    return (y,), ()


def backward(
    args: tuple[Tensor, Tensor, Tensor | None],
    outputs: tuple[()],
    saved: tuple[()],
    cotangents: tuple[Tensor],
    wanted: tuple[bool, ...],
    **options: Any,
) -> tuple[Tensor | None, ...]:
    x, weight, grid = args[0].contiguous(), args[1], args[2]
    dy = cotangents[0].contiguous()
    table, sizes, constants = _prepared(x, weight, grid, **options)
    wants_grid = wanted[2] and options["basis"] != "bspline"
    dx = dgrid = dweight = None
    if wanted[0] or wants_grid:
        dx, dgrid = _input_gradients(x, weight, grid if wants_grid else None, table, dy, sizes, constants, options["basis"])
    if wanted[1]:
        dweight = _weight_gradient(x, weight, table, dy, sizes, constants)
    return dx, dweight, dgrid


def _input_gradients(
    x: Tensor, weight: Tensor, grid: Tensor | None, table: Tensor, dy: Tensor, sizes: tuple[int, ...], constants: dict[str, Any], basis: str
) -> tuple[Tensor, Tensor | None]:
    rows, inputs, _, count, *_ = sizes
    constants = constants | blocks("input", sizes, constants)
    programs = cdiv(rows, constants["BLOCK_N"]), cdiv(inputs, constants["BLOCK_I"])
    dx = torch.empty_like(x)
    partial = table
    if grid is not None:
        partial = torch.empty((programs[0], 2, count, inputs), dtype=table.dtype, device=x.device)
    tensors = (x, weight.permute(2, 0, 1).contiguous(), table, dy, dx, partial)
    launch(input_kernel, programs, *tensors, *sizes, WANTS_GRID=grid is not None, **constants)
    if grid is None:
        return dx, None
    dcentres, dwidths = partial.sum(0).unbind(0)
    return dx, grid_gradient(dcentres, dwidths, grid, basis)


def _weight_gradient(x: Tensor, weight: Tensor, table: Tensor, dy: Tensor, sizes: tuple[int, ...], constants: dict[str, Any]) -> Tensor:
    rows, inputs, outputs, count, *_ = sizes
    constants = constants | blocks("weight", sizes, constants)
    share = tile(rows, max(512, cover(cdiv(rows, 64))), least=constants["BLOCK_N"])
    shares = cdiv(rows, share)
    programs = cdiv(inputs, constants["BLOCK_I"]), cdiv(outputs, constants["BLOCK_O"]), shares * count
    partial = torch.empty((shares, count, inputs, outputs), dtype=table.dtype, device=x.device)
    launch(weight_kernel, programs, x, table, dy, partial, *sizes, share, **constants)
    return partial.sum(0).permute(2, 1, 0).to(weight.dtype)


CORE = Core(forward, backward, reference)


def _prepared(x: Tensor, weight: Tensor, grid: Tensor | None, **options: Any) -> tuple[Tensor, tuple[int, ...], dict[str, Any]]:
    """The table of knots, or of centres and inverse widths; the sizes; the constants of every kernel."""
    dtype = accumulate_dtype(x, weight, grid)
    made = make_basis(x, weight, grid, dtype, **options)
    kind, table = options["basis"], made.slope_scale
    if isinstance(made, Bumps):
        kind = "cardinal" if kind == "bspline" else kind
        table = torch.cat([made.centres, made.inverse.expand_as(made.centres)])
    elif isinstance(made, CoxDeBoor):
        kind, table = "knots", made.knots
    outputs, inputs, count = weight.shape
    rows, step = x.numel() // inputs, table.shape[1]
    half = HALVES.get(x.dtype) if x.is_cuda and weight.dtype == x.dtype else None
    constants = {
        "KIND": KINDS[kind],
        "ORDER": options["order"] if kind in ("cardinal", "knots") else 0,
        "ACC": ACCUMULATE[dtype],
        "DOT": half or ACCUMULATE[dtype],
    }
    return table, (rows, inputs, outputs, count, step, int(step > 1)), constants


def blocks(kernel: str, sizes: tuple[int, ...], constants: dict[str, Any]) -> dict[str, int]:
    """Tiles and warps of one kernel."""
    most, warps = TILES[kernel][constants["DOT"] in HALVES.values()]
    tiles = (tile(size, largest, least=16) for size, largest in zip(sizes, most, strict=False))
    return {**dict(zip(("BLOCK_N", "BLOCK_I", "BLOCK_O"), tiles, strict=True)), "num_warps": warps}


def variants() -> list[Variant]:
    sizes = dict.fromkeys(("rows", "inputs", "outputs", "count", "step", "across", "share"), "i32")
    types = sizes | dict.fromkeys(("table", "dgrid", "dweight"), "*fp32")
    made = []
    for name, kernel, kind, half, size in (
        ("forward", forward_kernel, "cardinal", True, 64),
        ("forward", forward_kernel, "knots", False, 64),
        ("input", input_kernel, "rbf", True, 64),
        ("input", input_kernel, "rbf", False, 64),
        ("weight", weight_kernel, "chebyshev", True, 64),
    ):
        constants: dict[str, Any] = {"KIND": KINDS[kind], "ORDER": 3, "ACC": tl.float32, "DOT": tl.bfloat16 if half else tl.float32}
        tiles = blocks(name, (size, size, size), constants)
        options = {"num_warps": tiles.pop("num_warps")}
        if kernel is input_kernel:
            constants["WANTS_GRID"] = kind == "rbf"
        made.append(Variant(kernel, constants | tiles, types, options, default="*bf16" if half else "*fp32"))
    return made
