"""The diagonal recurrence in Triton: one launch per direction, states in float32 (float64 for float64 inputs).

A program owns one sequence and a block of channels. It walks over the sequence in blocks of steps; inside a block an associative
scan of the pairs (product of gates, state from zero) gives all states at once, and the state of the block before enters through
the running product of the gates. A complex number is a pair of neighbouring floats, and travels through the helpers below as two
tensors; of a real one the second is never used.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import accumulate_dtype
from ..launching import ACCUMULATE, cdiv, launch, tile
from ..spec import Variant
from .differentiable import Core, Gradients, Run, state_dtype

COMPILER = {"num_warps": 4}


@triton.jit
def compose(gate, state, next_gate, next_state):
    """Two steps as one: ``h -> next_gate * (gate * h + state) + next_state``."""
    return next_gate * gate, next_gate * state + next_state


@triton.jit
def compose_complex(gate_r, gate_i, state_r, state_i, next_r, next_i, next_state_r, next_state_i):
    return (
        next_r * gate_r - next_i * gate_i,
        next_r * gate_i + next_i * gate_r,
        next_r * state_r - next_i * state_i + next_state_r,
        next_r * state_i + next_i * state_r + next_state_i,
    )


@triton.jit
def load(pointer, offset, mask, other: tl.constexpr, ACC: tl.constexpr, COMPLEX: tl.constexpr):
    """Real and imaginary part; masked lanes are the real number ``other``."""
    if COMPLEX:
        real = tl.load(pointer + 2 * offset, mask=mask, other=other).to(ACC)
        imaginary = tl.load(pointer + 2 * offset + 1, mask=mask, other=0.0).to(ACC)
    else:
        real = tl.load(pointer + offset, mask=mask, other=other).to(ACC)
        imaginary = real
    return real, imaginary


@triton.jit
def store(pointer, offset, real, imaginary, mask, COMPLEX: tl.constexpr):
    if COMPLEX:
        tl.store(pointer + 2 * offset, real, mask=mask)
        tl.store(pointer + 2 * offset + 1, imaginary, mask=mask)
    else:
        tl.store(pointer + offset, real, mask=mask)


@triton.jit
def scan_block(gate_r, gate_i, x_r, x_i, carry_r, carry_i, COMPLEX: tl.constexpr):
    """The states of a block (steps, channels) that ``carry`` (channels) enters."""
    if COMPLEX:
        product_r, product_i, h_r, h_i = tl.associative_scan((gate_r, gate_i, x_r, x_i), 0, compose_complex)
        h_r += product_r * carry_r[None, :] - product_i * carry_i[None, :]
        h_i += product_r * carry_i[None, :] + product_i * carry_r[None, :]
    else:
        product, local = tl.associative_scan((gate_r, x_r), 0, compose)
        h_r = local + product * carry_r[None, :]
        h_i = h_r
    return h_r, h_i


@triton.jit
def last_row(h, row, BLOCK_T: tl.constexpr):
    return tl.sum(tl.where((row == BLOCK_T - 1)[:, None], h, 0.0), axis=0)


@triton.jit
def forward_kernel(
    a, x, h0, h, last, steps, width,
    HAS_H0: tl.constexpr, REVERSE: tl.constexpr, COMPLEX: tl.constexpr, ACC: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """h_t = a_t h_{t-1} + x_t for a, x, h (batch, steps, width) and h0, last (batch, width), all contiguous."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    carry_r = tl.zeros((BLOCK_D,), dtype=ACC)
    carry_i = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_H0:
        carry_r, carry_i = load(h0, sequence * width + channel, inside, 0.0, ACC, COMPLEX)
    for start in range(0, steps, BLOCK_T):
        t = start + row
        mask = (t < steps)[:, None] & inside[None, :]
        if REVERSE:
            t = steps - 1 - t
        offset = base + t[:, None].to(tl.int64) * width + channel[None, :]
        gate_r, gate_i = load(a, offset, mask, 1.0, ACC, COMPLEX)
        x_r, x_i = load(x, offset, mask, 0.0, ACC, COMPLEX)
        h_r, h_i = scan_block(gate_r, gate_i, x_r, x_i, carry_r, carry_i, COMPLEX)
        store(h, offset, h_r, h_i, mask, COMPLEX)
        carry_r = last_row(h_r, row, BLOCK_T)
        carry_i = last_row(h_i, row, BLOCK_T)
    store(last, sequence * width + channel, carry_r, carry_i, inside, COMPLEX)


