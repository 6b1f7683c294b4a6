"""EvoNorm-S0 in Triton: one launch per direction, statistics in float32 (float64 for float64 inputs).

A program owns one group of channels of some samples, as tiles of samples, channels and positions, and walks over it: for the mean,
for the variance, and for the result. The gradients of v, weight and bias leave it as sums over its samples, one row of partial
sums per program.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype
from ..launching import ACCUMULATE, cdiv, launch, or_unused, tile
from ..numerics import sigmoid
from ..spec import Variant
from .s0 import reference

Given = tuple[Any, ...]
COMPILER = {"num_warps": 8}


@triton.jit
def forward_kernel(
    x, v, weight, bias, y, means, inverses, batch, channels, each, size, groups,
    HAS_V: tl.constexpr, CENTRED: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """x, y (batch, channels, size); means, inverses (batch, groups); ``each`` channels per group."""
    group = tl.program_id(1)
    sample = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = sample < batch
    base = (sample * channels + group * each) * size
    count = each * size
    mean = tl.zeros((BLOCK_B,), dtype=ACC)
    if CENTRED:
        for first in range(0, each, BLOCK_C):
            channel = first + tl.arange(0, BLOCK_C)
            for start in range(0, size, BLOCK_S):
                position = start + tl.arange(0, BLOCK_S)
                mask = inside[:, None, None] & (channel < each)[None, :, None] & (position < size)[None, None, :]
                at = base[:, None, None] + channel[None, :, None] * size + position[None, None, :]
                value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
                mean += tl.sum(tl.sum(value, axis=2), axis=1)
        mean = mean / count
    moment = tl.zeros((BLOCK_B,), dtype=ACC)
    for first in range(0, each, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        for start in range(0, size, BLOCK_S):
            position = start + tl.arange(0, BLOCK_S)
            mask = inside[:, None, None] & (channel < each)[None, :, None] & (position < size)[None, None, :]
            at = base[:, None, None] + channel[None, :, None] * size + position[None, None, :]
            value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
            value = tl.where(mask, value - mean[:, None, None], 0.0)
            moment += tl.sum(tl.sum(value * value, axis=2), axis=1)
    inverse = tl.rsqrt(moment / count + EPS)
    tl.store(means + sample * groups + group, mean, mask=inside)
    tl.store(inverses + sample * groups + group, inverse, mask=inside)
    for first in range(0, each, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        real = channel < each
        gain = tl.load(weight + group * each + channel, mask=real, other=0.0).to(ACC)
        shift = tl.load(bias + group * each + channel, mask=real, other=0.0).to(ACC)
        for start in range(0, size, BLOCK_S):
            position = start + tl.arange(0, BLOCK_S)
            mask = inside[:, None, None] & real[None, :, None] & (position < size)[None, None, :]
            at = base[:, None, None] + channel[None, :, None] * size + position[None, None, :]
            value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
            inner = value
            if HAS_V:
                inner = value * tl.load(v + group * each + channel, mask=real, other=0.0).to(ACC)[None, :, None]
            out = value * sigmoid(inner) * inverse[:, None, None] * gain[None, :, None] + shift[None, :, None]
            tl.store(y + at, out, mask=mask)


@triton.jit
def backward_kernel(
    x, v, weight, dy, means, inverses, dx, partials, batch, channels, each, size, groups,
    HAS_V: tl.constexpr, ACC: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """dx (batch, channels, size); partials (blocks of samples, 3, channels): sums for dv, dweight and dbias."""
    group = tl.program_id(1)
    sample = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    inside = sample < batch
    base = (sample * channels + group * each) * size
    mean = tl.load(means + sample * groups + group, mask=inside, other=0.0)
    inverse = tl.load(inverses + sample * groups + group, mask=inside, other=0.0)
    along = tl.zeros((BLOCK_B,), dtype=ACC)
    into = partials + tl.program_id(0).to(tl.int64) * 3 * channels + group * each
    for first in range(0, each, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        real = channel < each
        gain = tl.load(weight + group * each + channel, mask=real, other=0.0).to(ACC)
        dv = tl.zeros((BLOCK_C,), dtype=ACC)
        dweight = tl.zeros((BLOCK_C,), dtype=ACC)
        dbias = tl.zeros((BLOCK_C,), dtype=ACC)
        for start in range(0, size, BLOCK_S):
            position = start + tl.arange(0, BLOCK_S)
            mask = inside[:, None, None] & real[None, :, None] & (position < size)[None, None, :]
            at = base[:, None, None] + channel[None, :, None] * size + position[None, None, :]
            value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
            given = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
            inner = value
            if HAS_V:
                inner = value * tl.load(v + group * each + channel, mask=real, other=0.0).to(ACC)[None, :, None]
            gate = sigmoid(inner)
            dbias += tl.sum(tl.sum(given, axis=2), axis=0)
            swish = tl.sum(given * value * gate, axis=2) * inverse[:, None]
            along += tl.sum(swish * gain[None, :], axis=1)
            dweight += tl.sum(swish, axis=0)
            if HAS_V:
                bend = tl.sum(given * value * value * gate * (1.0 - gate), axis=2) * inverse[:, None]
                dv += tl.sum(bend, axis=0) * gain
        tl.store(into + channel, dv, mask=real)
        tl.store(into + channels + channel, dweight, mask=real)
        tl.store(into + 2 * channels + channel, dbias, mask=real)
    pull = along * inverse * inverse / (each * size)
    for first in range(0, each, BLOCK_C):
        channel = first + tl.arange(0, BLOCK_C)
        real = channel < each
        gain = tl.load(weight + group * each + channel, mask=real, other=0.0).to(ACC)
        for start in range(0, size, BLOCK_S):
            position = start + tl.arange(0, BLOCK_S)
            mask = inside[:, None, None] & real[None, :, None] & (position < size)[None, None, :]
            at = base[:, None, None] + channel[None, :, None] * size + position[None, None, :]
            value = tl.load(x + at, mask=mask, other=0.0).to(ACC)
            given = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
            inner = value
            if HAS_V:
                inner = value * tl.load(v + group * each + channel, mask=real, other=0.0).to(ACC)[None, :, None]
            gate = sigmoid(inner)
            direct = given * gain[None, :, None] * inverse[:, None, None] * gate * (1.0 + inner * (1.0 - gate))
            tl.store(dx + at, direct - (value - mean[:, None, None]) * pull[:, None, None], mask=mask)


def _forward(
    x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool
) -> tuple[Tensors, Optional]:
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    dtype = accumulate_dtype(x, v, weight, bias)
    y = torch.empty_like(x)
    means, inverses = (torch.empty((x.shape[0], groups), dtype=dtype, device=x.device) for _ in range(2))
    grid, numbers, tiles = _plan(x, groups)
    options = {"HAS_V": v is not None, "CENTRED": centred, "EPS": eps, "ACC": ACCUMULATE[dtype], **tiles, **COMPILER}
    launch(forward_kernel, grid, x, or_unused(v, x), weight, bias, y, means, inverses, *numbers, **options)
    return (y,), (means, inverses)


def _backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, groups: int, eps: float, centred: bool
) -> Optional:
    x, v, weight, bias = args
    means, inverses = saved
    x, weight, dy = x.contiguous(), weight.contiguous(), cotangents[0].contiguous()
    dx = torch.empty_like(x)
    grid, numbers, tiles = _plan(x, groups)
    partials = torch.empty((grid[0], 3, x.shape[1]), dtype=means.dtype, device=x.device)
    options = {"HAS_V": v is not None, "ACC": ACCUMULATE[means.dtype], **tiles, **COMPILER}
    launch(backward_kernel, grid, x, or_unused(v, x), weight, dy, means, inverses, dx, partials, *numbers, **options)
    dv, dweight, dbias = partials.sum(0).unbind()
    return dx, None if v is None else dv.to(v.dtype), dweight.to(weight.dtype), dbias.to(bias.dtype)


CORE = Core(_forward, _backward, reference)


def _plan(x: Tensor, groups: int) -> tuple[tuple[int, int], tuple[int, ...], dict[str, int]]:
    """Tiles of about 1024 entries: positions first, then channels of the group, then samples."""
    batch, channels = x.shape[:2]
    size, each = x[0, 0].numel(), channels // groups
    positions = tile(size, 256)
    along = tile(each, max(1, 1024 // positions))
    tiles = {"BLOCK_B": tile(batch, max(1, 1024 // (positions * along))), "BLOCK_C": along, "BLOCK_S": positions}
    return (cdiv(batch, tiles["BLOCK_B"]), groups), (batch, channels, each, size, groups), tiles


def variants() -> list[Variant]:
    types = dict.fromkeys(("batch", "channels", "each", "size", "groups"), "i32")
    types |= dict.fromkeys(("v", "weight", "bias", "means", "inverses", "partials"), "*fp32")
    made = []
    for block, has_v in (((1, 4, 256), True), ((128, 8, 1), False)):
        tiles = dict(zip(("BLOCK_B", "BLOCK_C", "BLOCK_S"), block, strict=True))
        constants = {"HAS_V": has_v, "ACC": tl.float32, **tiles}
        made.append(Variant(forward_kernel, {**constants, "CENTRED": has_v, "EPS": 1e-5}, types, COMPILER))
        made.append(Variant(backward_kernel, constants, types, COMPILER))
    return made
