r"""PyTorch without Triton: a block of rows at a time is expanded, multiplied and forgotten, and expanded again for the gradient.

.. math:: \bar W_{ig} = \sum_n \phi_g(x_{ni}) \bar y_n, \qquad \bar x_{ni} = \sum_g \phi'_g(x_{ni}) \, (\bar y_n \cdot W_{ig})

Memory holds one block of the expansion, which stays in cache, instead of all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..function import Core, accumulate_dtype, fused
from .basis import Buffers, Bumps, grid_gradient, make_basis
from .reference import reference

ELEMENTS = 2**17  # of one expanded block


def fast(x: Tensor, weight: Tensor, grid: Tensor | None = None, **options: Any) -> Tensor:
    return fused(CORE, x, weight, grid, **options)[0]


def forward(x: Tensor, weight: Tensor, grid: Tensor | None, **options: Any) -> tuple[tuple[Tensor, ...], tuple[()]]:
    dtype = accumulate_dtype(x, weight, grid)
    basis = make_basis(x, weight, grid, dtype, **options)
    rows, matrix = x.reshape(-1, x.shape[-1]), _flat(weight, dtype)
    zero = matrix.new_zeros(())
    y = rows.new_empty((len(rows), len(matrix)))
    for part, buffers in _blocks(len(rows), weight, zero):
        basis.write(_columns(rows[part], dtype), buffers, slopes=False)
        y[part] = torch.addmm(zero, buffers["values"].flatten(0, 1).T, matrix.T, beta=0, alpha=basis.value_scale)
    return (y.view(*x.shape[:-1], len(matrix)),), ()


def backward(
    args: tuple[Tensor, Tensor, Tensor | None],
    outputs: tuple[()],
    saved: tuple[()],
    cotangents: tuple[Tensor],
    wanted: tuple[bool, ...],
    **options: Any,
) -> tuple[Tensor | None, ...]:
    x, weight, grid = args
    wants_x, wants_weight, wants_grid = wanted
    wants_grid = wants_grid and options["basis"] != "bspline"
    dtype = accumulate_dtype(*args)
    basis = make_basis(x, weight, grid, dtype, **options)
    rows, dy, matrix = x.reshape(-1, x.shape[-1]), cotangents[0].reshape(-1, len(weight)), _flat(weight, dtype)
    count, inputs = weight.shape[2], weight.shape[1]
    scaled = (matrix.view(-1, count, inputs, 1) * basis.slope_scale).view(matrix.shape)
    dx = torch.empty_like(rows) if wants_x else None
    dmatrix = torch.zeros_like(matrix) if wants_weight else None
    dcentres, dwidths = matrix.new_zeros((2, count, inputs))
    for part, buffers in _blocks(len(rows), weight, scaled):
        block, cotangent = _columns(rows[part], dtype), dy[part].to(dtype)
        basis.write(block, buffers, slopes=wants_x or wants_grid)
        if dmatrix is not None:
            dmatrix.addmm_(cotangent.T, buffers["values"].flatten(0, 1).T, alpha=basis.value_scale)
        if not (wants_x or wants_grid):
            continue
        along = buffers["work"]
        torch.mm(scaled.T, cotangent.T, out=along.flatten(0, 1))
        along.mul_(buffers["slopes"])
        if dx is not None:
            dx[part] = basis.chain(along.sum(0), buffers).T
        if wants_grid:
            dcentres -= along.sum(2)
            dwidths -= along.mul_(buffers["offsets"]).sum(2)
    dweight = None if dmatrix is None else dmatrix.view(-1, count, inputs).transpose(1, 2).to(weight.dtype)
    dgrid = None
    if grid is not None and isinstance(basis, Bumps) and wants_grid:
        dgrid = grid_gradient(dcentres, dwidths * basis.inverse.squeeze(2), grid, options["basis"])
    return None if dx is None else dx.view(x.shape), dweight, dgrid


CORE = Core(forward, backward, reference)


def _flat(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(Dout, Din, G) as (Dout, G * Din)."""
    return weight.to(dtype).transpose(1, 2).flatten(1)


def _columns(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """(rows, Din) as (Din, rows)."""
    return rows.T.contiguous().to(dtype)


def _blocks(rows: int, weight: Tensor, like: Tensor) -> Iterator[tuple[slice, Buffers]]:
    """Slices of the rows, and buffers for as many."""
    _, inputs, count = weight.shape
    step = min(rows, max(32, ELEMENTS // (inputs * count)))
    buffers = Buffers(like, (count, inputs), step)
    for start in range(0, rows, step):
        buffers.rows = min(step, rows - start)
        yield slice(start, start + buffers.rows), buffers
