r"""EvoNorm-B0: the input over the larger of the batch's spread and a shifted spread of its own instance.

.. math:: y = \gamma\, x / d + \beta, \qquad d = \max(s_b, v x + s_i), \quad
          s_b = \sqrt{\mathrm{var}_{batch, space}(x) + \epsilon}, \; s_i = \sqrt{\mathrm{var}_{space}(x) + \epsilon}

The gradient of d goes to whichever is larger, to :math:`s_b` where they tie. That of a variance over n entries reaches each of them
as :math:`2 (x - \mu) / n`, so that both together are one straight line in x per sample and channel.
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
from .s0 import check, over_channels

Given = tuple[Any, ...]


def evonorm_b0(
    x: Tensor,
    v: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_var: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """``weight * x / max(sqrt(batch var + eps), v x + sqrt(instance var + eps)) + bias``, and the new running variance.

    "Evolving Normalization-Activation Layers" (2020, 2004.02967).

    Args:
        x: (batch, channels, *spatial).
        v, weight, bias: (channels,).
        running_var: (channels,); stands for the batch's variance where not ``training``. It is never written to.
        training: take the variance of this batch, and move the running variance towards it (times n / (n - 1)) by ``momentum``.
        eps: added to the variances, above zero.
        backend: ``fast``, ``reference``, ``triton`` or ``compile``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        y: the shape and dtype of ``x``.
        running_var: the new one, (channels,), to be stored by the caller; without ``training`` the values given. Detach it.

    Raises:
        ValueError: shapes do not match, eps is not positive, or one value per channel in training. TypeError: a tensor is not
        floating point. BackendError: see dispatch.
    """
    check("evonorm_b0", x, eps, v=v, weight=weight, bias=bias, running_var=running_var)
    if training and x.numel() == x.shape[1]:
        raise ValueError(f"evonorm_b0 needs more than one value per channel in training. Got x of shape {tuple(x.shape)}.")
    options: dict[str, Any] = {"training": training, "momentum": float(momentum), "eps": float(eps)}
    result: tuple[Tensor, Tensor] = call(SPEC, x, v, weight, bias, running_var, backend=backend, **options)
    return result


def reference(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """The equation as it is written, in the dtype of its inputs."""
    if x.numel() == 0:
        return x * over_channels(weight + v + bias, x), running_var.clone()
    rows = x.flatten(2) if x.dim() > 2 else x[:, :, None]
    batch, own = rows.var((0, 2), correction=0) if training else running_var, rows.var(2, correction=0, keepdim=True)
    instance = v[:, None] * rows + (own + eps).sqrt()
    spread = (batch + eps).sqrt()[:, None].expand_as(instance)
    y = weight[:, None] * (rows / torch.where(instance > spread, instance, spread)) + bias[:, None]
    return y.reshape(x.shape).to(x.dtype), _moved(running_var, batch, rows, momentum) if training else running_var.clone()


def _moved(running_var: Tensor, batch: Tensor, rows: Tensor, momentum: float) -> Tensor:
    return ((1 - momentum) * running_var + momentum * unbiased(rows) * batch).to(running_var.dtype)


def unbiased(rows: Tensor) -> float:
    """n / (n - 1) for the n entries of a channel in (batch, channels, positions)."""
    count = rows.shape[0] * rows.shape[2]
    return count / (count - 1)


# --- between the passes over x: quantities per sample and channel, for the fast path and for Triton --------------------------


def batch_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel, from those of every sample, (batch, channels)."""
    centre = mean.mean(0)
    return centre, (var + (mean - centre).square()).mean(0)


