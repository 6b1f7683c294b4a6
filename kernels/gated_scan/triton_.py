"""The front ends fused into the scan's loads: one launch per direction, nothing but the states goes through memory.

As in the plain scan a program owns one sequence and a block of channels. In the backward direction the gates are computed twice,
at the step itself and at the one after it, whose gate lets the gradient in. Gradients of the vectors are summed over the steps in
registers, and over the sequences afterwards.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import scan
from ..function import Core, Optional, Tensors, accumulate_dtype
from ..launching import ACCUMULATE, launch
from ..scan.triton_ import COMPILER, blocks, floats, grid, last_row, load, scan_block, store
from ..spec import Variant
from .cores import composed
from .fronts import Front
from .triton_fronts import NUMBERS, at_the_end, entered, pulled, vectors

# blocks of steps shorter than those of the plain scan, where the front end takes the registers
LONGEST = {"rg_lru_scan": 32, "hgrn_scan": 32}


@triton.jit
def forward_kernel(
    p0, p1, p2, p3, q0, q1, q2, h0, h, last, steps, width, c,
    FRONT: tl.constexpr, FLAG: tl.constexpr, HAS_Q0: tl.constexpr, HAS_Q1: tl.constexpr, VALUE_COMPLEX: tl.constexpr,
    HAS_H0: tl.constexpr, REVERSE: tl.constexpr, COMPLEX: tl.constexpr, ACC: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """p0 to p3 (batch, steps, width) and q0 to q2 (width) are the front end's arguments; all contiguous."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    w0, w1, w2 = vectors(q0, q1, q2, channel, inside, c, FRONT, HAS_Q0, HAS_Q1, ACC)
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
        gate_r, gate_i, x_r, x_i = entered(p0, p1, p2, p3, w0, w1, w2, offset, mask, FRONT, FLAG, VALUE_COMPLEX, COMPLEX, ACC)
        h_r, h_i = scan_block(gate_r, gate_i, x_r, x_i, carry_r, carry_i, COMPLEX)
        store(h, offset, h_r, h_i, mask, COMPLEX)
        carry_r = last_row(h_r, row, BLOCK_T)
        carry_i = last_row(h_i, row, BLOCK_T)
    store(last, sequence * width + channel, carry_r, carry_i, inside, COMPLEX)


