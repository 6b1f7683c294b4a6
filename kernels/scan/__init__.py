r"""Diagonal linear recurrence, the scan under RG-LRU, minGRU, HGRN and their kin.

.. math:: h_t = a_t \cdot h_{t-1} + x_t

Its gradient is the same recurrence run the other way with the gates shifted by one step (and conjugated, where they are
complex):

.. math:: g_t = \bar h_t + a_{t+1}^* g_{t+1}, \qquad \bar x_t = g_t, \quad \bar a_t = g_t h_{t-1}^*, \quad \bar h_0 = a_1^* g_1

The chunked form is from "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models"
(2024, 2402.19427) and "Parallelizing Linear Recurrent Neural Nets Over Sequence Length" (2017, 1709.04057). Gates are never
divided and never taken through a logarithm, so that zeros, negative gates and long products that underflow are all exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant
from . import chunked
from .differentiable import Run, Scan, state_dtype


def linear_scan(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False, backend: str | None = None) -> Run:
    """All states of ``h_t = a_t * h_{t-1} + x_t``, and the last one.

    Args:
        a: gates, (batch, steps, width), real or complex. Any sign and zero are exact; up to 32 successive gates are multiplied, so
            their product must stay finite (gates of magnitude up to 15 in float32).
        x: inputs, (batch, steps, width), real or complex.
        h0: the state before the first step, (batch, width), real or complex; None is zero.
        reverse: run from the last step to the first: ``h_t = a_t * h_{t+1} + x_t``.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    If one tensor is complex, all become so, in the precision they have (complex64 for halves).

    Returns:
        h: (batch, steps, width) in the dtype of ``x``.
        last: the final state, (batch, width), in float32 or complex64 (float64 or complex128 for such inputs); feed it as ``h0`` to
            go on.

    Gradients flow to ``a``, ``x`` and ``h0`` from both results, any number of times.

    Raises:
        ValueError: shapes do not match. TypeError: a tensor holds integers. BackendError: see dispatch.
    """
    _check(a, x, h0)
    a, x, h0 = _promoted(a, x, h0)
    result: Run = call(COMPLEX if x.is_complex() else SPEC, a, x, h0, backend=backend, reverse=reverse)
    return result


def _check(a: Tensor, x: Tensor, h0: Tensor | None) -> None:
    for name, tensor in (("a", a), ("x", x), ("h0", h0)):
        if tensor is not None and not (tensor.is_floating_point() or tensor.is_complex()):
            raise TypeError(f'The argument "{name}" of linear_scan must be floating point or complex. Got {tensor.dtype} instead.')
    if x.dim() != 3 or a.shape != x.shape:
        raise ValueError(f"linear_scan needs a and x of one shape (batch, steps, width). Got {tuple(a.shape)} and {tuple(x.shape)}.")
    if h0 is not None and h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"linear_scan needs h0 of shape {(x.shape[0], x.shape[2])}, (batch, width). Got {tuple(h0.shape)} instead.")
    devices = {tensor.device for tensor in (a, x, h0) if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"linear_scan needs a, x and h0 on one device. Got {sorted(map(str, devices))}.")


def _promoted(a: Tensor, x: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All complex if one is."""
    if any(tensor is not None and tensor.is_complex() for tensor in (a, x, h0)):
        return _complex(a), _complex(x), None if h0 is None else _complex(h0)
    return a, x, h0


def _complex(tensor: Tensor) -> Tensor:
    wide = tensor.dtype in (torch.float64, torch.complex128)
    return tensor.to(torch.complex128 if wide else torch.complex64)


# --- reference: the definition ---------------------------------------------------------------------------------------


