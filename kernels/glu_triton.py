"""Gated linear units and the squared rectifier in Triton: one elementwise launch per direction."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .function import Optional, Tensors, accumulate_dtype
from .launching import ACCUMULATE, cdiv, launch, tile
from .norm_act_triton import activate, slope
from .spec import Variant

COMPILER = {"num_warps": 4}


@triton.jit
def glu_forward_kernel(gate, value, y, elements, ACT: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """y = act(gate) value."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < elements
    a = tl.load(gate + at, mask=mask, other=0.0).to(ACC)
    b = tl.load(value + at, mask=mask, other=0.0).to(ACC)
    tl.store(y + at, activate(a, ACT) * b, mask=mask)


@triton.jit
def glu_backward_kernel(
    gate, value, dy, dgate, dvalue, elements,
    WANTS_GATE: tl.constexpr, WANTS_VALUE: tl.constexpr, ACT: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dgate = dy value act'(gate), dvalue = dy act(gate)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < elements
    a = tl.load(gate + at, mask=mask, other=0.0).to(ACC)
    d = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
    if WANTS_GATE:
        b = tl.load(value + at, mask=mask, other=0.0).to(ACC)
        tl.store(dgate + at, d * b * slope(a, ACT), mask=mask)
    if WANTS_VALUE:
        tl.store(dvalue + at, d * activate(a, ACT), mask=mask)


@triton.jit
def relu2_kernel(x, y, elements, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """y = max(x, 0)^2."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < elements
    a = tl.load(x + at, mask=mask, other=0.0).to(ACC)
    tl.store(y + at, activate(a, "relu2"), mask=mask)


@triton.jit
def relu2_backward_kernel(x, dy, dx, elements, ACC: tl.constexpr, BLOCK: tl.constexpr):
    """dx = 2 max(x, 0) dy."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < elements
    a = tl.load(x + at, mask=mask, other=0.0).to(ACC)
    d = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
    tl.store(dx + at, d * slope(a, "relu2"), mask=mask)


def glu_forward(gate: Tensor, value: Tensor, *, act: str) -> tuple[Tensors, Optional]:
    gate, value = gate.contiguous(), value.contiguous()
    y = torch.empty_like(gate)
    _launch(glu_forward_kernel, gate, value, y, ACT=act)
    return (y,), ()


def glu_backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, act: str) -> Optional:
    gate, value, dy = (tensor.contiguous() for tensor in (*args, *cotangents) if tensor is not None)
    dgate, dvalue = (torch.empty_like(gate) if wants else None for wants in wanted)
    unused = gate  # the flags say which of the two is written
    flags = {"WANTS_GATE": wanted[0], "WANTS_VALUE": wanted[1]}
    _launch(glu_backward_kernel, gate, value, dy, *(unused if d is None else d for d in (dgate, dvalue)), ACT=act, **flags)
    return dgate, dvalue


def relu2_forward(x: Tensor) -> tuple[Tensors, Optional]:
    x = x.contiguous()
    y = torch.empty_like(x)
    _launch(relu2_kernel, x, y)
    return (y,), ()


def relu2_backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...]) -> Optional:
    x, dy = (tensor.contiguous() for tensor in (*args, *cotangents) if tensor is not None)
    dx = torch.empty_like(x)
    _launch(relu2_backward_kernel, x, dy, dx)
    return (dx,)


def _launch(kernel: object, *tensors: Tensor, **constants: object) -> None:
    elements = tensors[0].numel()
    block = tile(elements, 1024)
    acc = ACCUMULATE[accumulate_dtype(*tensors)]
    launch(kernel, (cdiv(elements, block),), *tensors, elements, ACC=acc, BLOCK=block, **constants, **COMPILER)


def glu_variants() -> list[Variant]:
    types, constants = {"elements": "i32"}, {"ACC": tl.float32, "BLOCK": 1024}
    wants = {"WANTS_GATE": True, "WANTS_VALUE": True}
    made = [Variant(glu_forward_kernel, {**constants, "ACT": "silu"}, types, COMPILER)]
    return made + [Variant(glu_backward_kernel, {**constants, **wants, "ACT": act}, types, COMPILER) for act in ("silu", "gelu")]


def relu2_variants() -> list[Variant]:
    types, constants = {"elements": "i32"}, {"ACC": tl.float32, "BLOCK": 1024}
    return [Variant(kernel, constants, types, COMPILER) for kernel in (relu2_kernel, relu2_backward_kernel)]
