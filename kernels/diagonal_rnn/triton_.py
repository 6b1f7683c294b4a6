"""The diagonal RNN in Triton: one launch per direction, states in float32 (float64 for float64 inputs).

A program owns one sequence and a block of channels, and walks over the steps with the state in registers. The gates of the next step
are loaded before the present one is computed, so that only arithmetic lies between two steps. Backward recomputes the gates from the
states and gathers the gradients of the recurrent weights in registers, one partial sum per sequence.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..launching import ACCUMULATE, cdiv, launch, or_unused, tile
from ..numerics import sigmoid, tanh
from ..spec import Variant
from .cells import CELLS
from .fast import Run, reference

COMPILER = {"num_warps": 1}


@triton.jit
def load(pointer, offset, mask, ACC: tl.constexpr):
    return tl.load(pointer + offset, mask=mask, other=0.0).to(ACC)


@triton.jit
def gru_gates(x_z, x_r, x_c, a_z, a_r, a_c, h):
    z = sigmoid(x_z + a_z * h)
    r = sigmoid(x_r + a_r * h)
    return z, r, tanh(x_c + a_c * (r * h))


@triton.jit
def forward_kernel(
    gates, recurrent, state, peephole, h, states, last, steps, width,
    CELL: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, HAS_STATE: tl.constexpr, HAS_PEEPHOLE: tl.constexpr,
    KEEP: tl.constexpr, ACC: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """gates (batch, steps, GATES, width), h (batch, steps, width), states (batch, steps, STATES, width), last (batch, STATES, width)."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    step = tl.zeros((BLOCK_D,), dtype=tl.int32)
    weight_0 = load(recurrent, channel, inside, ACC)
    if GATES == 3:
        weight_1 = load(recurrent, width + channel, inside, ACC)
        weight_2 = load(recurrent, 2 * width + channel, inside, ACC)
    if HAS_PEEPHOLE:
        peephole_f = load(peephole, channel, inside, ACC)
        peephole_o = load(peephole, width + channel, inside, ACC)
    hidden = tl.zeros((BLOCK_D,), dtype=ACC)
    memory = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_STATE:
        first = state + sequence * STATES * width + channel
        hidden = load(first, (STATES - 1) * width, inside, ACC)
        if STATES == 2:
            memory = load(first, 0, inside, ACC)
    source = gates + sequence * steps * GATES * width + channel
    target = h + sequence * steps * width + channel
    kept = states + sequence * steps * STATES * width + channel
    next_0 = load(source, 0, inside, ACC)
    if GATES == 3:
        next_1 = load(source, width, inside, ACC)
        next_2 = load(source, 2 * width, inside, ACC)
    for _ in range(steps):
        x_0 = next_0
        if GATES == 3:
            x_1 = next_1
            x_2 = next_2
        step += 1
        source += GATES * width
        ahead = inside & (step < steps)
        next_0 = load(source, 0, ahead, ACC)
        if GATES == 3:
            next_1 = load(source, width, ahead, ACC)
            next_2 = load(source, 2 * width, ahead, ACC)
        if CELL == "elman":
            hidden = tanh(x_0 + weight_0 * hidden)
        elif CELL == "gru":
            z, r, c = gru_gates(x_0, x_1, x_2, weight_0, weight_1, weight_2, hidden)
            hidden = (1 - z) * hidden + z * c
        else:
            x_0 += weight_0 * hidden
            x_2 += weight_2 * hidden
            if HAS_PEEPHOLE:
                x_0 += peephole_f * memory
            f = sigmoid(x_0)
            memory = f * memory + (1 - f) * tanh(x_1 + weight_1 * hidden)
            if HAS_PEEPHOLE:
                x_2 += peephole_o * memory
            hidden = sigmoid(x_2) * tanh(memory)
        tl.store(target, hidden, mask=inside)
        target += width
        if KEEP:
            tl.store(kept + (STATES - 1) * width, hidden, mask=inside)
            if STATES == 2:
                tl.store(kept, memory, mask=inside)
            kept += STATES * width
    final = last + sequence * STATES * width + channel
    tl.store(final + (STATES - 1) * width, hidden, mask=inside)
    if STATES == 2:
        tl.store(final, memory, mask=inside)


