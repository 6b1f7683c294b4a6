r"""Hyper-connections: reading a branch's input from n copies of the stream, and writing its output back while the copies mix.

.. math:: x = \sum_i \alpha_i H_i, \qquad H'_j = \sum_i M_{ij} H_i + \beta_j y

"Hyper-Connections" (2024, 2409.19606). Coefficients are fixed or differ from position to position. Backward, written out:
:math:`\bar H_i = \alpha_i \bar x`, :math:`\bar\alpha_i = \langle H_i, \bar x \rangle`, and for the write
:math:`\bar H_i = \sum_j M_{ij} \bar H'_j`, :math:`\bar y = \sum_j \beta_j \bar H'_j`, :math:`\bar\beta_j = \langle \bar H'_j, y \rangle`,
:math:`\bar M_{ij} = \langle H_i, \bar H'_j \rangle`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .dispatch import call
from .function import Core, Optional, Tensors, accumulate_dtype, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

MOST_STREAMS = 8


def hyper_read(streams: Tensor, alpha: Tensor, *, backend: str | None = None) -> Tensor:
    """The mixture ``sum_i alpha_i H_i`` that a branch reads.

    Args:
        streams: H, (..., n, width).
        alpha: (..., n), or (n,) for all positions.

    Returns:
        (..., width) in the dtype of ``streams``.

    Raises:
        ValueError: shapes do not match. BackendError: see dispatch.

    Paper: Hyper-Connections (2024, 2409.19606).
    """
    _check("hyper_read", streams, {"alpha": (alpha, 1)})
    result: Tensor = call(READ, streams, alpha, backend=backend)
    return result


def hyper_write(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor, *, backend: str | None = None) -> Tensor:
    """The copies after a branch, ``H_j <- sum_i mix[i, j] H_i + beta_j y``.

    Args:
        streams: H, (..., n, width).
        y: the branch's output, (..., width).
        beta: (..., n), or (n,) for all positions.
        mix: (..., n, n), or (n, n) for all positions. The identity with beta = 1 is the plain residual connection.

    Returns:
        (..., n, width) in the dtype of ``streams``.

    Raises:
        ValueError: shapes do not match. BackendError: see dispatch.

    Paper: Hyper-Connections (2024, 2409.19606).
    """
    _check("hyper_write", streams, {"beta": (beta, 1), "mix": (mix, 2)})
    if y.shape != streams.shape[:-2] + streams.shape[-1:]:
        raise ValueError(f"hyper_write needs y of shape {tuple(streams.shape[:-2] + streams.shape[-1:])}. Got {tuple(y.shape)} instead.")
    result: Tensor = call(WRITE, streams, y, beta, mix, backend=backend)
    return result


def _check(name: str, streams: Tensor, coefficients: dict[str, tuple[Tensor, int]]) -> None:
    if streams.dim() < 2:
        raise ValueError(f"{name} needs streams of shape (..., n, width). Got {tuple(streams.shape)} instead.")
    n = streams.shape[-2]
    for argument, (tensor, axes) in coefficients.items():
        fixed, moving = (n,) * axes, tuple(streams.shape[:-2]) + (n,) * axes
        if tuple(tensor.shape) not in (fixed, moving):
            raise ValueError(
                f'The argument "{argument}" of {name} must have the shape {fixed} or {moving}. Got {tuple(tensor.shape)} instead.'
            )


# --- reference ----------------------------------------------------------------------------------------------------------


def read_reference(streams: Tensor, alpha: Tensor) -> Tensor:
    return (alpha.unsqueeze(-1) * streams).sum(-2).to(streams.dtype)


def write_reference(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> Tensor:
    mixed = (mix.unsqueeze(-1) * streams.unsqueeze(-2)).sum(-3)
    return (mixed + beta.unsqueeze(-1) * y.unsqueeze(-2)).to(streams.dtype)


def write_by_matmul(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> Tensor:
    """The write as matrix products under autograd, to compare with."""
    return mix.transpose(-1, -2) @ streams + beta.unsqueeze(-1) * y.unsqueeze(-2)


# --- fast: small products batched over the positions ---------------------------------------------------------------------


def rows(streams: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(..., n, width) as (positions, n, width)."""
    return streams.reshape(-1, *streams.shape[-2:]).to(dtype or streams.dtype)


def spread(coefficient: Tensor, positions: int, axes: int, dtype: torch.dtype) -> Tensor:
    """A coefficient with ``axes`` axes of its own at every position, as a view where it is fixed."""
    own = coefficient.shape[coefficient.dim() - axes :]
    return coefficient.to(dtype).reshape(-1, *own).expand(positions, *own)


