r"""A residual connection that adds only what is new: the part of the branch's output at right angles to the stream.

.. math:: y = x + f - c\,x, \qquad c = r \frac{\langle x, f \rangle}{N}, \quad N = \|x\|^2 + \epsilon

With :math:`e = \langle x, \bar y \rangle / N` the gradients are :math:`\bar f = \bar y - r e\,x` and
:math:`\bar x = (1 - c)\,\bar y - r e\,f + 2 c e\,x`.

"Revisiting Residual Connections: Orthogonal Updates for Stable and Efficient Deep Networks" (2025, 2505.11881).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .dispatch import call
from .function import Core, Optional, Tensors, accumulate_dtype, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

SCOPES = ("token", "sample")


def orthogonal_residual(
    x: Tensor, f: Tensor, *, eps: float = 1e-6, scope: str = "token", strength: float = 1.0, backend: str | None = None
) -> Tensor:
    """``x + f - strength <x, f> / (<x, x> + eps) x``: the stream plus the part of the branch's output orthogonal to it.

    Args:
        x: the stream, (..., width).
        f: the branch's output, of the same shape.
        eps: keeps a stream of zeros from dividing by zero; then ``y = f``.
        scope: whether the inner products run over the last axis (``token``) or over all but the first (``sample``).
        strength: r, how much of the parallel part is taken out; 0 is the plain residual connection.

    Returns:
        (..., width) in the dtype of ``x``; inner products are float32 or better.

    Raises:
        ValueError: shapes differ, or there is no such scope. BackendError: see dispatch.

    Paper: Revisiting Residual Connections: Orthogonal Updates for Stable and Efficient Deep Networks (2025, 2505.11881).
    """
    if x.shape != f.shape or x.dim() < 1:
        raise ValueError(f"orthogonal_residual needs x and f of one shape. Got {tuple(x.shape)} and {tuple(f.shape)}.")
    if scope not in SCOPES:
        raise ValueError(f'orthogonal_residual knows the scopes {", ".join(SCOPES)}. Got "{scope}" instead.')
    result: Tensor = call(SPEC, x, f, backend=backend, eps=eps, scope=scope, strength=strength)
    return result


def reference(x: Tensor, f: Tensor, *, eps: float, scope: str, strength: float) -> Tensor:
    """As it is written, in float32 or better."""
    dtype = accumulate_dtype(x, f)
    stream, branch = x.to(dtype), f.to(dtype)
    axes = (-1,) if scope == "token" else tuple(range(1, x.dim())) or (0,)
    share = (stream * branch).sum(axes, keepdim=True) / (stream.square().sum(axes, keepdim=True) + eps)
    return (stream + branch - strength * share * stream).to(x.dtype)


# --- fast ----------------------------------------------------------------------------------------------------------------


def rows(tensor: Tensor, scope: str, dtype: torch.dtype | None = None) -> Tensor:
    """A row for each inner product."""
    by_token = scope == "token" or tensor.dim() == 1
    flat = tensor.reshape(-1, tensor.shape[-1]) if by_token else tensor.reshape(tensor.shape[0], -1)
    return flat.to(dtype or tensor.dtype)


def _forward(x: Tensor, f: Tensor, *, eps: float, scope: str, strength: float) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(x, f)
    stream, branch = rows(x, scope, dtype), rows(f, scope, dtype)
    norm = torch.linalg.vecdot(stream, stream).unsqueeze(-1).add_(eps)
    share = torch.linalg.vecdot(stream, branch).unsqueeze(-1).div_(norm).mul_(strength)
    y = torch.addcmul(branch, stream, 1.0 - share)
    return (y.to(x.dtype).view(x.shape),), (share, norm)


def _backward(
    args: Tensors, outputs: Tensors, saved: Tensors, cotangents: Tensors, wanted: tuple[bool, ...],
    *, eps: float, scope: str, strength: float,
) -> Optional:  # fmt: skip
    x, f = args
    share, norm = saved
    dtype = accumulate_dtype(x, f)
    stream, dy = rows(x, scope, dtype), rows(cotangents[0], scope, dtype)
    e = torch.linalg.vecdot(stream, dy).unsqueeze(-1).div_(norm)
    dx = df = None
    if wanted[0]:
        dx = torch.addcmul((1.0 - share) * dy, rows(f, scope, dtype), e, value=-strength)
        dx = dx.addcmul_(stream, share * e, value=2.0).to(x.dtype).view(x.shape)
    if wanted[1]:
        df = torch.addcmul(dy, stream, e, value=-strength).to(f.dtype).view(f.shape)
    return dx, df


CORE = Core(_forward, _backward, reference)


def fast(x: Tensor, f: Tensor, *, eps: float, scope: str, strength: float) -> Tensor:
    """Inner products that write no products, and the two factors kept for the gradient."""
    return fused(CORE, x, f, eps=eps, scope=scope, strength=strength)[0]


# --- Triton --------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, f: Tensor, *, eps: float, scope: str, strength: float) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.orthogonal_residual_triton`."""
    from . import orthogonal_residual_triton

    return fused(orthogonal_residual_triton.CORE, x, f, eps=eps, scope=scope, strength=strength)[0]


def supports(x: Tensor, f: Tensor, **options: Any) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="orthogonal_residual")


def variants() -> list[Variant]:
    from . import orthogonal_residual_triton

    return orthogonal_residual_triton.variants()


# --- spec ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One shape; ``parallel`` is how far the branch's output points along the stream."""

    shape: tuple[int, ...]
    scope: str = "token"
    strength: float = 1.0
    scale: float = 1.0
    parallel: float = 0.5

    def __str__(self) -> str:
        marks = ("" if self.strength == 1.0 else f"-r{self.strength:g}") + ("" if self.scale == 1.0 else f"-times{self.scale:g}")
        return f"{'x'.join(map(str, self.shape))}-{self.scope}{marks}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x, f = (torch.randn(case.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    made = (tensor.to(device=device, dtype=dtype) for tensor in (case.scale * x, f + case.parallel * x))
    return Inputs(tuple(made), {"eps": 1e-6, "scope": case.scope, "strength": case.strength})


def _elements(case: Case) -> int:
    return int(torch.Size(case.shape).numel())


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x, f and writes y; backward reads x, f, dy and writes dx, df."""
    return {"forward": 3, "backward": 5}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 6, "backward": 10}[direction] * _elements(case)


SPEC = KERNELS.add(
    KernelSpec(
        name="orthogonal_residual",
        plain_below=lambda **_: 1 << 15,
        public=orthogonal_residual,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=(
            Case((2, 3, 17)),
            Case((2, 3, 17), "sample"),
            Case((5,)),
            Case((1, 1)),
            Case((4, 129), strength=0.5),
            Case((2, 3, 8), strength=0.0),
            Case((3, 33), scale=100.0),
            Case((3, 33), scale=0.0),
            Case((2, 3, 5, 4), "sample", strength=0.3),
            Case((2, 0, 3)),
            Case((0, 4), "sample"),
        ),
        small_cases=(
            Case((2, 5, 9)),
            Case((2, 3, 9), "sample", strength=0.5),
            Case((1, 1)),
            Case((9, 8)),
            Case((3, 20), scale=0.0),
            Case((2, 17), strength=0.0),
        ),
        differentiable=("x", "f"),
        per_sample=("x", "f"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(
            Benchmark(Case((32, 256, 64)), 1.5),
            Benchmark(Case((8, 1024, 128)), 1.5),
            Benchmark(Case((8, 1024, 128), "sample"), 1.2),
        ),
        variants=variants,
    )
)
