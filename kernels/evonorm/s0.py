r"""EvoNorm-S0, S1 and S2: a swish divided by the spread of its group of channels.

.. math:: y = \gamma\, N / s + \beta, \qquad N = x\, \sigma(v x), \quad s = \sqrt{\mathrm{var}(x) + \epsilon}

with the variance over the n entries of a sample's group. With :math:`\bar N = \bar y \gamma / s` and means :math:`\mu` of groups,

.. math:: \bar x = \bar N\, \sigma (1 + v x (1 - \sigma)) - \frac{x - \mu}{n s^2} \sum \bar N N, \quad
          \bar v = \sum \bar N x^2 \sigma (1 - \sigma), \quad \bar\gamma = \sum \bar y N / s, \quad \bar\beta = \sum \bar y
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

Given = tuple[Any, ...]


def evonorm_s0(
    x: Tensor,
    v: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    *,
    groups: int,
    eps: float = 1e-5,
    centred: bool = True,
    backend: str | None = None,
) -> Tensor:
    """``weight * x * sigmoid(v x) / sqrt(var + eps) + bias``, the variance over a group of channels of one sample.

    "Evolving Normalization-Activation Layers" (2020, 2004.02967): S0; with ``v=None`` S1; and with ``centred=False`` too S2.

    Args:
        x: (batch, channels, *spatial); tokens are (batch * steps, channels), so that nothing leaks through time.
        v: (channels,), the slope inside the sigmoid; None is 1.
        weight, bias: (channels,).
        groups: how many runs of neighbouring channels have statistics of their own; divides the channels.
        eps: added to the variance, above zero.
        centred: False takes the mean square in place of the variance.
        backend: ``fast``, ``reference``, ``triton`` or ``compile``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        The shape and dtype of ``x``; statistics in float32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes do not match, or eps is not positive. TypeError: a tensor is not floating point. BackendError: see dispatch.
    """
    check("evonorm_s0", x, eps, v=v, weight=weight, bias=bias)
    if groups < 1 or x.shape[1] % groups:
        raise ValueError(f"evonorm_s0 needs groups that divide the {x.shape[1]} channels. Got {groups} instead.")
    result: Tensor = call(SPEC, x, v, weight, bias, backend=backend, groups=groups, eps=float(eps), centred=centred)
    return result


def check(function: str, x: Tensor, eps: float, **per_channel: Tensor | None) -> None:
    """Refuse what neither EvoNorm can take."""
    for name, tensor in (("x", x), *per_channel.items()):
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of {function} must be floating point. Got {tensor.dtype} instead.')
    if x.dim() < 2:
        raise ValueError(f"{function} needs x of shape (batch, channels, *spatial). Got {tuple(x.shape)} instead.")
    for name, tensor in per_channel.items():
        if tensor is not None and tensor.shape != x.shape[1:2]:
            raise ValueError(f'{function} needs "{name}" of shape ({x.shape[1]},), one per channel. Got {tuple(tensor.shape)} instead.')
    if not eps > 0:
        raise ValueError(f"{function} needs eps above zero, so that constant inputs stay finite. Got {eps} instead.")


def over_channels(parameter: Tensor, x: Tensor) -> Tensor:
    """(channels,) in a shape that broadcasts along (batch, channels, *spatial)."""
    return parameter.view(-1, *(1 for _ in x.shape[2:]))


def reference(x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool) -> Tensor:
    """The equation as it is written, in the dtype of its inputs."""
    grouped = x.reshape(x.shape[0], groups, x[0].numel() // groups if x.shape[0] else 0)
    measured = grouped - grouped.mean(-1, keepdim=True) if centred else grouped
    scaled = x.reshape(grouped.shape) * torch.rsqrt(measured.square().mean(-1, keepdim=True) + eps)
    gate = torch.sigmoid(x if v is None else over_channels(v, x) * x)
    return (over_channels(weight, x) * (scaled.reshape(x.shape) * gate) + over_channels(bias, x)).to(x.dtype)


# --- fast: samples in blocks that stay in cache, closed-form gradients --------------------------------------------------------


def fast(x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool) -> Tensor:
    """Saves mean and 1 / s of every group. A compiler is given the definition, which it fuses itself."""
    options: dict[str, Any] = {"groups": groups, "eps": eps, "centred": centred}
    return reference(x, v, weight, bias, **options) if torch.compiler.is_compiling() else fused(_FAST, x, v, weight, bias, **options)[0]


def _forward(
    x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool
) -> tuple[Tensors, Optional]:
    """y; mean (batch, groups), None where not centred; 1 / s (batch, groups)."""
    dtype = accumulate_dtype(x, v, weight, bias)
    rows = x.contiguous().view(*x.shape[:2], -1)
    y = torch.empty_like(rows)
    gain, shift = (parameter.to(dtype)[:, None] for parameter in (weight, bias))
    slope, count = None if v is None else v.to(dtype)[:, None], rows[0].numel() // groups
    member = _member(rows, groups, dtype)
    inverse = torch.empty((x.shape[0], groups), dtype=dtype, device=x.device)
    mean = torch.empty_like(inverse) if centred else None
    work, result = buffers(rows, dtype, 2)
    for block in row_blocks(rows):
        at = rows[block].to(dtype)
        part, out = work[: len(at)], y[block] if y.dtype == dtype else result[: len(at)]
        if mean is None:
            torch.mul(at, at, out=part)
        else:
            mean[block] = _group_sums(at, member) / count
            torch.sub(_by_group(at, member), _spread(mean[block], at, member), out=_by_group(part, member)).square_()
        r = inverse[block].copy_(_group_sums(part, member)).div_(count).add_(eps).rsqrt_()
        _ = torch.sigmoid(at, out=part) if slope is None else torch.mul(at, slope, out=part).sigmoid_()
        torch.mul(part.mul_(at), (r @ member)[:, :, None] * gain, out=out).add_(shift)
        if y.dtype != dtype:
            y[block] = out
    return (y.view_as(x),), (mean, inverse)


def _backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, groups: int, eps: float, centred: bool
) -> Optional:
    x, v, weight, bias = args
    (mean, inverse), dtype = saved, saved[1].dtype
    rows = x.contiguous().view(*x.shape[:2], -1)
    dys, dx = cotangents[0].reshape(rows.shape), torch.empty_like(rows)
    slope, gain = None if v is None else v.to(dtype)[:, None], weight.to(dtype)[:, None]
    member, count = _member(rows, groups, dtype), rows[0].numel() // groups
    blocks = list(row_blocks(rows))
    sums = torch.empty((len(blocks), 3, rows.shape[1]), dtype=dtype, device=x.device)
    gates, weighted, result = buffers(rows, dtype, 3)
    for block, (dv, dweight, dbias) in zip(blocks, sums, strict=True):
        at, given, r = rows[block].to(dtype), dys[block].to(dtype), inverse[block]
        gate, part = gates[: len(at)], weighted[: len(at)]
        out = dx[block] if dx.dtype == dtype else result[: len(at)]
        spread = r @ member
        torch.sum(given, (0, 2), out=dbias)
        _ = torch.sigmoid(at, out=gate) if slope is None else torch.mul(at, slope, out=gate).sigmoid_()
        torch.mul(given, gate, out=part)
        torch.mul(part, at, out=out)
        swish = _over_positions(out) * spread
        torch.sum(swish, 0, out=dweight)
        pull = (swish * gain[:, 0]) @ member.t() * r**2 / -count
        out.mul_(gate.neg_().add_(1.0))  # dy x sigma (1 - sigma)
        _ = part.add_(out) if slope is None else part.addcmul_(out, slope)
        torch.sum(_over_positions(out.mul_(at)) * spread, 0, out=dv)
        into = _by_group(out, member)
        _ = out.copy_(at) if mean is None else torch.sub(_by_group(at, member), _spread(mean[block], at, member), out=into)
        into.mul_(_spread(pull, at, member))
        out.addcmul_(part, spread[:, :, None] * gain)
        if dx.dtype != dtype:
            dx[block] = out
    dv, dweight, dbias = sums.sum(0)
    return dx.view_as(x), None if v is None else (dv * weight).to(v.dtype), dweight.to(weight.dtype), dbias.to(bias.dtype)


_FAST = Core(_forward, _backward, reference)


def _member(rows: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """1 where a channel belongs to a group, (groups, channels): sums over short groups are several times faster as matrix products."""
    return torch.eye(groups, dtype=dtype, device=rows.device).repeat_interleave(rows.shape[1] // groups, 1)


def _over_positions(rows: Tensor) -> Tensor:
    return rows[:, :, 0] if rows.shape[2] == 1 else rows.sum(2)


def _group_sums(rows: Tensor, member: Tensor) -> Tensor:
    """(batch, channels, positions) to (batch, groups)."""
    return rows[:, :, 0] @ member.t() if rows.shape[2] == 1 else rows.view(len(rows), len(member), -1).sum(-1)


def _spread(statistic: Tensor, rows: Tensor, member: Tensor) -> Tensor:
    """(batch, groups) to what broadcasts along :func:`_by_group`."""
    return (statistic @ member if rows.shape[2] == 1 else statistic)[:, :, None]


def _by_group(rows: Tensor, member: Tensor) -> Tensor:
    """The shape that :func:`_spread` broadcasts along: (batch, channels, 1) as it is, others as (batch, groups, entries)."""
    return rows if rows.shape[2] == 1 else rows.view(len(rows), len(member), -1)


# --- Triton -------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.evonorm.s0_triton`."""
    from . import s0_triton

    return fused(s0_triton.CORE, x, v, weight, bias, groups=groups, eps=eps, centred=centred)[0]


