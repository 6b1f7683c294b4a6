r"""The square of the rectifier, :math:`y = \max(x, 0)^2`, with gradient :math:`2 \max(x, 0)`.

"Primer: Searching for Efficient Transformers for Language Modeling" (2021, 2109.08668). Only x is kept for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import call
from .function import Core, Optional, Tensors, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant


def relu2(x: Tensor, *, backend: str | None = None) -> Tensor:
    """``max(x, 0) ** 2`` of every element, in the dtype of ``x``.

    Args:
        x: any shape, real.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Raises:
        TypeError: ``x`` is not real floating point. BackendError: see dispatch.
    """
    if not x.is_floating_point():
        raise TypeError(f'The argument "x" of relu2 must be real floating point. Got {x.dtype} instead.')
    result: Tensor = call(SPEC, x, backend=backend)
    return result


def reference(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _forward(x: Tensor) -> tuple[Tensors, Optional]:
    y = F.relu(x)
    return (y.mul_(y),), ()


def _backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...]) -> Optional:
    (x,), (dy,) = args, cotangents
    # doubling first is exact, so that half precision rounds once
    return (F.relu(x).mul_(2).mul_(dy),)


_FAST = Core(_forward, _backward, reference)


def fast(x: Tensor) -> Tensor:
    """The two elementwise passes of each direction in place."""
    return fused(_FAST, x)[0]


def triton(x: Tensor) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.glu_triton`."""
    from .glu_triton import relu2_backward, relu2_forward

    return fused(Core(relu2_forward, relu2_backward, reference), x)[0]


def supports(x: Tensor, **options: Any) -> str | None:
    return refusal(x, kernel="relu2")


def variants() -> list[Variant]:
    from . import glu_triton

    return glu_triton.relu2_variants()


@dataclass(frozen=True)
class Case:
    """A shape; ``scale`` multiplies the inputs."""

    shape: tuple[int, ...]
    scale: float = 1.0

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + ("" if self.scale == 1 else f"-scale{self.scale:g}")


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = case.scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
    return Inputs((x.to(device=device, dtype=dtype),))


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    return {"forward": 2, "backward": 3}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return 2 * _elements(case)


_CASES = tuple(Case(shape) for shape in ((1,), (7,), (8,), (9,), (2, 3, 31), (4, 33), (0, 3), (2, 0)))

SPEC = KERNELS.add(
    KernelSpec(
        name="relu2",
        plain_below=lambda **_: 1 << 17,
        public=relu2,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=(*_CASES, Case((64,), 30.0), Case((64,), 1e-3)),
        small_cases=(Case((5, 19)), *_CASES, Case((33,), 30.0)),
        differentiable=("x",),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        min_work=1 << 20,
        benchmarks=(Benchmark(Case((8192, 64)), 1.5), Benchmark(Case((8192, 256)), 1.5)),
        variants=variants,
    )
)