def gathered(gradient: Tensor, coefficient: Tensor, axes: int) -> Tensor:
    """The gradient by position in the coefficient's own shape."""
    summed = gradient.sum(0) if coefficient.dim() == axes else gradient
    return summed.reshape(coefficient.shape).to(coefficient.dtype)


def _read_forward(streams: Tensor, alpha: Tensor) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(streams, alpha)
    copies = rows(streams, dtype)
    weights = spread(alpha, len(copies), 1, dtype)
    if copies.shape[1] > 4:
        x = torch.bmm(weights.unsqueeze(1), copies).squeeze(1)
    else:
        x = copies[:, 0] * weights[:, :1]
        for i in range(1, copies.shape[1]):
            x.addcmul_(copies[:, i], weights[:, i : i + 1])
    return (x.to(streams.dtype).view(streams.shape[:-2] + streams.shape[-1:]),), ()


def _read_backward(args: Tensors, outputs: Tensors, saved: Optional, cotangents: Tensors, wanted: tuple[bool, ...]) -> Optional:
    streams, alpha = args
    (dx,) = cotangents
    dtype = accumulate_dtype(streams, alpha)
    copies, dx = rows(streams, dtype), dx.reshape(-1, 1, dx.shape[-1]).to(dtype)
    d_streams = d_alpha = None
    if wanted[0]:
        weights = spread(alpha, len(copies), 1, dtype)
        d_streams = (weights.unsqueeze(-1) * dx).to(streams.dtype).view(streams.shape)
    if wanted[1]:
        d_alpha = gathered(torch.bmm(copies, dx.transpose(1, 2)).squeeze(-1), alpha, 1)
    return d_streams, d_alpha


def _add_mixed(out: Tensor | None, matrices: Tensor, copies: Tensor) -> Tensor:
    """Add ``matrices @ copies`` at every position; for two copies, multiply-adds are faster than batched products."""
    if copies.shape[1] > 2:
        return torch.bmm(matrices, copies) if out is None else out.baddbmm_(matrices, copies)
    out = torch.zeros_like(copies) if out is None else out
    for i in range(copies.shape[1]):
        out.addcmul_(matrices[:, :, i : i + 1], copies[:, i : i + 1])
    return out