def supports(x: Tensor, v: Tensor | None, weight: Tensor, bias: Tensor, *, groups: int, eps: float, centred: bool) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="evonorm_s0")


def variants() -> list[Variant]:
    from . import s0_triton

    return s0_triton.variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size and variant: s0, s1 (without v) or s2 (not centred either)."""

    shape: tuple[int, ...]
    groups: int
    variant: str = "s0"
    eps: float = 1e-5

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))}-{self.groups}groups-{self.variant}" + ("" if self.eps == 1e-5 else f"-eps{self.eps:g}")


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = 0.3 + torch.randn(case.shape, generator=generator, dtype=torch.float64)
    v, weight, bias = (torch.randn(case.shape[1], generator=generator, dtype=torch.float64) for _ in range(3))
    made = (x, v if case.variant == "s0" else None, weight, bias)
    tensors = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in made)
    return Inputs(tensors, {"groups": case.groups, "eps": case.eps, "centred": case.variant != "s2"})


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x and writes y; backward reads x, dy and writes dx."""
    return {"forward": 2, "backward": 3}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 12, "backward": 25}[direction] * _elements(case)


_SMALL = (
    Case((3, 4, 5), 2),
    Case((3, 4, 5), 2, "s1"),
    Case((3, 4, 5), 2, "s2"),
    Case((2, 3, 3, 4), 1),
    Case((9, 12), 3),
    Case((2, 10), 1, "s2"),
    Case((17, 6), 2, "s1"),
    Case((1, 2, 17), 2),
    Case((2, 4), 4, eps=1.0),  # one entry per group: centred, it is all eps
)
_CASES = (*_SMALL, Case((0, 4, 3), 2), Case((2, 4, 0), 2), Case((5, 64, 8, 8), 8), Case((300, 63), 7), Case((130, 64, 33), 32, "s2"))
_IMAGE = Case((32, 64, 16, 16), 8)

SPEC = KERNELS.add(
    KernelSpec(
        name="evonorm_s0",
        plain_below=lambda **_: 1 << 17,
        public=evonorm_s0,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("x", "v", "weight", "bias"),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(Benchmark(_IMAGE, 2), Benchmark(Case((8192, 64), 8), 1.5), Benchmark(Case((8192, 128), 8), 1.5)),
        variants=variants,
    )
)