@triton.jit
def backward_kernel(
    gates, recurrent, state, peephole, states, dh, dlast, dgates, drecurrent, dstate, dpeephole, steps, width,
    CELL: tl.constexpr, GATES: tl.constexpr, STATES: tl.constexpr, HAS_STATE: tl.constexpr, HAS_PEEPHOLE: tl.constexpr,
    HAS_DH: tl.constexpr, HAS_DLAST: tl.constexpr, ACC: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The walk back; drecurrent (batch, GATES, width) and dpeephole (batch, 2, width) are partial sums."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    zero = tl.zeros((BLOCK_D,), dtype=ACC)
    weight_0 = load(recurrent, channel, inside, ACC)
    sum_0 = zero
    if GATES == 3:
        weight_1 = load(recurrent, width + channel, inside, ACC)
        weight_2 = load(recurrent, 2 * width + channel, inside, ACC)
        sum_1 = zero
        sum_2 = zero
    if HAS_PEEPHOLE:
        peephole_f = load(peephole, channel, inside, ACC)
        peephole_o = load(peephole, width + channel, inside, ACC)
        sum_f = zero
        sum_o = zero
    start_h = zero
    start_c = zero
    begin = sequence * STATES * width + channel
    if HAS_STATE:
        start_h = load(state + begin, (STATES - 1) * width, inside, ACC)
        if STATES == 2:
            start_c = load(state + begin, 0, inside, ACC)
    later_h = zero
    later_c = zero
    if HAS_DLAST:
        later_h = load(dlast + begin, (STATES - 1) * width, inside, ACC)
        if STATES == 2:
            later_c = load(dlast + begin, 0, inside, ACC)
    row = sequence * steps + steps - 1
    source = gates + row * GATES * width + channel
    sink = dgates + row * GATES * width + channel
    cotangent = dh + row * width + channel
    kept = states + row * STATES * width + channel
    hidden = load(kept, (STATES - 1) * width, inside, ACC)
    memory = zero
    if STATES == 2:
        memory = load(kept, 0, inside, ACC)
    step = tl.zeros((BLOCK_D,), dtype=tl.int32) + steps - 1
    for _ in range(steps):
        kept -= STATES * width
        stated = inside & (step > 0)
        before = tl.where(step > 0, load(kept, (STATES - 1) * width, stated, ACC), start_h)
        if STATES == 2:
            before_c = tl.where(step > 0, load(kept, 0, stated, ACC), start_c)
        adjoint = later_h
        if HAS_DH:
            adjoint += load(cotangent, 0, inside, ACC)
            cotangent -= width
        if CELL == "elman":
            d_0 = adjoint * (1 - hidden * hidden)
            sum_0 += d_0 * before
            later_h = d_0 * weight_0
        else:
            x_0 = load(source, 0, inside, ACC)
            x_1 = load(source, width, inside, ACC)
            x_2 = load(source, 2 * width, inside, ACC)
            if CELL == "gru":
                z, r, c = gru_gates(x_0, x_1, x_2, weight_0, weight_1, weight_2, before)
                d_0 = adjoint * (c - before) * (1 - z) * z
                d_2 = adjoint * z * (1 - c * c)
                through_c = d_2 * weight_2
                d_1 = through_c * before * (1 - r) * r
                sum_2 += d_2 * (r * before)
                later_h = adjoint * (1 - z) + d_0 * weight_0 + d_1 * weight_1 + through_c * r
            else:
                x_0 += weight_0 * before
                x_2 += weight_2 * before
                if HAS_PEEPHOLE:
                    x_0 += peephole_f * before_c
                    x_2 += peephole_o * memory
                f = sigmoid(x_0)
                g = tanh(x_1 + weight_1 * before)
                o = sigmoid(x_2)
                squashed = tanh(memory)
                d_2 = adjoint * squashed * (1 - o) * o
                onto_c = later_c + adjoint * o * (1 - squashed * squashed)
                if HAS_PEEPHOLE:
                    onto_c += d_2 * peephole_o
                    sum_o += d_2 * memory
                d_0 = onto_c * (before_c - g) * (1 - f) * f
                d_1 = onto_c * (1 - f) * (1 - g * g)
                later_c = onto_c * f
                if HAS_PEEPHOLE:
                    later_c += d_0 * peephole_f
                    sum_f += d_0 * before_c
                sum_2 += d_2 * before
                later_h = d_0 * weight_0 + d_1 * weight_1 + d_2 * weight_2
                memory = before_c
            sum_0 += d_0 * before
            sum_1 += d_1 * before
            tl.store(sink + width, d_1, mask=inside)
            tl.store(sink + 2 * width, d_2, mask=inside)
        tl.store(sink, d_0, mask=inside)
        hidden = before
        source -= GATES * width
        sink -= GATES * width
        step -= 1
    partial = drecurrent + sequence * GATES * width + channel
    tl.store(partial, sum_0, mask=inside)
    if GATES == 3:
        tl.store(partial + width, sum_1, mask=inside)
        tl.store(partial + 2 * width, sum_2, mask=inside)
    if HAS_PEEPHOLE:
        tl.store(dpeephole + sequence * 2 * width + channel, sum_f, mask=inside)
        tl.store(dpeephole + sequence * 2 * width + width + channel, sum_o, mask=inside)
    if HAS_STATE:
        tl.store(dstate + begin + (STATES - 1) * width, later_h, mask=inside)
        if STATES == 2:
            tl.store(dstate + begin, later_c, mask=inside)


def run(*args: Tensor | None, **options: Any) -> Run:
    h, last = fused(_CORE, *args, outputs=2, **options)
    return h, last


def _constants(cell: str, state: Tensor | None, peephole: Tensor | None, width: int, dtype: torch.dtype) -> dict[str, Any]:
    made = CELLS[cell]
    shape = {"CELL": cell, "GATES": made.gates, "STATES": made.states, "BLOCK_D": tile(width, 32, least=8)}
    return {**shape, "HAS_STATE": state is not None, "HAS_PEEPHOLE": peephole is not None, "ACC": ACCUMULATE[dtype]}


def _forward(
    gates: Tensor, recurrent: Tensor, state: Tensor | None, peephole: Tensor | None, *, cell: str, **_: Any
) -> tuple[Tensors, Optional]:
    """Where h holds all of the state as precisely as it was computed, nothing else is kept."""
    gates, recurrent = gates.contiguous(), recurrent.contiguous()
    batch, steps, _count, width = gates.shape
    dtype = accumulate_dtype(gates, recurrent, state, peephole)
    count = CELLS[cell].states
    h = torch.empty((batch, steps, width), dtype=gates.dtype, device=gates.device)
    last = torch.empty((batch, count, width), dtype=dtype, device=gates.device)
    keep = count == 2 or dtype != gates.dtype
    states = torch.empty((batch, steps, count, width), dtype=dtype, device=gates.device) if keep else None
    constants = _constants(cell, state, peephole, width, dtype)
    grid = (batch, cdiv(width, constants["BLOCK_D"]))
    tensors = (gates, recurrent, or_unused(state, last), or_unused(peephole, last), h, or_unused(states, last), last)
    launch(forward_kernel, grid, *tensors, steps, width, KEEP=keep, **constants, **COMPILER)
    return (h, last), (states,)


def _backward(
    args: Optional, outputs: Tensors, saved: Optional, cotangents: Optional, wanted: tuple[bool, ...], *, cell: str, **_: Any
) -> Optional:
    gates, recurrent, state, peephole = args
    assert gates is not None
    assert recurrent is not None
    gates, recurrent = gates.contiguous(), recurrent.contiguous()
    dh, dlast = cotangents
    states = outputs[0] if saved[0] is None else saved[0]
    batch, steps, count, width = gates.shape
    dtype = accumulate_dtype(gates, recurrent, state, peephole)
    dgates = torch.empty_like(gates)
    drecurrent = torch.empty((batch, count, width), dtype=dtype, device=gates.device)
    dpeephole = None if peephole is None else torch.empty((batch, 2, width), dtype=dtype, device=gates.device)
    dstate = None if state is None else torch.empty_like(state, memory_format=torch.contiguous_format)
    constants = {**_constants(cell, state, peephole, width, dtype), "HAS_DH": dh is not None, "HAS_DLAST": dlast is not None}
    grid = (batch, cdiv(width, constants["BLOCK_D"]))
    tensors = (
        *(gates, recurrent, or_unused(state, states), or_unused(peephole, states), states),
        *(or_unused(dh, states), or_unused(dlast, states), dgates, drecurrent),
        *(or_unused(dstate, drecurrent), or_unused(dpeephole, drecurrent)),
    )
    launch(backward_kernel, grid, *tensors, steps, width, **constants, **COMPILER)
    summed = None if dpeephole is None or peephole is None else dpeephole.sum(0).to(peephole.dtype)
    return dgates, drecurrent.sum(0).to(recurrent.dtype), dstate, summed


_CORE = Core(_forward, _backward, reference, keeps_outputs=True)


def variants() -> list[Variant]:
    exact = dict.fromkeys(("last", "states", "dlast", "drecurrent", "dpeephole", "state", "dstate"), "*fp32")
    types = {"steps": "i32", "width": "i32", **exact}
    made = []
    for cell, optional in (("elman", True), ("gru", False), ("lstm", True)):
        shape = {"CELL": cell, "GATES": CELLS[cell].gates, "STATES": CELLS[cell].states, "ACC": tl.float32, "BLOCK_D": 32}
        constants = {**shape, "HAS_STATE": optional, "HAS_PEEPHOLE": cell == "lstm"}
        made.append(Variant(forward_kernel, {**constants, "KEEP": True}, types, COMPILER))
        made.append(Variant(backward_kernel, {**constants, "HAS_DH": True, "HAS_DLAST": optional}, types, COMPILER))
    return made
