r"""Gated linear units: :math:`y = \phi(gate) \cdot value` with :math:`\phi` silu (SwiGLU), gelu (GEGLU), relu or sigmoid (GLU).

"GLU Variants Improve Transformer" (2020, 2002.05202). The backward pass computes :math:`\phi(gate)` again and keeps nothing but the
arguments: autograd over the plain product would keep one more tensor of their size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import call
from .function import Core, Optional, Tensors, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid}


def glu(gate: Tensor, value: Tensor, *, act: str = "silu", backend: str | None = None) -> Tensor:
    """``act(gate) * value`` of every element, in the dtype of ``gate``.

    Args:
        gate, value: two tensors of one shape, dtype and device, real.
        act: ``silu``, ``gelu`` (exact), ``relu`` or ``sigmoid``.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Raises:
        ValueError: the shapes or dtypes differ, or there is no such activation. TypeError: not real floating point.
        BackendError: see dispatch.
    """
    if act not in _ACTIVATIONS:
        raise ValueError(f'glu knows the activations {", ".join(_ACTIVATIONS)}. Got act="{act}" instead.')
    for name, tensor in (("gate", gate), ("value", value)):
        if not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of glu must be real floating point. Got {tensor.dtype} instead.')
    if gate.shape != value.shape or gate.dtype != value.dtype:
        given = f"{tuple(gate.shape)} {gate.dtype} and {tuple(value.shape)} {value.dtype}"
        raise ValueError(f"glu needs gate and value of one shape and dtype. Got {given}.")
    result: Tensor = call(SPEC, gate, value, backend=backend, act=act)
    return result


def reference(gate: Tensor, value: Tensor, *, act: str) -> Tensor:
    return _ACTIVATIONS[act](gate) * value


def _forward(gate: Tensor, value: Tensor, *, act: str) -> tuple[Tensors, Optional]:
    return (_ACTIVATIONS[act](gate).mul_(value),), ()


def _backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, act: str) -> Optional:
    """PyTorch's own backward operators, each into memory that is already there."""
    (gate, value), (dy,) = args, cotangents
    dgate = dvalue = None
    opened = _ACTIVATIONS[act](gate) if wanted[1] or act == "sigmoid" else gate
    if wanted[0]:
        dgate = dy * value
        if act == "silu":
            torch.ops.aten.silu_backward.grad_input(dgate, gate, grad_input=dgate)
        elif act == "gelu":
            torch.ops.aten.gelu_backward.grad_input(dgate, gate, grad_input=dgate)
        elif act == "relu":
            torch.ops.aten.threshold_backward.grad_input(dgate, gate, 0, grad_input=dgate)
        else:
            torch.ops.aten.sigmoid_backward.grad_input(dgate, opened, grad_input=dgate)
    if wanted[1]:
        dvalue = opened.mul_(dy)
    return dgate, dvalue


_FAST = Core(_forward, _backward, reference)


def fast(gate: Tensor, value: Tensor, *, act: str) -> Tensor:
    """The elementwise passes of each direction in place."""
    return fused(_FAST, gate, value, act=act)[0]


def triton(gate: Tensor, value: Tensor, *, act: str) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.glu_triton`."""
    from .glu_triton import glu_backward, glu_forward

    return fused(Core(glu_forward, glu_backward, reference), gate, value, act=act)[0]


def supports(gate: Tensor, value: Tensor, **options: Any) -> str | None:
    return refusal(gate, kernel="glu")


def variants() -> list[Variant]:
    from . import glu_triton

    return glu_triton.glu_variants()


@dataclass(frozen=True)
class Case:
    """A shape and an activation; ``scale`` multiplies the gate."""

    shape: tuple[int, ...]
    act: str = "silu"
    scale: float = 1.0

    def __str__(self) -> str:
        return "x".join(map(str, self.shape)) + f"-{self.act}" + ("" if self.scale == 1 else f"-scale{self.scale:g}")


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    gate, value = (torch.randn(case.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return Inputs(tuple(t.to(device=device, dtype=dtype) for t in (case.scale * gate, value)), {"act": case.act})


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    return {"forward": 3, "backward": 5}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 6, "backward": 14}[direction] * _elements(case)


_CASES = (
    *(Case((2, 3, 17), act) for act in _ACTIVATIONS),
    *(Case((3, 31), act, 60.0) for act in _ACTIVATIONS),
    *(Case(shape) for shape in ((1,), (7,), (8,), (9,), (4, 33), (0, 3), (2, 0))),
)

SPEC = KERNELS.add(
    KernelSpec(
        name="glu",
        public=glu,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(Case((5, 13)), *_CASES),
        differentiable=("gate", "value"),
        per_sample=("gate", "value"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        min_work=1 << 20,
        benchmarks=(Benchmark(Case((8192, 256)), 0.8), Benchmark(Case((8192, 1024)), 1.2), Benchmark(Case((8192, 256)), measure="memory")),
        variants=variants,
    )
)