@triton.jit
def backward_kernel(
    a, h0, h, dh, dlast, da, dx, dh0, steps, width,
    HAS_H0: tl.constexpr, HAS_DLAST: tl.constexpr, WANTS_A: tl.constexpr, REVERSE: tl.constexpr, COMPLEX: tl.constexpr,
    ACC: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """g_t = dh_t + conj(a_{t+1}) g_{t+1} from the last step to the first; dx_t = g_t, da_t = g_t conj(h_{t-1}), dh0 = conj(a_1) g_1."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    ahead = width
    if REVERSE:
        ahead = -width
    carry_r = tl.zeros((BLOCK_D,), dtype=ACC)
    carry_i = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_DLAST:
        carry_r, carry_i = load(dlast, sequence * width + channel, inside, 0.0, ACC, COMPLEX)
    for start in range(0, steps, BLOCK_T):
        t = steps - 1 - (start + row)
        mask = (t >= 0)[:, None] & inside[None, :]
        gated = ((t >= 0) & (t < steps - 1))[:, None] & inside[None, :]
        stated = (t > 0)[:, None] & inside[None, :]
        where = t
        if REVERSE:
            where = steps - 1 - t
        offset = base + where[:, None].to(tl.int64) * width + channel[None, :]
        gate_r, gate_i = load(a, offset + ahead, gated, 1.0, ACC, COMPLEX)
        dh_r, dh_i = load(dh, offset, mask, 0.0, ACC, COMPLEX)
        g_r, g_i = scan_block(gate_r, -gate_i, dh_r, dh_i, carry_r, carry_i, COMPLEX)
        store(dx, offset, g_r, g_i, mask, COMPLEX)
        if WANTS_A:
            before_r, before_i = load(h, offset - ahead, stated, 0.0, ACC, COMPLEX)
            if HAS_H0:
                h0_r, h0_i = load(h0, sequence * width + channel, inside, 0.0, ACC, COMPLEX)
                before_r = tl.where((t == 0)[:, None], h0_r[None, :], before_r)
                before_i = tl.where((t == 0)[:, None], h0_i[None, :], before_i)
            if COMPLEX:
                da_r = g_r * before_r + g_i * before_i
                da_i = g_i * before_r - g_r * before_i
                store(da, offset, da_r, da_i, mask, COMPLEX)
            else:
                tl.store(da + offset, g_r * before_r, mask=mask)
        carry_r = last_row(g_r, row, BLOCK_T)
        carry_i = last_row(g_i, row, BLOCK_T)
    if HAS_H0:
        first = base + channel
        if REVERSE:
            first += tl.cast(steps - 1, tl.int64) * width
        gate_r, gate_i = load(a, first, inside, 0.0, ACC, COMPLEX)
        if COMPLEX:
            dh0_r = gate_r * carry_r + gate_i * carry_i
            dh0_i = gate_r * carry_i - gate_i * carry_r
            store(dh0, sequence * width + channel, dh0_r, dh0_i, inside, COMPLEX)
        else:
            tl.store(dh0 + sequence * width + channel, gate_r * carry_r, mask=inside)


def blocks(steps: int, width: int) -> dict[str, int]:
    """Block sizes, powers of two from a fixed rule: few variants to compile, no search at run time."""
    return {"BLOCK_T": tile(steps, 64, least=16 if steps <= 16 else 64), "BLOCK_D": tile(width, 16)}


def floats(tensor: Tensor | None, unused: Tensor) -> Tensor:
    """A contiguous real tensor for every pointer; a complex one as pairs. The kernel's flags say which are read or written."""
    tensor = unused if tensor is None else tensor
    return torch.view_as_real(tensor.contiguous().resolve_conj()) if tensor.is_complex() else tensor.contiguous()


def forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool) -> Run:
    """h in the dtype of x, and the last state in the accumulate dtype."""
    batch, steps, width = x.shape
    h = torch.empty_like(x, memory_format=torch.contiguous_format)
    last = torch.empty((batch, width), dtype=state_dtype(a, x, h0), device=x.device)
    flags = {"HAS_H0": h0 is not None, "REVERSE": reverse, "COMPLEX": x.is_complex()}
    options = {**flags, "ACC": ACCUMULATE[accumulate_dtype(a, x, h0)], **blocks(steps, width)}
    tensors = (floats(a, x), floats(x, x), floats(h0, last), floats(h, h), floats(last, last))
    launch(forward_kernel, grid(x, options), *tensors, steps, width, **options, **COMPILER)
    return h, last


def backward(a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool) -> Gradients:
    """da, dx, dh0 in the dtypes of a, h (which is x's) and h0."""
    _, steps, width = h.shape
    da = torch.empty_like(a, memory_format=torch.contiguous_format) if wants_a else None
    dx = torch.empty_like(h)
    dh0 = None if h0 is None else torch.empty_like(h0, memory_format=torch.contiguous_format)
    flags = {"HAS_H0": h0 is not None, "HAS_DLAST": dlast is not None, "WANTS_A": wants_a, "REVERSE": reverse, "COMPLEX": h.is_complex()}
    options = {**flags, "ACC": ACCUMULATE[accumulate_dtype(a, h, h0)], **blocks(steps, width)}
    tensors = (floats(a, a), floats(h0, h), floats(h, h), floats(dh, h), floats(dlast, h), floats(da, dx), floats(dx, dx), floats(dh0, dx))
    launch(backward_kernel, grid(h, options), *tensors, steps, width, **options, **COMPILER)
    return da, dx, dh0


CORE = Core(forward, backward)


def grid(x: Tensor, options: dict[str, Any]) -> tuple[int, int]:
    return x.shape[0], cdiv(x.shape[2], options["BLOCK_D"])


def variants(complex_: bool) -> list[Variant]:
    types = {"steps": "i32", "width": "i32", "h0": "*fp32", "last": "*fp32", "dlast": "*fp32", "dh0": "*fp32"}
    made = []
    settings = ((16, True, True), (64, True, False)) if complex_ else ((16, True, True), (64, True, False), (64, False, True))
    default = "*fp32" if complex_ else "*bf16"
    for block, state, reverse in settings:
        constants = {"HAS_H0": state, "REVERSE": reverse, "COMPLEX": complex_, "ACC": tl.float32, "BLOCK_T": block, "BLOCK_D": 16}
        made.append(Variant(forward_kernel, constants, types, COMPILER, default))
        made.append(Variant(backward_kernel, {**constants, "HAS_DLAST": state, "WANTS_A": True}, types, COMPILER, default))
    return made