def forward_between(
    rows: Tensor, mean: Tensor, var: Tensor, running_var: Tensor, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The batch's spread (channels,), the instances' (batch, channels), and the new running variance."""
    batch = batch_moments(mean, var)[1] if training else running_var.to(mean.dtype)
    new = _moved(running_var.to(mean.dtype), batch, rows, momentum).to(running_var.dtype) if training else running_var.clone()
    return (batch + eps).sqrt(), (var + eps).sqrt(), new


def backward_between(
    sums: Tensor,
    rows: Tensor,
    mean: Tensor,
    var: Tensor,
    spread: Tensor,
    drunning: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradients of the instances' spread and the batch's, ``sums`` (5, batch, channels): the line in x, and drunning_var.

    Returns:
        slope, offset: (batch, channels), so that ``slope (x - mean) + offset`` is the variances' share of dx.
    """
    slope = sums[0] / ((var + eps).sqrt() * rows.shape[2])
    dbatch = sums[1].sum(0) / (2 * spread)
    given = torch.zeros_like(spread) if drunning is None else drunning.to(spread.dtype)
    if not training:
        return slope, torch.zeros_like(slope), dbatch + given
    share = 2 * (dbatch + momentum * unbiased(rows) * given) / (rows.shape[0] * rows.shape[2])
    return slope + share, (mean - mean.mean(0)) * share, (1 - momentum) * given


# --- fast -------------------------------------------------------------------------------------------------------------------


def fast(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """Samples in blocks that stay in cache. A compiler is given the definition, which it fuses itself."""
    options: dict[str, Any] = {"training": training, "momentum": momentum, "eps": eps}
    if torch.compiler.is_compiling():
        return reference(x, v, weight, bias, running_var, **options)
    return fused(_FAST, x, v, weight, bias, running_var, outputs=2, **options)


def _forward(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(x, v, weight, bias, running_var)
    rows = x.reshape(*x.shape[:2], -1)
    mean, var = torch.empty((2, *rows.shape[:2], 1), dtype=dtype, device=x.device)
    work, result = buffers(rows, dtype, 2)
    for block in row_blocks(rows):
        at = rows[block].to(dtype)
        torch.mean(at, -1, keepdim=True, out=mean[block])
        torch.mean(torch.sub(at, mean[block], out=work[: len(at)]).square_(), -1, keepdim=True, out=var[block])
    mean, var = mean[..., 0], var[..., 0]
    spread, own, new = forward_between(rows, mean, var, running_var, training, momentum, eps)
    slope, gain, shift, wide = (t.to(dtype)[:, None] for t in (v, weight, bias, spread))
    y = torch.empty_like(rows)
    for block in row_blocks(rows):
        at = rows[block].to(dtype)
        below, out = work[: len(at)], y[block] if y.dtype == dtype else result[: len(at)]
        torch.maximum(torch.mul(at, slope, out=below).add_(own[block, :, None]), wide, out=below)
        torch.div(at, below, out=out).mul_(gain).add_(shift)
        if y.dtype != dtype:
            y[block] = out
    return (y.view_as(x), new), (mean, var, spread)


def _backward(
    args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, training: bool, momentum: float, eps: float
) -> Optional:
    x, v, weight, bias, running_var = args
    (mean, var, spread), (dy, drunning) = saved, cotangents
    dtype, rows = mean.dtype, x.reshape(*x.shape[:2], -1)
    dys = rows.new_zeros(()).expand_as(rows) if dy is None else dy.reshape(rows.shape)
    slope, gain, wide = (t.to(dtype)[:, None] for t in (v, weight, spread))
    own = (var + eps).sqrt()[:, :, None]
    dx = torch.empty(rows.shape, dtype=dtype, device=x.device)
    sums = torch.empty((5, *rows.shape[:2]), dtype=dtype, device=x.device)
    below, scaled, pull = buffers(rows, dtype, 3)
    for block in row_blocks(rows):
        at, given, out = rows[block].to(dtype), dys[block].to(dtype), dx[block]
        d, z, p = below[: len(at)], scaled[: len(at)], pull[: len(at)]
        into = sums[:, block]
        torch.mul(at, slope, out=d).add_(own[block])
        instance = d > wide
        torch.maximum(d, wide, out=d)
        torch.div(at, d, out=z)
        torch.sum(given, -1, out=into[4])
        torch.sum(torch.mul(given, z, out=p), -1, out=into[3])
        torch.div(torch.mul(given, gain, out=out), d, out=out)
        torch.mul(out, z, out=p).neg_()  # the gradient of d
        total = p.sum(-1)
        p.mul_(instance)
        torch.sum(p, -1, out=into[0])
        torch.sub(total, into[0], out=into[1])
        out.addcmul_(p, slope)
        torch.sum(p.mul_(at), -1, out=into[2])
    line, offset, drunning_var = backward_between(sums, rows, mean, var, spread, drunning, training, momentum, eps)
    for block in row_blocks(rows):
        at, p = rows[block].to(dtype), pull[: len(rows[block])]
        dx[block] += torch.sub(at, mean[block, :, None], out=p).mul_(line[block, :, None]).add_(offset[block, :, None])
    per_channel = (total.sum(0).to(like.dtype) for total, like in zip(sums[2:], (v, weight, bias), strict=True))
    return dx.view_as(x).to(x.dtype), *per_channel, drunning_var.to(running_var.dtype)


_FAST = Core(_forward, _backward, reference)


# --- Triton -------------------------------------------------------------------------------------------------------------


def triton(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """Two launches per direction, the batch's sums between them; see :mod:`archwright.kernels.evonorm.b0_triton`."""
    from . import b0_triton

    options: dict[str, Any] = {"training": training, "momentum": momentum, "eps": eps}
    return fused(b0_triton.CORE, x, v, weight, bias, running_var, outputs=2, **options)


def supports(
    x: Tensor, v: Tensor, weight: Tensor, bias: Tensor, running_var: Tensor, *, training: bool, momentum: float, eps: float
) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(x, kernel="evonorm_b0")


def variants() -> list[Variant]:
    from . import b0_triton

    return b0_triton.variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size, in training or not."""

    shape: tuple[int, ...]
    training: bool = True
    momentum: float = 0.1

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))}-{'training' if self.training else 'eval'}-momentum{self.momentum:g}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = 0.3 + torch.randn(case.shape, generator=generator, dtype=torch.float64)
    v, weight, bias, running = (torch.randn(case.shape[1], generator=generator, dtype=torch.float64) for _ in range(4))
    tensors = tuple(t.to(device=device, dtype=dtype) for t in (x, v, weight, bias, 0.5 + running.abs()))
    return Inputs(tensors, {"training": case.training, "momentum": case.momentum, "eps": 1e-5})


def _elements(case: Case) -> int:
    return torch.Size(case.shape).numel()


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x twice and writes y; backward reads x and dy twice and writes dx."""
    return {"forward": 3, "backward": 5}[direction] * _elements(case) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 10, "backward": 25}[direction] * _elements(case)


_SMALL = (
    Case((3, 4, 7)),
    Case((3, 4, 7), False),
    Case((2, 3, 3, 4), momentum=0.5),
    Case((1, 2, 17)),
    Case((2, 10, 3), False),
)
_CASES = (*_SMALL, Case((0, 4, 3)), Case((2, 4, 0), False), Case((5, 64, 8, 8)), Case((31, 33, 65)), Case((40, 9, 2), False))

SPEC = KERNELS.add(
    KernelSpec(
        name="evonorm_b0",
        public=evonorm_b0,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("x", "v", "weight", "bias", "running_var"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(Benchmark(Case((32, 64, 16, 16)), 2),),
        variants=variants,
    )
)
