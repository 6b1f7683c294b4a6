"""The activation with a step derivative in Triton: one launch per direction; a program makes a block of packed bytes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .function import accumulate_dtype
from .launching import ACCUMULATE, cdiv, launch, tile
from .norm_act_triton import activate
from .spec import Variant
from .step_activation import FITTED, Steps, packed_size

COMPILER = {"num_warps": 4}


@triton.jit
def forward_kernel(
    x, y, packed, elements, size,
    ACT: tl.constexpr, EDGE1: tl.constexpr, EDGE2: tl.constexpr, EDGE3: tl.constexpr, BITS: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """y = act(x); byte i of packed (size) holds how many edges elements i, i + size, ... are above."""
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    codes = tl.zeros((BLOCK,), dtype=tl.int32)
    for part in tl.static_range(8 // BITS):
        at = byte + part * size
        mask = (byte < size) & (at < elements)
        value = tl.load(x + at, mask=mask, other=-1e4).to(ACC)
        tl.store(y + at, activate(value, ACT), mask=mask)
        code = (value > EDGE1).to(tl.int32)
        if BITS == 2:
            code += (value > EDGE2).to(tl.int32) + (value > EDGE3).to(tl.int32)
        codes |= code << (part * BITS)
    tl.store(packed + byte, codes.to(tl.uint8), mask=byte < size)


@triton.jit
def backward_kernel(
    dy, packed, dx, elements, size,
    LEVEL1: tl.constexpr, LEVEL2: tl.constexpr, LEVEL3: tl.constexpr, BITS: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dx = dy times the level of the element."""
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    codes = tl.load(packed + byte, mask=byte < size, other=0).to(tl.int32)
    for part in tl.static_range(8 // BITS):
        at = byte + part * size
        mask = (byte < size) & (at < elements)
        code = (codes >> (part * BITS)) & (2**BITS - 1)
        level = tl.where(code >= 1, tl.full((BLOCK,), LEVEL1, ACC), tl.zeros((BLOCK,), dtype=ACC))
        if BITS == 2:
            level = tl.where(code >= 2, tl.full((BLOCK,), LEVEL2, ACC), level)
            level = tl.where(code >= 3, tl.full((BLOCK,), LEVEL3, ACC), level)
        d = tl.load(dy + at, mask=mask, other=0.0).to(ACC)
        tl.store(dx + at, d * level, mask=mask)


def _numbered(name: str, values: tuple[float, ...]) -> dict[str, float]:
    """One constant for each of three; where there is one step the others are not used."""
    return {f"{name}{index + 1}": values[min(index, len(values) - 1)] for index in range(3)}


def forward(x: Tensor, act: str, steps: Steps) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    size = packed_size(x.numel(), steps.bits)
    y, packed = torch.empty_like(x), torch.empty((size,), dtype=torch.uint8, device=x.device)
    options = {"ACT": act, **_numbered("EDGE", steps.edges), "BITS": steps.bits, "ACC": ACCUMULATE[accumulate_dtype(x)]}
    block = tile(size, 256)
    launch(forward_kernel, (cdiv(size, block),), x, y, packed, x.numel(), size, BLOCK=block, **options, **COMPILER)
    return y, packed


def backward(dy: Tensor, packed: Tensor, steps: Steps) -> Tensor:
    dy = dy.contiguous()
    size = len(packed)
    dx = torch.empty_like(dy)
    options = {**_numbered("LEVEL", steps.levels[1:]), "BITS": steps.bits, "ACC": ACCUMULATE[accumulate_dtype(dy)]}
    block = tile(size, 256)
    launch(backward_kernel, (cdiv(size, block),), dy, packed, dx, dy.numel(), size, BLOCK=block, **options, **COMPILER)
    return dx


def variants() -> list[Variant]:
    types = {"elements": "i32", "size": "i32", "packed": "*u8"}
    made = []
    for act, count in (("gelu", 3), ("silu", 1)):
        steps = FITTED[act, count]
        constants = {"BITS": steps.bits, "ACC": tl.float32, "BLOCK": 256}
        made.append(Variant(forward_kernel, {**constants, "ACT": act, **_numbered("EDGE", steps.edges)}, types, COMPILER))
        made.append(Variant(backward_kernel, {**constants, **_numbered("LEVEL", steps.levels[1:])}, types, COMPILER))
    return made
