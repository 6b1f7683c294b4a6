"""Definition, fast path and Triton of a front end and the scan behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import scan
from ..function import accumulate_dtype, fused
from ..scan.differentiable import Run
from .fronts import Front


def reference(front: Front) -> Callable[..., Run]:
    """Gates and inputs as they are written, in float32 or better, then one step at a time."""
    return composed(front, scan.reference)


def fast(front: Front) -> Callable[..., Run]:
    """The front end under autograd before the chunked scan.

    Its gradient written out was 1.2 to 2.4 times slower on a CPU: it has to compute again the exponentials that autograd keeps.
    """
    return composed(front, scan.fast)


def triton(front: Front) -> Callable[..., Run]:
    """One launch per direction; see :mod:`archwright.kernels.gated_scan.triton_`."""

    def run(*args: Tensor | None, **options: Any) -> Run:
        from . import triton_

        h, last = fused(triton_.core(front), *args, outputs=2, **options)
        return h, last

    return run


def composed(front: Front, behind: Callable[..., Run]) -> Callable[..., Run]:
    def run(*args: Tensor | None, reverse: bool = False, **options: Any) -> Run:
        *parts, h0 = args
        a, x = front.gates(*widened(parts), **options)
        h, last = behind(a, x, h0, reverse=reverse)
        value = parts[front.value]
        return h if h.is_complex() or value is None else h.to(value.dtype), last

    return run


def widened(parts: list[Tensor | None]) -> list[Tensor | None]:
    """In float32 or better."""
    real = accumulate_dtype(*parts)
    return [None if part is None else part if part.is_complex() else part.to(real) for part in parts]