def _write_forward(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(streams, y, beta, mix)
    copies = rows(streams, dtype)
    given = y.reshape(-1, 1, y.shape[-1]).to(dtype)
    out = spread(beta, len(copies), 1, dtype).unsqueeze(-1) * given
    _add_mixed(out, spread(mix, len(copies), 2, dtype).transpose(1, 2), copies)
    return (out.to(streams.dtype).view(streams.shape),), ()


def _write_backward(args: Tensors, outputs: Tensors, saved: Optional, cotangents: Tensors, wanted: tuple[bool, ...]) -> Optional:
    streams, y, beta, mix = args
    (d_out,) = cotangents
    dtype = accumulate_dtype(streams, y, beta, mix)
    copies, d_rows = rows(streams, dtype), rows(d_out, dtype)
    found: list[Tensor | None] = [None] * 4
    if wanted[0]:
        d_copies = _add_mixed(None, spread(mix, len(copies), 2, dtype), d_rows)
        found[0] = d_copies.to(streams.dtype).view(streams.shape)
    if wanted[1]:
        (given,), _ = _read_forward(d_rows, beta if beta.dim() == 1 else beta.reshape(-1, beta.shape[-1]))
        found[1] = given.to(y.dtype).view(y.shape)
    if wanted[2]:
        found[2] = gathered(torch.bmm(d_rows, y.reshape(len(copies), -1, 1).to(dtype)).squeeze(-1), beta, 1)
    if wanted[3]:
        found[3] = gathered(torch.bmm(copies, d_rows.transpose(1, 2)), mix, 2)
    return tuple(found)


READ_CORE = Core(_read_forward, _read_backward, read_reference)
WRITE_CORE = Core(_write_forward, _write_backward, write_reference)


def read_fast(streams: Tensor, alpha: Tensor) -> Tensor:
    """One multiply-add per copy (a batched product from five copies on)."""
    return fused(READ_CORE, streams, alpha)[0]


def write_fast(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> Tensor:
    """One batched product added onto ``beta y``."""
    return fused(WRITE_CORE, streams, y, beta, mix)[0]


# --- Triton --------------------------------------------------------------------------------------------------------------


def read_triton(streams: Tensor, alpha: Tensor) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.hyper_connection_triton`."""
    from . import hyper_connection_triton

    return fused(hyper_connection_triton.READ_CORE, streams, alpha)[0]


def write_triton(streams: Tensor, y: Tensor, beta: Tensor, mix: Tensor) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.hyper_connection_triton`."""
    from . import hyper_connection_triton

    return fused(hyper_connection_triton.WRITE_CORE, streams, y, beta, mix)[0]


def _supports(streams: Tensor, *others: Tensor, **options: Any) -> str | None:
    if streams.shape[-2] > MOST_STREAMS:
        return f"there are {streams.shape[-2]} copies of the stream and the kernel holds at most {MOST_STREAMS}."
    return refusal(streams, kernel="hyper_connection")


def _variants(direction: str) -> Callable[[], list[Variant]]:
    def make() -> list[Variant]:
        from . import hyper_connection_triton

        return hyper_connection_triton.variants(direction)

    return make


# --- specs ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Positions (any number of axes), copies and width; ``fixed`` coefficients are the same at every position."""

    positions: tuple[int, ...]
    streams: int
    width: int
    fixed: bool = False

    def __str__(self) -> str:
        return "x".join(map(str, (*self.positions, self.streams, self.width))) + ("-fixed" if self.fixed else "")

    @property
    def count(self) -> int:
        return int(torch.Size(self.positions).numel())


def _drawer(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Callable[..., Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)

    return normal


def _read_inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    normal, n = _drawer(case, dtype, device, generator), case.streams
    own = () if case.fixed else case.positions
    return Inputs((normal(*case.positions, n, case.width), normal(*own, n)))


def _write_inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    normal, n = _drawer(case, dtype, device, generator), case.streams
    own = () if case.fixed else case.positions
    streams, y = normal(*case.positions, n, case.width), normal(*case.positions, case.width)
    return Inputs((streams, y, normal(*own, n), normal(*own, n, n)))


def _bytes(forward: Callable[[int], int], backward: Callable[[int], int]) -> Callable[[Case, torch.dtype, str], int]:
    def count(case: Case, dtype: torch.dtype, direction: str) -> int:
        tensors = (forward if direction == "forward" else backward)(case.streams)
        return tensors * case.count * case.width * dtype.itemsize

    return count


def _flops(forward: Callable[[int], int]) -> Callable[[Case, str], int]:
    return lambda case, direction: (1 if direction == "forward" else 2) * forward(case.streams) * case.count * case.width


_CASES = (
    Case((2, 3), 4, 5),
    Case((2, 3), 4, 5, fixed=True),
    Case((), 2, 3),
    Case((5,), 1, 1),
    Case((2, 7), 3, 33),
    Case((4,), 8, 17),
    Case((4,), 5, 64, fixed=True),
    Case((3,), 9, 4),
    Case((0, 2), 4, 5),
    Case((2, 2), 4, 0),
)
_SMALL = (
    Case((2, 5), 3, 9),
    Case((2, 5), 3, 9, fixed=True),
    Case((), 2, 3),
    Case((3,), 1, 1),
    Case((9,), 4, 5),
    Case((2,), 8, 10),
    Case((2,), 5, 3, fixed=True),
)
_SIZES = (Case((32, 256), 4, 64), Case((8, 1024), 4, 128))

READ = KERNELS.add(
    KernelSpec(
        name="hyper_read",
        plain_below=lambda **_: 1 << 20,
        public=hyper_read,
        reference=read_reference,
        fast=read_fast,
        triton=read_triton,
        inputs=_read_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("streams", "alpha"),
        per_sample=("streams", "alpha"),
        bytes=_bytes(lambda n: n + 1, lambda n: 2 * n + 1),
        flops=_flops(lambda n: 2 * n),
        supports=_supports,
        benchmarks=tuple(Benchmark(size, 1.0) for size in _SIZES),
        variants=_variants("read"),
    )
)
WRITE = KERNELS.add(
    KernelSpec(
        name="hyper_write",
        plain_below=lambda **_: 1 << 16,
        public=hyper_write,
        reference=write_reference,
        fast=write_fast,
        triton=write_triton,
        inputs=_write_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("streams", "y", "beta", "mix"),
        per_sample=("streams", "y", "beta", "mix"),
        bytes=_bytes(lambda n: 2 * n + 1, lambda n: 3 * n + 2),
        flops=_flops(lambda n: 2 * n * n + 2 * n),
        supports=_supports,
        peers={"matmul": write_by_matmul},
        benchmarks=tuple(Benchmark(size, target, against) for target, against in ((4.0, "reference"), (1.0, "matmul")) for size in _SIZES),
        variants=_variants("write"),
    )
)
