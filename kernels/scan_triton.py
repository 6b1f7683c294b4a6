"""The diagonal recurrence in Triton: one launch per direction, states in float32 (float64 for float64 inputs).

A program owns one sequence and a block of channels. It walks over the sequence in blocks of steps; inside a block an associative
scan of the pairs (product of gates, state from zero) gives all states at once, and the state of the block before enters through
the running product of the gates.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .function import accumulate_dtype
from .launching import ACCUMULATE, cdiv, launch, tile
from .launching import or_unused as _or
from .scan import Core, Gradients, Run
from .spec import Variant

COMPILER = {"num_warps": 4}


@triton.jit
def compose(gate, state, next_gate, next_state):
    """Two steps as one: ``h -> next_gate * (gate * h + state) + next_state``."""
    return next_gate * gate, next_gate * state + next_state


@triton.jit
def forward_kernel(
    a, x, h0, h, last, steps, width,
    HAS_H0: tl.constexpr, REVERSE: tl.constexpr, ACC: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """h_t = a_t h_{t-1} + x_t for a, x, h (batch, steps, width) and h0, last (batch, width), all contiguous."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    carry = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_H0:
        carry = tl.load(h0 + sequence * width + channel, mask=inside, other=0.0).to(ACC)
    for start in range(0, steps, BLOCK_T):
        t = start + row
        mask = (t < steps)[:, None] & inside[None, :]
        if REVERSE:
            t = steps - 1 - t
        offset = base + t[:, None].to(tl.int64) * width + channel[None, :]
        gate = tl.load(a + offset, mask=mask, other=1.0).to(ACC)
        state = tl.load(x + offset, mask=mask, other=0.0).to(ACC)
        product, local = tl.associative_scan((gate, state), 0, compose)
        out = local + product * carry[None, :]
        tl.store(h + offset, out, mask=mask)
        carry = tl.sum(tl.where((row == BLOCK_T - 1)[:, None], out, 0.0), axis=0)
    tl.store(last + sequence * width + channel, carry, mask=inside)


@triton.jit
def backward_kernel(
    a, h0, h, dh, dlast, da, dx, dh0, steps, width,
    HAS_H0: tl.constexpr, HAS_DLAST: tl.constexpr, WANTS_A: tl.constexpr, REVERSE: tl.constexpr, ACC: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """g_t = dh_t + a_{t+1} g_{t+1} from the last step to the first; dx_t = g_t, da_t = g_t h_{t-1}, dh0 = a_1 g_1."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    ahead = width
    if REVERSE:
        ahead = -width
    carry = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_DLAST:
        carry = tl.load(dlast + sequence * width + channel, mask=inside, other=0.0).to(ACC)
    for start in range(0, steps, BLOCK_T):
        t = steps - 1 - (start + row)
        mask = (t >= 0)[:, None] & inside[None, :]
        gated = ((t >= 0) & (t < steps - 1))[:, None] & inside[None, :]
        stated = (t > 0)[:, None] & inside[None, :]
        where = t
        if REVERSE:
            where = steps - 1 - t
        offset = base + where[:, None].to(tl.int64) * width + channel[None, :]
        gate = tl.load(a + offset + ahead, mask=gated, other=1.0).to(ACC)
        cotangent = tl.load(dh + offset, mask=mask, other=0.0).to(ACC)
        product, local = tl.associative_scan((gate, cotangent), 0, compose)
        g = local + product * carry[None, :]
        tl.store(dx + offset, g, mask=mask)
        if WANTS_A:
            before = tl.load(h + offset - ahead, mask=stated, other=0.0).to(ACC)
            if HAS_H0:
                entering = tl.load(h0 + sequence * width + channel, mask=inside, other=0.0).to(ACC)
                before = tl.where((t == 0)[:, None], entering[None, :], before)
            tl.store(da + offset, g * before, mask=mask)
        carry = tl.sum(tl.where((row == BLOCK_T - 1)[:, None], g, 0.0), axis=0)
    if HAS_H0:
        first = base + channel
        if REVERSE:
            first += (steps - 1).to(tl.int64) * width
        gate = tl.load(a + first, mask=inside, other=0.0).to(ACC)
        tl.store(dh0 + sequence * width + channel, gate * carry, mask=inside)


def blocks(steps: int) -> dict[str, int]:
    """Block sizes, powers of two from a fixed rule: two variants to compile, no search at run time."""
    return {"BLOCK_T": tile(steps, 64, least=16 if steps <= 16 else 64), "BLOCK_D": tile(16, 16)}


def forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool) -> Run:
    """h in the dtype of x, and the last state in the accumulate dtype."""
    a, x = a.contiguous(), x.contiguous()
    batch, steps, width = x.shape
    dtype = accumulate_dtype(a, x, h0)
    h = torch.empty_like(x)
    last = torch.empty((batch, width), dtype=dtype, device=x.device)
    options = {"HAS_H0": h0 is not None, "REVERSE": reverse, "ACC": ACCUMULATE[dtype], **blocks(steps)}
    launch(forward_kernel, _grid(x, options), a, x, _or(h0, last), h, last, steps, width, **options, **COMPILER)
    return h, last


def backward(a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool) -> Gradients:
    """da, dx, dh0 in the dtypes of a, h (which is x's) and h0."""
    a, dh = a.contiguous(), dh.contiguous()
    _, steps, width = h.shape
    da = torch.empty_like(a) if wants_a else None
    dx = torch.empty_like(h)
    dh0 = None if h0 is None else torch.empty_like(h0, memory_format=torch.contiguous_format)
    flags = {"HAS_H0": h0 is not None, "HAS_DLAST": dlast is not None, "WANTS_A": wants_a, "REVERSE": reverse}
    options = {**flags, "ACC": ACCUMULATE[accumulate_dtype(a, h, h0)], **blocks(steps)}
    tensors = (a, _or(h0, h), h, dh, _or(dlast, h), _or(da, dx), dx, _or(dh0, dx))
    launch(backward_kernel, _grid(h, options), *tensors, steps, width, **options, **COMPILER)
    return da, dx, dh0


CORE = Core(forward, backward)


def _grid(x: Tensor, options: dict[str, Any]) -> tuple[int, int]:
    return x.shape[0], cdiv(x.shape[2], options["BLOCK_D"])


def variants() -> list[Variant]:
    types = {"steps": "i32", "width": "i32", "h0": "*fp32", "last": "*fp32", "dlast": "*fp32", "dh0": "*fp32"}
    made = []
    for block, state, reverse in ((16, True, True), (64, True, False), (64, False, True)):
        constants = {"HAS_H0": state, "REVERSE": reverse, "ACC": tl.float32, "BLOCK_T": block, "BLOCK_D": 16}
        made.append(Variant(forward_kernel, constants, types, COMPILER))
        made.append(Variant(backward_kernel, {**constants, "HAS_DLAST": state, "WANTS_A": True}, types, COMPILER))
    return made
