"""The whole recurrence of a batch tile and a head in one program: recurrent weights and states stay on the chip for all steps.

Forward keeps the states; backward takes ``R h + b`` of all steps from one matrix product before its launch, walks back through the
steps, and leaves the gradients of ``R h + b``, from which one more product makes that of the recurrent weights.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..launching import ACCUMULATE, cdiv, cover, launch, or_unused
from ..numerics import sigmoid, softplus, tanh
from ..spec import Variant
from .reference import CELLS, Run, reference
from .triton_backward import backward_kernel

_DOT = {torch.float64: tl.float64, torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def forward_kernel(
    gates, recurrent, bias, state, h_out, kept, last, batch, steps, heads, width,
    CELL: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr, REVERSE: tl.constexpr, ACC: tl.constexpr, DOT: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """gates (batch, steps, G, heads, width), recurrent (G, heads, width, width), bias (G, heads, width), state and last
    (S, batch, heads, width), h_out (batch, steps, heads, width), kept (S - 1, batch, steps, heads, width), all contiguous.

    Kept are c, and for the sLSTM n and by how much i exceeds m_{t-1} + log sigmoid(f).
    """
    size = BLOCK_D if EXACT else width  # known to the compiler, the rows of a head are read whole
    GATES: tl.constexpr = 1 if CELL == "elman" else (3 if CELL == "gru" else 4)
    row = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    head = tl.program_id(1)
    i = tl.arange(0, BLOCK_D)[:, None]
    o = tl.arange(0, BLOCK_D)[None, :]
    inside = (row < batch) & (o < size)
    square = (i < size) & (o < size)
    layer = heads * size
    ahead = -layer if REVERSE else layer
    first = (steps - 1) if REVERSE else 0
    entry = row.to(tl.int64) * layer + head * size + o
    place = row.to(tl.int64) * steps * layer + head * size + o
    place_gates = row.to(tl.int64) * steps * GATES * layer + head * size + o
    at = tl.cast(first, tl.int64) * layer
    states = tl.cast(batch, tl.int64) * layer
    tape = states * steps

    matrix = recurrent + head * size * size + o * size + i
    offset = bias + head * size + o
    r0 = tl.load(matrix, mask=square, other=0.0).to(DOT)
    b0 = tl.load(offset, mask=o < size, other=0.0).to(ACC) if HAS_BIAS else 0.0
    if GATES > 1:
        r1 = tl.load(matrix + layer * size, mask=square, other=0.0).to(DOT)
        r2 = tl.load(matrix + 2 * layer * size, mask=square, other=0.0).to(DOT)
        b1 = tl.load(offset + layer, mask=o < size, other=0.0).to(ACC) if HAS_BIAS else 0.0
        b2 = tl.load(offset + 2 * layer, mask=o < size, other=0.0).to(ACC) if HAS_BIAS else 0.0
    if GATES > 3:
        r3 = tl.load(matrix + 3 * layer * size, mask=square, other=0.0).to(DOT)
        b3 = tl.load(offset + 3 * layer, mask=o < size, other=0.0).to(ACC) if HAS_BIAS else 0.0

    h = tl.zeros((BLOCK_B, BLOCK_D), dtype=ACC)
    c = h
    n = h
    m = h - float("inf")
    if HAS_STATE:
        h = tl.load(state + entry, mask=inside, other=0.0).to(ACC)
        if GATES > 3:
            c = tl.load(state + states + entry, mask=inside, other=0.0).to(ACC)
        if CELL == "slstm":
            n = tl.load(state + 2 * states + entry, mask=inside, other=0.0).to(ACC)
            m = tl.load(state + 3 * states + entry, mask=inside, other=0.0).to(ACC)

    for _ in range(steps):
        operand = h.to(DOT)
        u0 = tl.load(gates + GATES * at + place_gates, mask=inside, other=0.0).to(ACC)
        p0 = tl.dot(operand, r0, out_dtype=ACC, input_precision="ieee") + b0
        if GATES > 1:
            u1 = tl.load(gates + (GATES * at + layer) + place_gates, mask=inside, other=0.0).to(ACC)
            u2 = tl.load(gates + (GATES * at + 2 * layer) + place_gates, mask=inside, other=0.0).to(ACC)
            p1 = tl.dot(operand, r1, out_dtype=ACC, input_precision="ieee") + b1
            p2 = tl.dot(operand, r2, out_dtype=ACC, input_precision="ieee") + b2
        if GATES > 3:
            u3 = tl.load(gates + (GATES * at + 3 * layer) + place_gates, mask=inside, other=0.0).to(ACC)
            p3 = tl.dot(operand, r3, out_dtype=ACC, input_precision="ieee") + b3
        if CELL == "elman":
            h = tanh(u0 + p0)
        if CELL == "gru":
            new = tanh(u2 + sigmoid(u0 + p0) * p2)
            h = new + sigmoid(u1 + p1) * (h - new)
        if CELL == "lstm":
            c = sigmoid(u1 + p1) * c + sigmoid(u0 + p0) * tanh(u2 + p2)
            h = sigmoid(u3 + p3) * tanh(c)
            tl.store(kept + at + place, c, mask=inside)
        if CELL == "slstm":
            enter = u0 + p0
            keep = m - softplus(-(u1 + p1))
            m = tl.maximum(keep, enter)
            lead = tl.minimum(enter - keep, 1e4)
            keep = tl.exp(tl.minimum(-lead, 0.0))
            enter = tl.exp(tl.minimum(lead, 0.0))
            c = keep * c + enter * tanh(u2 + p2)
            n = keep * n + enter
            h = sigmoid(u3 + p3) * c / tl.maximum(n, 1.0)
            tl.store(kept + at + place, c, mask=inside)
            tl.store(kept + (tape + at) + place, n, mask=inside)
            tl.store(kept + (2 * tape + at) + place, lead, mask=inside)
        tl.store(h_out + at + place, h, mask=inside)
        at += ahead

    tl.store(last + entry, h, mask=inside)
    if GATES > 3:
        tl.store(last + states + entry, c, mask=inside)
    if CELL == "slstm":
        tl.store(last + 2 * states + entry, n, mask=inside)
        tl.store(last + 3 * states + entry, m, mask=inside)


def run(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None = None, state: Tensor | None = None, *, cell: str, reverse: bool = False
) -> Run:
    h, last = fused(CORE, gates, recurrent, bias, state, outputs=2, cell=cell, reverse=reverse)
    return h, last


def _options(cell: str, reverse: bool, dtype: torch.dtype, gates: Tensor, recurrent: Tensor, backward: bool) -> dict[str, Any]:
    width = gates.shape[-1]
    block, dot = max(16, cover(width)), _DOT[gates.dtype if gates.dtype == recurrent.dtype else dtype]
    flags = {"CELL": cell, "REVERSE": reverse, "EXACT": width == block}
    return {**flags, "ACC": ACCUMULATE[dtype], "DOT": dot, "BLOCK_B": 16, "BLOCK_D": block, **_compiler(block, dot, backward)}


def _compiler(block: int, dot: Any, backward: bool) -> dict[str, int]:
    """As many warps and registers as keep from spilling; without tensor cores a product holds whole rows and columns in registers."""
    if block > 32 and backward and dot in (tl.float32, tl.float64):
        return {"num_warps": 16, "maxnreg": 128, "num_stages": 1}
    return {"num_warps": 4 if block <= 32 else 8, "num_stages": 1}


def forward(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None, state: Tensor | None, *, cell: str, reverse: bool
) -> tuple[Tensors, Optional]:
    gates, recurrent = gates.contiguous(), recurrent.contiguous()
    batch, steps, _, heads, width = gates.shape
    dtype, states = accumulate_dtype(gates, recurrent, bias, state), CELLS[cell][2]
    h = torch.empty((batch, steps, heads, width), dtype=gates.dtype, device=gates.device)
    last = torch.empty((states, batch, heads, width), dtype=dtype, device=gates.device)
    kept = torch.empty((states - 1, batch, steps, heads, width), dtype=dtype, device=gates.device) if states > 1 else None
    flags = {"HAS_BIAS": bias is not None, "HAS_STATE": state is not None}
    options = {**_options(cell, reverse, dtype, gates, recurrent, backward=False), **flags}
    tensors = (gates, recurrent, or_unused(bias, last), or_unused(state, last), h, or_unused(kept, last), last)
    launch(forward_kernel, (cdiv(batch, options["BLOCK_B"]), heads), *tensors, batch, steps, heads, width, **options)
    return (h, last), (kept,)


def backward(
    args: Optional, outputs: Tensors, saved: Optional, cotangents: Optional, wanted: tuple[bool, ...], *, cell: str, reverse: bool
) -> Optional:
    gates, recurrent, bias, state = args
    (dh, dlast), (kept,), h = cotangents, saved, outputs[0]
    assert gates is not None
    assert recurrent is not None
    gates, recurrent = gates.contiguous(), recurrent.contiguous()
    batch, steps, count, heads, width = gates.shape
    dtype, states = accumulate_dtype(gates, recurrent, bias, state), CELLS[cell][2]
    first = torch.zeros_like(h[:, 0]) if state is None else state[0].to(dtype)
    before = torch.cat([h[:, 1:], first[:, None]] if reverse else [first[:, None], h[:, :-1]], 1).to(dtype)
    rows = before.permute(2, 0, 1, 3).reshape(heads, batch * steps, width)
    matrix = recurrent.to(dtype).permute(1, 3, 0, 2).reshape(heads, width, count * width)
    returning = (rows @ matrix).reshape(heads, batch, steps, count, width).permute(1, 2, 3, 0, 4)
    returning = (returning if bias is None else returning + bias.to(dtype)).contiguous()
    dgates = torch.empty_like(gates)
    dreturning = torch.empty_like(returning)
    dstate = torch.empty((states, batch, heads, width), dtype=dtype, device=h.device)
    flags = {"HAS_STATE": state is not None, "HAS_DH": dh is not None, "HAS_DLAST": dlast is not None}
    options = {**_options(cell, reverse, dtype, gates, recurrent, backward=True), **flags}
    tensors = (gates, recurrent, or_unused(state, dstate), returning, h, or_unused(kept, dstate), or_unused(dh, dstate))
    results = (dgates, dreturning, dstate)
    launch(
        backward_kernel,
        (cdiv(batch, options["BLOCK_B"]), heads),
        *tensors,
        or_unused(dlast, dstate),
        *results,
        batch,
        steps,
        heads,
        width,
        **options,
    )
    drecurrent = dbias = None
    if wanted[1]:
        left = dreturning.permute(3, 2, 4, 0, 1).reshape(heads, count * width, batch * steps)
        drecurrent = (left @ rows).reshape(heads, count, width, width).transpose(0, 1).to(recurrent.dtype)
    if bias is not None and wanted[2]:
        dbias = dreturning.sum((0, 1)).to(bias.dtype)
    return dgates, drecurrent, dbias, None if state is None else dstate.to(state.dtype)


CORE = Core(forward, backward, reference, keeps_outputs=True)


def variants() -> list[Variant]:
    types = dict.fromkeys(("batch", "steps", "heads", "width"), "i32")
    types |= dict.fromkeys(("state", "kept", "last", "dlast", "dstate", "returning", "dreturning"), "*fp32")
    made = []
    for cell, block, dot, default in (
        ("gru", 64, tl.bfloat16, "*bf16"),
        ("slstm", 64, tl.bfloat16, "*bf16"),
        ("lstm", 64, tl.float32, "*fp32"),
    ):
        flags = {"CELL": cell, "HAS_STATE": True, "REVERSE": cell == "lstm", "EXACT": True}
        constants = {**flags, "ACC": tl.float32, "DOT": dot, "BLOCK_B": 16, "BLOCK_D": block}
        made.append(Variant(forward_kernel, {**constants, "HAS_BIAS": True}, types, _compiler(block, dot, False), default))
        ends = {"HAS_DH": True, "HAS_DLAST": cell != "gru"}
        made.append(Variant(backward_kernel, {**constants, **ends}, types, _compiler(block, dot, True), default))
    return made
