"""Hyper-connections in Triton: one launch per direction, each copy of the stream read once.

A program holds a tile of positions with all their copies and walks over the width; inner products over the width (the gradients of the
coefficients) are summed in registers, by position. Coefficients that are the same at every position have a position stride of zero.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .function import Core, Optional, Tensors, accumulate_dtype
from .hyper_connection import gathered, read_reference, rows, write_reference
from .launching import ACCUMULATE, cdiv, cover, launch, tile
from .spec import Variant

COMPILER = {"num_warps": 4}


@triton.jit
def read_forward(
    h, alpha, x, positions, streams, width, alpha_stride,
    ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """x = sum_i alpha_i h_i for h (positions, streams, width)."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    copy = tl.arange(0, BLOCK_N)
    held = (row < positions)[:, None] & (copy < streams)[None, :]
    weight = tl.load(alpha + row[:, None] * alpha_stride + copy[None, :], mask=held, other=0.0).to(ACC)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = held[:, :, None] & (channel < width)[None, None, :]
    place = (row[:, None] * streams + copy[None, :])[:, :, None] * width + channel[None, None, :]
    given = tl.load(h + place, mask=mask, other=0.0).to(ACC)
    out = tl.sum(weight[:, :, None] * given, axis=1)
    tl.store(x + row[:, None] * width + channel[None, :], out, mask=(row < positions)[:, None] & (channel < width)[None, :])