@triton.jit
def backward_kernel(
    p0, p1, p2, p3, q0, q1, q2, h0, h, dh, dlast, d0, d1, d2, d3, v0, v1, v2, dh0, steps, width, c,
    FRONT: tl.constexpr, FLAG: tl.constexpr, HAS_Q0: tl.constexpr, HAS_Q1: tl.constexpr, VALUE_COMPLEX: tl.constexpr,
    HAS_H0: tl.constexpr, HAS_DH: tl.constexpr, HAS_DLAST: tl.constexpr, REVERSE: tl.constexpr, COMPLEX: tl.constexpr,
    ACC: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """d0 to d3 take the gradients of p0 to p3; v0 to v2 (batch, width) those of q0 to q2, by sequence."""
    sequence = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < width
    row = tl.arange(0, BLOCK_T)
    base = sequence * steps * width
    state = sequence * width + channel
    ahead = width
    if REVERSE:
        ahead = -width
    w0, w1, w2 = vectors(q0, q1, q2, channel, inside, c, FRONT, HAS_Q0, HAS_Q1, ACC)
    carry_r = tl.zeros((BLOCK_D,), dtype=ACC)
    carry_i = tl.zeros((BLOCK_D,), dtype=ACC)
    sum0 = tl.zeros((BLOCK_D,), dtype=ACC)
    sum1 = tl.zeros((BLOCK_D,), dtype=ACC)
    sum2 = tl.zeros((BLOCK_D,), dtype=ACC)
    if HAS_DLAST:
        carry_r, carry_i = load(dlast, state, inside, 0.0, ACC, COMPLEX)
    for start in range(0, steps, BLOCK_T):
        t = steps - 1 - (start + row)
        mask = (t >= 0)[:, None] & inside[None, :]
        gated = ((t >= 0) & (t < steps - 1))[:, None] & inside[None, :]
        stated = (t > 0)[:, None] & inside[None, :]
        where = t
        if REVERSE:
            where = steps - 1 - t
        offset = base + where[:, None].to(tl.int64) * width + channel[None, :]
        gate_r, gate_i, x_r, x_i = entered(
            p0, p1, p2, p3, w0, w1, w2, offset + ahead, gated, FRONT, FLAG, VALUE_COMPLEX, COMPLEX, ACC
        )  # fmt: skip
        if HAS_DH:
            dh_r, dh_i = load(dh, offset, mask, 0.0, ACC, COMPLEX)
        else:
            dh_r = tl.zeros((BLOCK_T, BLOCK_D), dtype=ACC)
            dh_i = dh_r
        g_r, g_i = scan_block(gate_r, -gate_i, dh_r, dh_i, carry_r, carry_i, COMPLEX)
        carry_r = last_row(g_r, row, BLOCK_T)
        carry_i = last_row(g_i, row, BLOCK_T)
        # in masked lanes g goes on, but the states and values that it meets below are loaded as zeros
        before_r, before_i = load(h, offset - ahead, stated, 0.0, ACC, COMPLEX)
        if HAS_H0:
            h0_r, h0_i = load(h0, state, inside, 0.0, ACC, COMPLEX)
            before_r = tl.where((t == 0)[:, None], h0_r[None, :], before_r)
            before_i = tl.where((t == 0)[:, None], h0_i[None, :], before_i)
        if COMPLEX:
            da_r = g_r * before_r + g_i * before_i
            da_i = g_i * before_r - g_r * before_i
        else:
            da_r = g_r * before_r
            da_i = da_r
        s0, s1, s2 = pulled(
            p0, p1, p2, p3, d0, d1, d2, d3, w0, w1, w2, offset, mask, da_r, da_i, g_r, g_i, FRONT, FLAG, VALUE_COMPLEX, COMPLEX, ACC
        )  # fmt: skip
        sum0 += tl.sum(s0, axis=0)
        sum1 += tl.sum(s1, axis=0)
        sum2 += tl.sum(s2, axis=0)
    sum0, sum1, sum2 = at_the_end(q0, sum0, sum1, sum2, w0, w1, w2, channel, inside, c, FRONT, ACC)
    tl.store(v0 + state, sum0, mask=inside)
    tl.store(v1 + state, sum1, mask=inside)
    tl.store(v2 + state, sum2, mask=inside)
    if HAS_H0:
        first = base + channel
        if REVERSE:
            first += tl.cast(steps - 1, tl.int64) * width
        gate_r, gate_i, x_r, x_i = entered(
            p0, p1, p2, p3, w0[None, :], w1[None, :], w2[None, :], first[None, :], inside[None, :], FRONT, FLAG, VALUE_COMPLEX, COMPLEX, ACC
        )  # fmt: skip
        if COMPLEX:
            dh0_r = gate_r * carry_r[None, :] + gate_i * carry_i[None, :]
            dh0_i = gate_r * carry_i[None, :] - gate_i * carry_r[None, :]
            store(dh0, state[None, :], dh0_r, dh0_i, inside[None, :], COMPLEX)
        else:
            tl.store(dh0 + state[None, :], gate_r * carry_r[None, :], mask=inside[None, :])


class _Call:
    """The arguments of one call in the kernels' order."""

    def __init__(self, front: Front, args: Optional, reverse: bool, options: dict[str, Any]) -> None:
        *self.parts, self.h0 = args
        count = len(front.sequences)
        self.count, self.vectors = count, self.parts[count:]
        value = self.parts[front.value]
        assert value is not None
        self.value, self.real = value, accumulate_dtype(*self.parts, self.h0)
        self.complex = front.name in ("gate_loop_scan", "lru_scan") or value.is_complex() or (front.name == "hgrn_scan" and self.given(1))
        self.state_dtype = {torch.float32: torch.complex64, torch.float64: torch.complex128}[self.real] if self.complex else self.real
        self.c = float(options.get("c", 0.0))
        self.flags = {
            "FRONT": NUMBERS[front.name],
            "FLAG": bool(options.get("positive", options.get("input_gate", False))),
            "HAS_Q0": self.given(0),
            "HAS_Q1": self.given(1),
            "VALUE_COMPLEX": value.is_complex(),
            "HAS_H0": self.h0 is not None,
            "REVERSE": reverse,
            "COMPLEX": self.complex,
            "ACC": ACCUMULATE[self.real],
            **tiles(front, value.shape[1], value.shape[2]),
        }

    def given(self, vector: int) -> bool:
        return vector < len(self.vectors) and self.vectors[vector] is not None

    def pointers(self) -> list[Tensor]:
        sequences = [floats(part, self.value) for part in self.parts[: self.count]]
        vectors = [floats(part, self.value) for part in self.vectors]
        return [*_filled(sequences, 4), *_filled(vectors, 3, floats(self.value, self.value)), floats(self.h0, self.value)]


def tiles(front: Front, steps: int, width: int) -> dict[str, int]:
    given = blocks(steps, width)
    return {**given, "BLOCK_T": min(given["BLOCK_T"], LONGEST.get(front.name, 64))}


def _filled(tensors: list[Tensor], count: int, unused: Tensor | None = None) -> list[Tensor]:
    return tensors + [tensors[0] if unused is None else unused] * (count - len(tensors))


@cache
def core(front: Front) -> Core:
    def forward(*args: Tensor | None, reverse: bool = False, **options: Any) -> tuple[Tensors, Optional]:
        it = _Call(front, args, reverse, options)
        batch, steps, width = it.value.shape
        dtype = it.state_dtype if it.complex else it.value.dtype
        h = torch.empty((batch, steps, width), dtype=dtype, device=it.value.device)
        last = torch.empty((batch, width), dtype=it.state_dtype, device=it.value.device)
        launch(
            forward_kernel, grid(h, it.flags), *it.pointers(), floats(h, h), floats(last, last), steps, width, it.c, **it.flags, **COMPILER
        )
        return (h, last), ()

    def backward(
        args: Optional, outputs: Tensors, saved: Optional, cotangents: Optional, wanted: tuple[bool, ...],
        *, reverse: bool = False, **options: Any,
    ) -> Optional:  # fmt: skip
        it = _Call(front, args, reverse, options)
        batch, steps, width = it.value.shape
        h, (dh, dlast) = outputs[0], cotangents
        found = [torch.empty(part.shape, dtype=part.dtype, device=h.device) for part in it.parts[: it.count] if part is not None]
        sums = [torch.empty((batch, width), dtype=it.real, device=h.device) for _ in range(3)]
        dh0 = None if it.h0 is None else torch.empty(it.h0.shape, dtype=it.h0.dtype, device=h.device)
        flags = {**it.flags, "HAS_DH": dh is not None, "HAS_DLAST": dlast is not None}
        written = [*_filled([floats(t, t) for t in found], 4), *sums, floats(dh0, sums[0])]
        launch(
            backward_kernel, grid(h, flags), *it.pointers(), floats(h, h), floats(dh, h), floats(dlast, h), *written, steps, width, it.c,
            **flags, **COMPILER,
        )  # fmt: skip
        by_vector = [None if part is None else part_sum.sum(0).to(part.dtype) for part, part_sum in zip(it.vectors, sums, strict=False)]
        return (*found, *by_vector, dh0)

    return Core(forward, backward, composed(front, scan.fast), keeps_outputs=True)


def variants(front: Front) -> list[Variant]:
    """The largest tiles, with and without everything that is optional."""
    scalars = {"steps": "i32", "width": "i32", "c": "fp32"}
    made = []
    for everything in (True, False):
        complex_ = front.name in ("gate_loop_scan", "lru_scan") or (front.name == "hgrn_scan" and everything)
        wide = dict.fromkeys(("q0", "q1", "q2", "v0", "v1", "v2", "h0", "dh0", "last", "dlast"), "*fp32")
        if complex_:
            wide |= {"h": "*fp32", "dh": "*fp32"}
        constants = {
            "FRONT": NUMBERS[front.name], "FLAG": everything, "HAS_Q0": everything, "HAS_Q1": everything,
            "VALUE_COMPLEX": complex_ and front.name != "gate_loop_scan" and everything, "HAS_H0": everything, "REVERSE": not everything,
            "COMPLEX": complex_, "ACC": tl.float32, "BLOCK_T": LONGEST.get(front.name, 64), "BLOCK_D": 16,
        }  # fmt: skip
        if everything:
            made.append(Variant(forward_kernel, constants, {**scalars, **wide}, COMPILER))
        both = {**constants, "HAS_DH": True, "HAS_DLAST": everything}
        made.append(Variant(backward_kernel, both, {**scalars, **wide}, COMPILER))
    return made
