r"""Safe rational functions with learned coefficients, one per group of neighbouring channels.

.. math:: y = P(x) / Q(x), \qquad P = \sum_{i=0}^m p_i x^i, \qquad
          Q = 1 + |\sum_{j=1}^n q_j x^j| \quad\text{or}\quad Q = 1 + \sum_{j=1}^n |q_j x^j|

With S the sum in Q, and S = |q_1 x| + ... in the second form, where sign(q_j) enters the last formula too:

.. math:: \bar x = \bar y (P' - y\, \mathrm{sign}(S) S') / Q, \quad \bar p_i = \sum \bar y x^i / Q, \quad
          \bar q_j = -\sum \bar y\, y\, \mathrm{sign}(S) x^j / Q
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant
from .fast import fast
from .reference import DENOMINATORS, compilable, reference

__all__ = ["SPEC", "rational"]


def rational(x: Tensor, p: Tensor, q: Tensor, *, denominator: str = "abs-sum", backend: str | None = None) -> Tensor:
    """``P(x) / Q(x)`` with a denominator of at least 1, each group of channels with coefficients of its own.

    "Pade Activation Units: End-to-end Learning of Flexible Activation Functions in Deep Networks" (2019, 1907.06732) and, in groups,
    "Kolmogorov-Arnold Transformer" (2024, 2409.10594).

    Args:
        x: (..., width).
        p: (m + 1, groups), the coefficients of 1, x, ..., x^m; groups divide the width into equal runs of neighbours.
        q: (n, groups), the coefficients of x, ..., x^n, n at least 1. Either of p and q may have a single group, shared by all.
        denominator: ``abs-sum`` for ``1 + |q_1 x + ... + q_n x^n|``, ``sum-abs`` for ``1 + |q_1 x| + ... + |q_n x^n|``.
        backend: ``fast``, ``reference``, ``triton`` or ``compile``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        (..., width) in the dtype of ``x``, computed in float32 (float64 for float64 inputs). Powers that would overflow there, as
        of float32 x beyond 5e7 at m = 5, are avoided by polynomials in 1/x.

    Raises:
        ValueError: shapes do not match or the denominator is unknown. TypeError: a tensor is not floating point.
        BackendError: see dispatch.
    """
    _check(x, p, q, denominator)
    result: Tensor = call(SPEC, x, p, q, backend=backend, denominator=denominator)
    return result


def _check(x: Tensor, p: Tensor, q: Tensor, denominator: str) -> None:
    for name, tensor in (("x", x), ("p", p), ("q", q)):
        if not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of rational must be floating point. Got {tensor.dtype} instead.')
    if denominator not in DENOMINATORS:
        raise ValueError(f'The denominator of rational is one of {", ".join(DENOMINATORS)}. Got "{denominator}" instead.')
    if x.dim() == 0:
        raise ValueError("rational needs x of shape (..., width). Got a scalar instead.")
    if p.dim() != 2 or q.dim() != 2 or 0 in (*p.shape, *q.shape):
        raise ValueError(f"rational needs p and q of shape (terms, groups). Got {tuple(p.shape)} and {tuple(q.shape)}.")
    groups = max(p.shape[1], q.shape[1])
    if {p.shape[1], q.shape[1]} - {1, groups} or x.shape[-1] % groups:
        raise ValueError(
            f"rational needs groups that divide the width {x.shape[-1]}, as many in p as in q or 1 for all. "
            f"Got {p.shape[1]} in p and {q.shape[1]} in q."
        )


def triton(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.rational.triton_`."""
    from ..function import fused
    from . import triton_

    return fused(triton_.CORE, x, p, q, denominator=denominator)[0]


def supports(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="rational")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size; ``degrees`` are m and n, x is drawn from N(0, scale^2)."""

    shape: tuple[int, ...]
    degrees: tuple[int, int] = (5, 4)
    groups: int = 8
    denominator: str = "abs-sum"
    shared: bool = False
    scale: float = 1.0

    def __str__(self) -> str:
        marks = ("-shared" if self.shared else "") + ("" if self.scale == 1 else f"-by{self.scale:g}")
        size = "x".join(map(str, self.shape))
        return f"{size}-{self.degrees[0]}over{self.degrees[1]}-{self.groups}groups-{self.denominator}{marks}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    """Coefficients fall with the power, as those of fitted functions do."""
    m, n = case.degrees
    x = case.scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
    p = torch.randn((m + 1, 1 if case.shared else case.groups), generator=generator, dtype=torch.float64)
    q = torch.randn((n, case.groups), generator=generator, dtype=torch.float64)
    p, q = (part * 0.5 ** torch.arange(len(part), dtype=torch.float64)[:, None] for part in (p, q))
    return Inputs(tuple(t.to(device=device, dtype=dtype) for t in (x, p, q)), {"denominator": case.denominator})


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x and writes y; backward reads x, dy and writes dx."""
    return {"forward": 2, "backward": 3}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 2, "backward": 6}[direction] * (sum(case.degrees) + 1) * _elements(case)


_SMALL = (
    Case((2, 5, 6), groups=2),
    Case((2, 5, 6), groups=2, denominator="sum-abs"),
    Case((2, 3), groups=1),
    Case((7,), (3, 2), groups=1, denominator="sum-abs"),
    Case((9, 10), (7, 6), groups=2),
    Case((3, 18), (2, 3), groups=2, denominator="sum-abs"),
    Case((3, 18), (1, 3), groups=2),
    Case((9, 6), (3, 2), groups=3, shared=True),
    Case((3, 4), (0, 1), groups=2),
    Case((5, 12), groups=3, scale=10.0),
)
_CASES = (
    *_SMALL,
    *(Case((3, groups * each), groups=groups, denominator=d) for groups, each in ((1, 63), (8, 8), (5, 11)) for d in DENOMINATORS),
    Case((700, 400), groups=8),
    Case((0, 8)),
    Case((2, 3, 8), (7, 6), groups=8, denominator="sum-abs", shared=True),
)
_SEARCH = (Case((32, 256, 64)), Case((8, 1024, 128)))

SPEC = KERNELS.add(
    KernelSpec(
        name="rational",
        public=rational,
        reference=reference,
        compilable=compilable,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("x", "p", "q"),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(*(Benchmark(case, 1.3) for case in _SEARCH), *(Benchmark(case, 5, backend="compile") for case in _SEARCH)),
        variants=variants,
    )
)