@triton.jit
def read_backward(
    h, alpha, dx, dh, dalpha, positions, streams, width, alpha_stride,
    ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dh_i = alpha_i dx and dalpha_i = <h_i, dx>; dalpha is (positions, streams)."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    copy = tl.arange(0, BLOCK_N)
    held = (row < positions)[:, None] & (copy < streams)[None, :]
    weight = tl.load(alpha + row[:, None] * alpha_stride + copy[None, :], mask=held, other=0.0).to(ACC)
    total = tl.zeros((BLOCK_R, BLOCK_N), dtype=ACC)
    for start in range(0, width, BLOCK_D):
        channel = start + tl.arange(0, BLOCK_D)
        inside = (channel < width)[None, :]
        mask = held[:, :, None] & inside[:, None, :]
        place = (row[:, None] * streams + copy[None, :])[:, :, None] * width + channel[None, None, :]
        given = tl.load(h + place, mask=mask, other=0.0).to(ACC)
        cotangent = tl.load(dx + row[:, None] * width + channel[None, :], mask=(row < positions)[:, None] & inside, other=0.0).to(ACC)
        tl.store(dh + place, weight[:, :, None] * cotangent[:, None, :], mask=mask)
        total += tl.sum(given * cotangent[:, None, :], axis=2)
    tl.store(dalpha + row[:, None] * streams + copy[None, :], total, mask=held)


@triton.jit
def write_forward(
    h, y, beta, mix, out, positions, width, beta_stride, mix_stride,
    STREAMS: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out_j = sum_i mix_ij h_i + beta_j y; one copy is added to all results at a time."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    copy = tl.arange(0, BLOCK_N)
    held = (row < positions)[:, None] & (copy < STREAMS)[None, :]
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (row < positions)[:, None] & (channel < width)[None, :]
    weight = tl.load(beta + row[:, None] * beta_stride + copy[None, :], mask=held, other=0.0).to(ACC)
    given = tl.load(y + row[:, None] * width + channel[None, :], mask=inside, other=0.0).to(ACC)
    total = weight[:, :, None] * given[:, None, :]
    for i in tl.static_range(STREAMS):
        share = tl.load(mix + row[:, None] * mix_stride + i * STREAMS + copy[None, :], mask=held, other=0.0).to(ACC)
        given = tl.load(h + (row[:, None] * STREAMS + i) * width + channel[None, :], mask=inside, other=0.0).to(ACC)
        total += share[:, :, None] * given[:, None, :]
    place = (row[:, None] * STREAMS + copy[None, :])[:, :, None] * width + channel[None, None, :]
    tl.store(out + place, total, mask=held[:, :, None] & (channel < width)[None, None, :])


@triton.jit
def write_backward(
    h, y, beta, mix, dout, dh, dy, dbeta, dmix, positions, width, beta_stride, mix_stride,
    STREAMS: tl.constexpr, ACC: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """dh_i = sum_j mix_ij dout_j, dy = sum_j beta_j dout_j, dbeta_j = <dout_j, y>, dmix_ij = <h_i, dout_j>."""
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
    copy = tl.arange(0, BLOCK_N)
    held = (row < positions)[:, None] & (copy < STREAMS)[None, :]
    weight = tl.load(beta + row[:, None] * beta_stride + copy[None, :], mask=held, other=0.0).to(ACC)
    of_beta = tl.zeros((BLOCK_R, BLOCK_N), dtype=ACC)
    of_mix = tl.zeros((BLOCK_R, BLOCK_N, BLOCK_N), dtype=ACC)
    for start in range(0, width, BLOCK_D):
        channel = start + tl.arange(0, BLOCK_D)
        inside = (row < positions)[:, None] & (channel < width)[None, :]
        place = (row[:, None] * STREAMS + copy[None, :])[:, :, None] * width + channel[None, None, :]
        cotangent = tl.load(dout + place, mask=held[:, :, None] & (channel < width)[None, None, :], other=0.0).to(ACC)
        given = tl.load(y + row[:, None] * width + channel[None, :], mask=inside, other=0.0).to(ACC)
        tl.store(dy + row[:, None] * width + channel[None, :], tl.sum(weight[:, :, None] * cotangent, axis=1), mask=inside)
        of_beta += tl.sum(cotangent * given[:, None, :], axis=2)
        for i in tl.static_range(STREAMS):
            share = tl.load(mix + row[:, None] * mix_stride + i * STREAMS + copy[None, :], mask=held, other=0.0).to(ACC)
            where = (row[:, None] * STREAMS + i) * width + channel[None, :]
            given = tl.load(h + where, mask=inside, other=0.0).to(ACC)
            tl.store(dh + where, tl.sum(share[:, :, None] * cotangent, axis=1), mask=inside)
            product = tl.sum(cotangent * given[:, None, :], axis=2)
            of_mix += tl.where((copy == i)[None, :, None], product[:, None, :], 0.0)
    tl.store(dbeta + row[:, None] * STREAMS + copy[None, :], of_beta, mask=held)
    pair = copy[:, None] * STREAMS + copy[None, :]
    both = held[:, :, None] & (copy < STREAMS)[None, None, :]
    tl.store(dmix + row[:, None, None] * STREAMS * STREAMS + pair[None, :, :], of_mix, mask=both)


def blocks(positions: int, streams: int, width: int) -> dict[str, int]:
    """About 1024 elements of all copies in a tile: 4096 spill."""
    held = cover(streams)
    wide = tile(width, 64)
    return {"BLOCK_R": tile(positions, max(1, 1024 // (held * wide))), "BLOCK_N": held, "BLOCK_D": wide}


def own_stride(coefficient: Tensor, axes: int) -> int:
    """From one position's coefficients to the next one's."""
    return 0 if coefficient.dim() == axes else int(coefficient.shape[-1]) ** axes


def _read_forward(streams: Tensor, alpha: Tensor) -> tuple[Tensors, Optional]:
    copies, weights = rows(streams).contiguous(), alpha.contiguous()
    positions, n, width = copies.shape
    x = torch.empty(streams.shape[:-2] + streams.shape[-1:], dtype=streams.dtype, device=streams.device)
    tiles = blocks(positions, n, width)
    grid = (cdiv(positions, tiles["BLOCK_R"]), cdiv(width, tiles["BLOCK_D"]))
    acc = ACCUMULATE[accumulate_dtype(streams, alpha)]
    launch(read_forward, grid, copies, weights, x, positions, n, width, own_stride(alpha, 1), ACC=acc, **tiles, **COMPILER)
    return (x,), ()


def _read_backward(args: Tensors, outputs: Tensors, saved: Optional, cotangents: Tensors, wanted: tuple[bool, ...]) -> Optional:
    streams, alpha = args
    (dx,) = cotangents
    copies, weights = rows(streams).contiguous(), alpha.contiguous()
    positions, n, width = copies.shape
    dtype = accumulate_dtype(streams, alpha)
    dh = torch.empty(streams.shape, dtype=streams.dtype, device=streams.device)
    dalpha = torch.empty((positions, n), dtype=dtype, device=streams.device)
    tiles = blocks(positions, n, width)
    pointers = (copies, weights, dx.contiguous(), dh, dalpha)
    grid = (cdiv(positions, tiles["BLOCK_R"]),)
    launch(read_backward, grid, *pointers, positions, n, width, own_stride(alpha, 1), ACC=ACCUMULATE[dtype], **tiles, **COMPILER)
    return dh, gathered(dalpha, alpha, 1)


def _write_forward(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> tuple[Tensors, Optional]:
    copies = rows(streams).contiguous()
    positions, n, width = copies.shape
    out = torch.empty(streams.shape, dtype=streams.dtype, device=streams.device)
    tiles = blocks(positions, n, width)
    constants = {"STREAMS": n, "ACC": ACCUMULATE[accumulate_dtype(streams, y, beta, mix)], **tiles}
    grid = (cdiv(positions, tiles["BLOCK_R"]), cdiv(width, tiles["BLOCK_D"]))
    pointers = (copies, y.contiguous(), beta.contiguous(), mix.contiguous(), out)
    launch(write_forward, grid, *pointers, positions, width, own_stride(beta, 1), own_stride(mix, 2), **constants, **COMPILER)
    return (out,), ()


def _write_backward(args: Tensors, outputs: Tensors, saved: Optional, cotangents: Tensors, wanted: tuple[bool, ...]) -> Optional:
    streams, y, beta, mix = args
    (d_out,) = cotangents
    copies = rows(streams).contiguous()
    positions, n, width = copies.shape
    dtype = accumulate_dtype(streams, y, beta, mix)
    dh = torch.empty(streams.shape, dtype=streams.dtype, device=streams.device)
    dy = torch.empty(y.shape, dtype=y.dtype, device=streams.device)
    dbeta = torch.empty((positions, n), dtype=dtype, device=streams.device)
    dmix = torch.empty((positions, n, n), dtype=dtype, device=streams.device)
    tiles = blocks(positions, n, width)
    pointers = (copies, y.contiguous(), beta.contiguous(), mix.contiguous(), d_out.contiguous(), dh, dy, dbeta, dmix)
    strides = (own_stride(beta, 1), own_stride(mix, 2))
    grid = (cdiv(positions, tiles["BLOCK_R"]),)
    launch(write_backward, grid, *pointers, positions, width, *strides, STREAMS=n, ACC=ACCUMULATE[dtype], **tiles, **COMPILER)
    return dh, dy, gathered(dbeta, beta, 1), gathered(dmix, mix, 2)


READ_CORE = Core(_read_forward, _read_backward, read_reference)
WRITE_CORE = Core(_write_forward, _write_backward, write_reference)


def variants(direction: str) -> list[Variant]:
    types = dict.fromkeys(("positions", "streams", "width", "alpha_stride", "beta_stride", "mix_stride"), "i32")
    types |= dict.fromkeys(("alpha", "beta", "mix", "dalpha", "dbeta", "dmix"), "*fp32")
    made = []
    for n in (4, 8):
        tiles = {"ACC": tl.float32, **blocks(1 << 20, n, 1 << 10)}
        constants = tiles if direction == "read" else {**tiles, "STREAMS": n}
        kernels = (read_forward, read_backward) if direction == "read" else (write_forward, write_backward)
        made += [Variant(kernel, constants, types, COMPILER) for kernel in kernels]
    return made