def reference(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """The recurrence as it is written, one step at a time, in the dtype of its inputs."""
    steps = x.shape[1]
    h = x.new_zeros(x.shape[0], x.shape[2]) if h0 is None else h0
    states: dict[int, Tensor] = {}
    for t in reversed(range(steps)) if reverse else range(steps):
        h = states[t] = a[:, t] * h + x[:, t]
    stacked = torch.stack([states[t] for t in range(steps)], dim=1) if steps else a * x
    return stacked.to(x.dtype), h.to(state_dtype(a, x, h0))


# --- fast and Triton --------------------------------------------------------------------------------------------------


def fast(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """Chunks of 16 or 32 steps run side by side, then the states between chunks are let in; see :mod:`archwright.kernels.scan.chunked`."""
    return reference(a, x, h0, reverse=reverse) if x.numel() == 0 else Scan.apply(a, x, h0, reverse, chunked.CORE)


def triton(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """One launch per direction; see :mod:`archwright.kernels.scan.triton_`."""
    from . import triton_

    return reference(a, x, h0, reverse=reverse) if x.numel() == 0 else Scan.apply(a, x, h0, reverse, triton_.CORE)


def supports(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(a, kernel="scan")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.variants(complex_=False)


def _complex_variants() -> list[Variant]:
    from . import triton_

    return triton_.variants(complex_=True)


# --- spec --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size of the scan; gates are drawn from [low, high], complex ones with that magnitude and any phase."""

    batch: int
    steps: int
    width: int
    state: bool = False
    reverse: bool = False
    low: float = 0.3
    high: float = 1.0
    complex_: bool = False

    def __str__(self) -> str:
        marks = ("-complex" if self.complex_ else "") + ("-state" if self.state else "") + ("-reverse" if self.reverse else "")
        gates = "" if (self.low, self.high) == (0.3, 1.0) else f"-gates{self.low:g}to{self.high:g}"
        return f"{self.batch}x{self.steps}x{self.width}{marks}{gates}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    shape = (case.batch, case.steps, case.width)
    kind = torch.complex128 if case.complex_ else torch.float64
    a = case.low + (case.high - case.low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    if case.complex_:
        a = torch.polar(a, 6.3 * torch.rand(shape, generator=generator, dtype=torch.float64))
    x = torch.randn(shape, generator=generator, dtype=kind)
    h0 = torch.randn((case.batch, case.width), generator=generator, dtype=kind) if case.state else None
    low = dtype.to_complex() if case.complex_ else dtype
    made = tuple(None if t is None else t.to(device=device, dtype=low) for t in (a, x, h0))
    return Inputs(made, {"reverse": case.reverse})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads a, x and writes h; backward reads dh, a, h and writes da, dx."""
    return {"forward": 3, "backward": 5}[direction] * case.batch * case.steps * case.width * dtype.itemsize * (1 + case.complex_)


def _flops(case: Case, direction: str) -> int:
    return {"forward": 2, "backward": 3}[direction] * case.batch * case.steps * case.width * (4 if case.complex_ else 1)


_SIZES = ((1, 1, 1), (1, 2, 3), (2, 15, 4), (1, 16, 1), (3, 17, 5), (2, 31, 16), (1, 32, 7), (2, 33, 3), (1, 67, 2), (2, 130, 3))
_CASES = (
    *(Case(*size, state=s, reverse=r) for size in _SIZES for s, r in ((False, False), (True, False), (False, True), (True, True))),
    Case(2, 0, 3, state=True),
    Case(0, 5, 3, state=True),
    Case(2, 5, 0, state=True),
    Case(2, 40, 3, state=True, low=-1.0, high=1.0),
    Case(2, 40, 3, state=True, low=0.0, high=0.0),
    Case(2, 40, 3, state=True, low=1.0, high=1.0),
    Case(2, 40, 3, state=True, low=0.0, high=1e-6),
)

SPEC = KERNELS.add(
    KernelSpec(
        name="scan",
        public=linear_scan,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(Case(2, 13, 5, state=True), *(case for case in _CASES if case.steps < 60)),
        differentiable=("a", "x", "h0"),
        per_sample=("a", "x", "h0"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(Benchmark(Case(32, 256, 64), 20), Benchmark(Case(8, 1024, 128), 100)),
        variants=variants,
    )
)

COMPLEX = KERNELS.add(
    replace(
        SPEC,
        name="scan_complex",
        dtypes=(torch.float64, torch.float32),
        cases=tuple(replace(case, complex_=True) for case in _CASES),
        small_cases=(
            Case(2, 9, 2, state=True, complex_=True),
            Case(1, 1, 1, complex_=True),
            Case(2, 15, 4, state=True, reverse=True, complex_=True),
            Case(3, 17, 5, reverse=True, complex_=True),
            Case(2, 31, 9, complex_=True),
        ),
        benchmarks=(Benchmark(Case(32, 256, 64, complex_=True), 30), Benchmark(Case(8, 1024, 128, complex_=True), 120)),
        variants=_complex_variants,
    )
)
