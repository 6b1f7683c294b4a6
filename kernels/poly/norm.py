r"""PolyNorm: a sum of powers, each divided by its own root mean square over the last axis.

.. math:: y = \sum_p w_p n_p + b, \qquad n_p = x^p / \sqrt{\mathrm{mean}(x^{2p}) + \epsilon}

With :math:`r_p = 1 / \sqrt{\mathrm{mean}(x^{2p}) + \epsilon}` and means over the last axis, the gradients are

.. math:: \bar x = \sum_p p\, w_p r_p x^{p-1} (\bar y - n_p\, \mathrm{mean}(\bar y n_p)), \quad
          \bar w_p = \sum \bar y n_p, \quad \bar b = \sum \bar y

A row whose powers could overflow is divided by its largest magnitude m first, and eps of power p by m^{2p}, which changes nothing
but the range of the numbers in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compiling import for_each_part, in_parts
from ..dispatch import call
from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..known_bad import refusal
from ..rows import buffers, row_blocks
from ..spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

WIDEST = 8192
HIGHEST = 8

Given = tuple[Any, ...]


def poly_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-6, backend: str | None = None) -> Tensor:
    """``sum_p w_p x^p / rms(x^p) + b`` for p = 1, 2, ..., with ``rms(v) = sqrt(mean(v^2) + eps)`` over the last axis.

    "Polynomial Composition Activations: Unleashing the Dynamics of Large Language Models" (2024, 2411.03884), which uses p = 1, 2, 3.

    Args:
        x: (..., width). Entries of any size: no power overflows.
        weight: (order,), one scalar per power; the paper has three, up to 8 are served.
        bias: a scalar, shape (); None is zero.
        eps: added to each mean square, above zero.
        backend: ``fast``, ``reference``, ``triton`` or ``compile``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        (..., width) in the dtype of ``x``; sums are taken in float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes do not match or eps is not positive. TypeError: a tensor is not floating point. BackendError: see dispatch.
    """
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of poly_norm must be floating point. Got {tensor.dtype} instead.')
    if x.dim() == 0:
        raise ValueError("poly_norm needs x of shape (..., width). Got a scalar instead.")
    if weight.dim() != 1 or not 1 <= len(weight) <= HIGHEST:
        raise ValueError(f"poly_norm needs one weight per power, 1 to {HIGHEST} of them. Got weight of shape {tuple(weight.shape)}.")
    if bias is not None and bias.dim() != 0:
        raise ValueError(f"poly_norm needs a scalar bias of shape (). Got {tuple(bias.shape)} instead.")
    if not eps > 0:
        raise ValueError(f"poly_norm needs eps above zero, so that a row of zeros stays finite. Got {eps} instead.")
    result: Tensor = call(SPEC, x, weight, bias, backend=backend, eps=float(eps))
    return result


def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """The sum as it is written; powers beyond the range of the dtype overflow."""
    y, power = x.new_zeros(()), x
    for index, w in enumerate(weight.unbind()):
        power = power * x if index else power
        y = y + w * (power * torch.rsqrt(power.square().mean(-1, keepdim=True) + eps))
    return (y if bias is None else y + bias).to(x.dtype)


def compilable(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """The definition with sums over the rows in parts."""
    rows = in_parts(x)
    shift = None if bias is None else for_each_part(bias[None], len(rows))
    return reference(rows, for_each_part(weight[:, None], len(rows)), shift, eps=eps).view(x.shape)


# --- fast: blocks of rows in cache, powers recomputed in the backward pass -------------------------------------------------


def fast(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """Closed-form gradients; saves one number per row and power. A compiler is given the definition, which it fuses itself."""
    if torch.compiler.is_compiling():
        return reference(x, weight, bias, eps=eps)
    return fused(_FAST, x, weight, bias, eps=eps)[0]


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, *, eps: float) -> tuple[Tensors, Optional]:
    """y; and 1 / rms of every power, (order, rows, 1), with the divisor of each row, (rows, 1), where there is one."""
    dtype = accumulate_dtype(x, weight, bias)
    rows, w = x.reshape(-1, x.shape[-1]), weight.to(dtype)
    count, width = rows.shape
    y = torch.empty_like(rows)
    inverse = torch.empty((len(w), count, 1), dtype=dtype, device=x.device)
    divisor = _divisor(rows, len(w), dtype)
    result, *work = buffers(rows, dtype, len(w))
    for block in row_blocks(rows):
        powers = _powers(rows[block], dtype, divisor, block, work)
        squares, out = inverse[:, block], y[block] if y.dtype == dtype else result[: len(powers[0])]
        for order, (power, square) in enumerate(zip(powers, squares, strict=True)):
            squared = powers[1] if order == 0 and len(powers) > 1 else torch.mul(power, power, out=out)
            torch.sum(squared, -1, keepdim=True, out=square)  # on a CPU mean takes twice as long as sum
        squares.div_(width).add_(eps if divisor is None else eps / divisor[block] ** _even(w)).rsqrt_()
        factors = squares * w[:, None, None]
        torch.mul(powers[0], factors[0], out=out)
        for power, factor in zip(powers[1:], factors[1:], strict=True):
            out.addcmul_(power, factor)
        if bias is not None:
            out.add_(bias.to(dtype))
        if y.dtype != dtype:
            y[block] = out
    return (y.view_as(x),), (inverse, divisor)


def _backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, eps: float
) -> tuple[Tensor | None, ...]:
    x, weight, bias = args
    (inverse, divisor), (dy,) = saved, cotangents
    dtype = inverse.dtype
    rows, dys, w = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1]), weight.to(dtype)
    count, width = rows.shape
    dx, along = torch.empty_like(rows), torch.empty_like(inverse)
    result, partial, *work = buffers(rows, dtype, len(w) + 1)
    orders = torch.arange(1, len(w) + 1, dtype=dtype, device=x.device)
    for block in row_blocks(rows):
        powers = _powers(rows[block], dtype, divisor, block, work)
        given, sums, r = dys[block].to(dtype), along[:, block], inverse[:, block]
        part = partial[: len(given)]
        out = dx[block] if dx.dtype == dtype else result[: len(given)]
        for power, total in zip(powers, sums, strict=True):
            torch.sum(torch.mul(given, power, out=part), -1, keepdim=True, out=total)
        sums.mul_(r)
        factors, pulls = r * (w * orders)[:, None, None], sums * r / -width
        torch.mul(powers[0], pulls[0], out=part).add_(given)
        torch.mul(part, factors[0], out=out)
        for before, power, factor, pull in zip(powers, powers[1:], factors[1:], pulls[1:], strict=False):
            torch.mul(power, pull, out=part).add_(given).mul_(before)
            out.addcmul_(part, factor)
        if divisor is not None:
            out.div_(divisor[block])
        if dx.dtype != dtype:
            dx[block] = out
    dbias = None if bias is None else dys.sum(dtype=dtype).to(bias.dtype)
    return dx.view_as(x), along.sum((1, 2), dtype=torch.float64).to(weight.dtype), dbias


_FAST = Core(_forward, _backward, reference)


def _even(w: Tensor) -> Tensor:
    """2, 4, 6, ... as (order, 1, 1)."""
    return 2.0 * torch.arange(1, len(w) + 1, dtype=w.dtype, device=w.device)[:, None, None]


def largest_plain(dtype: torch.dtype, order: int) -> float:
    """The largest magnitude whose power 2 order, summed over any row, stays in range: half the exponents are left for the sum."""
    return float(torch.finfo(dtype).max ** (0.25 / order))


def _divisor(rows: Tensor, order: int, dtype: torch.dtype) -> Tensor | None:
    """The largest magnitude of each row that could overflow and 1 for the others, (rows, 1); None where (on a CPU) all are safe."""
    bound = largest_plain(dtype, order)
    if rows.device.type == "cpu":
        low, high = torch.aminmax(rows)
        if -low <= bound and high <= bound:
            return None
    largest = rows.abs().amax(-1, keepdim=True).to(dtype)
    return torch.where(largest <= bound, torch.ones_like(largest), largest)


def _powers(block: Tensor, dtype: torch.dtype, divisor: Tensor | None, where: slice, work: list[Tensor]) -> list[Tensor]:
    """x, x^2, ... of one block, each row divided first; the powers above the first lie in ``work``."""
    x = block.to(dtype) if divisor is None else block / divisor[where]
    powers = [x]
    for buffer in work:
        powers.append(torch.mul(powers[-1], x, out=buffer[: len(x)]))
    return powers


# --- Triton -------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> Tensor:
    """Whole rows at once, one launch per direction; see :mod:`archwright.kernels.poly.triton_`."""
    from . import triton_

    return fused(triton_.NORM, x, weight, bias, eps=eps)[0]


def supports(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    if x.shape[-1] > WIDEST:
        return f"the last axis has {x.shape[-1]} elements and a program holds a whole row of up to {WIDEST}."
    return refusal(x, kernel="poly_norm")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.norm_variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One shape; x is drawn from N(0, scale^2)."""

    shape: tuple[int, ...]
    order: int = 3
    bias: bool = True
    scale: float = 1.0
    eps: float = 1e-6

    def __str__(self) -> str:
        marks = "" if self.bias else "-nobias"
        marks += "" if self.scale == 1 else f"-by{self.scale:g}"
        marks += "" if self.eps == 1e-6 else f"-eps{self.eps:g}"
        return f"{'x'.join(map(str, self.shape))}-order{self.order}{marks}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = case.scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
    weight = 1 / case.order + 0.5 * torch.randn(case.order, generator=generator, dtype=torch.float64)
    bias = torch.randn((), generator=generator, dtype=torch.float64) if case.bias else None
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (x, weight, bias))
    return Inputs(made, {"eps": case.eps})


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x and writes y; backward reads x, dy and writes dx."""
    return {"forward": 2, "backward": 3}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 5, "backward": 10}[direction] * case.order * _elements(case)


_SMALL = (
    Case((2, 9, 5)),
    Case((1, 1), eps=0.1),  # rows of one: with a small eps the gradient is what is left of two equal terms
    Case((3, 2), bias=False),
    Case((7,)),
    Case((2, 3, 15), order=1),
    Case((9, 15), order=2),
    Case((2, 17), order=4, bias=False),
    Case((3, 33), eps=0.1),
    Case((3, 8), scale=0.0),
    Case((3, 8), scale=0.03),
    Case((3, 8), scale=1e4),
)
_CASES = (
    *_SMALL,
    *(Case((3, width)) for width in (2, 7, 63, 64, 65, 1000, 4096)),
    Case((0, 5)),
    Case((2, 0)),
    Case((33, 8200), order=8),
)
_SEARCH = (Case((32, 256, 64)), Case((8, 1024, 128)))

SPEC = KERNELS.add(
    KernelSpec(
        name="poly_norm",
        public=poly_norm,
        reference=reference,
        fast=fast,
        compilable=compilable,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("x", "weight", "bias"),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(*(Benchmark(case, 3) for case in _SEARCH), *(Benchmark(case, 5, backend="compile") for case in _SEARCH)),
        variants=variants,
    )
)
