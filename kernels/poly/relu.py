r"""PolyReLU: a polynomial of the positive part.

.. math:: y = \sum_i a_i r^i, \qquad r = \max(x, 0); \qquad
          \bar x = \bar y\, [x > 0] \sum_i i\, a_i r^{i-1}, \quad \bar a_i = \sum \bar y\, r^i
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..dispatch import call
from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..known_bad import refusal
from ..rows import buffers, row_blocks
from ..spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

HIGHEST = 8

Given = tuple[Any, ...]


def poly_relu(x: Tensor, coef: Tensor, *, backend: str | None = None) -> Tensor:
    """``sum_i a_i relu(x)^i`` for i = 0, 1, ..., by Horner's rule.

    "Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models" (2024, 2411.03884), of order 3.

    Args:
        x: any shape.
        coef: a_0, a_1, ..., (order + 1,), orders 0 to 8; (0, 1) is ReLU and (0, 0, 1) its square.
        backend: ``fast``, ``reference``, ``triton`` or ``compile``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        The shape and dtype of ``x``; computed in float32 (float64 for float64 inputs). The derivative at 0 is taken from the left: 0.

    Raises:
        ValueError: coef is not a vector of 1 to 9 entries. TypeError: a tensor is not floating point. BackendError: see dispatch.
    """
    for name, tensor in (("x", x), ("coef", coef)):
        if not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of poly_relu must be floating point. Got {tensor.dtype} instead.')
    if coef.dim() != 1 or not 1 <= len(coef) <= HIGHEST + 1:
        raise ValueError(f"poly_relu needs one coefficient per power, 1 to {HIGHEST + 1} of them. Got shape {tuple(coef.shape)}.")
    result: Tensor = call(SPEC, x, coef, backend=backend)
    return result


def reference(x: Tensor, coef: Tensor) -> Tensor:
    """The polynomial by Horner's rule."""
    positive = torch.relu(x)
    y = coef[-1].expand_as(x)
    for a in reversed(coef[:-1].unbind()):
        y = y * positive + a
    return y.to(x.dtype)


# --- fast: blocks in cache, in place ----------------------------------------------------------------------------------------


def fast(x: Tensor, coef: Tensor) -> Tensor:
    """Saves nothing but its arguments. A compiler is given the definition, which it fuses itself."""
    return reference(x, coef) if torch.compiler.is_compiling() else fused(_FAST, x, coef)[0]


def _forward(x: Tensor, coef: Tensor) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(x, coef)
    rows, y = x.reshape(-1, 1), torch.empty_like(x, memory_format=torch.contiguous_format)
    out = y.view(-1, 1)
    positive, value = buffers(rows, dtype, 2)
    for block in row_blocks(rows):
        r, v = (buffer[: block.stop - block.start] for buffer in (positive, value))
        r.copy_(rows[block]).clamp_min_(0)
        out[block] = _horner(v, r, coef.to(dtype))
    return (y,), ()


def _backward(args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    x, coef = args
    (dy,) = cotangents
    dtype = accumulate_dtype(x, coef)
    a = coef.to(dtype)
    slopes = (a * torch.arange(len(a), dtype=dtype, device=a.device))[1:]
    rows, dys, dx = x.reshape(-1, 1), dy.reshape(-1, 1), torch.empty_like(x, memory_format=torch.contiguous_format)
    out, sums = dx.view(-1, 1), torch.zeros_like(a)
    positive, value, weighted = buffers(rows, dtype, 3)
    for block in row_blocks(rows):
        r, v, t = (buffer[: block.stop - block.start] for buffer in (positive, value, weighted))
        t.copy_(dys[block])
        r.copy_(rows[block])
        rising = r > 0
        r.clamp_min_(0)
        out[block] = _horner(v, r, slopes).mul_(rising).mul_(t) if len(slopes) else 0
        sums += torch.stack([t.sum(), *(t.mul_(r).sum() for _ in slopes)])
    return dx, sums.to(coef.dtype)


_FAST = Core(_forward, _backward, reference)


def _horner(value: Tensor, at: Tensor, coefficients: Tensor) -> Tensor:
    """``sum_i c_i at^i``, written over ``value``."""
    *lower, highest = coefficients.unbind()
    value.copy_(highest)
    for c in reversed(lower):
        value.mul_(at).add_(c)
    return value


# --- Triton -------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, coef: Tensor) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.poly.triton_`."""
    from . import triton_

    return fused(triton_.RELU, x, coef)[0]


def supports(x: Tensor, coef: Tensor) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="poly_relu")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.relu_variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One shape and order."""

    shape: tuple[int, ...]
    order: int = 3

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))}-order{self.order}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = torch.randn(case.shape, generator=generator, dtype=torch.float64)
    coef = torch.randn(case.order + 1, generator=generator, dtype=torch.float64)
    return Inputs(tuple(tensor.to(device=device, dtype=dtype) for tensor in (x, coef)))


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x and writes y; backward reads x, dy and writes dx."""
    return {"forward": 2, "backward": 3}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 2, "backward": 4}[direction] * (case.order + 1) * _elements(case)


_SMALL = (Case((3, 5, 7)), Case((1,)), Case((2, 3), 0), Case((17,), 1), Case((3, 11), 2), Case((5, 2, 3), 5))
_SEARCH = (Case((32, 256, 64)), Case((8, 1024, 128)))

SPEC = KERNELS.add(
    KernelSpec(
        name="poly_relu",
        public=poly_relu,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=(*_SMALL, Case((2, 0)), Case((0, 3), 2), Case((63,), 8), Case((64, 64)), Case((65, 129)), Case((700, 401))),
        small_cases=_SMALL,
        differentiable=("x", "coef"),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=tuple(Benchmark(case, 1.5) for case in _SEARCH),
        variants=variants,
    )
)
