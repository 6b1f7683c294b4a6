r"""Sparse softmax: entmax for any order alpha in (1, 2], exact zeros included; sparsemax is alpha = 2, softmax the limit alpha = 1.

.. math:: p_i = [(\alpha - 1) x_i - \tau]_+^{1 / (\alpha - 1)}, \qquad \sum_i p_i = 1

"From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label Classification" (2016, 1602.02068), "Sparse
Sequence-to-Sequence Models" (2019, 1905.05702), learned alpha: "Adaptively Sparse Transformers" (2019, 1909.00015).

With u = [1 + (alpha - 1)(x - max x) + delta]_+ and q = 1/(alpha - 1), the threshold is the root of ``norm_q(u) = 1``. That norm is
convex in delta, so Newton's method from delta = 0 falls to the root without ever passing it, and needs no bracket and no sort:

.. math:: \delta \leftarrow \delta - (S - S^{2 - \alpha}) / T, \qquad S = \sum u^q, \quad T = \sum u^{q-1}

The norm is nearly linear where the sum S is steep: 3 to 8 steps (12 for thousands of nearly equal entries), and one step near
softmax. The gradient is ``dx = g (dy - <g, dy> / sum g)`` with ``g = p^(2 - alpha)`` on the support; only p is kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .dispatch import call
from .function import Core, Optional, Tensors, accumulate_dtype, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

LEAST_ALPHA = 1.0001
WIDEST = 2048
MOST_STEPS = 40
_BLOCK = 1 << 16


def entmax(x: Tensor, alpha: float | Tensor = 1.5, *, backend: str | None = None) -> Tensor:
    """alpha-entmax over the last axis.

    Args:
        x: scores (..., width), real. Minus infinity masks an entry; a row that is masked throughout gives zeros.
        alpha: from 1.0001 (softmax to 1e-3) to 2 (sparsemax); values outside are moved there. A number, or a tensor that is learned,
            of the shape of ``x`` with the last axis 1, or one that broadcasts to it.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        p: as ``x``; every row is a distribution with exact zeros.

    Raises:
        ValueError: ``x`` has no axis, or alpha has another shape or is no number. TypeError: a tensor is not real floating point.
        BackendError: see dispatch.
    """
    if not x.is_floating_point():
        raise TypeError(f'The argument "x" of entmax must be real floating point. Got {x.dtype} instead.')
    if x.dim() == 0:
        raise ValueError("entmax works along the last axis of x. Got a tensor without axes.")
    rows = (*x.shape[:-1], 1)
    result: Tensor
    if isinstance(alpha, Tensor):
        if not alpha.is_floating_point():
            raise TypeError(f'The argument "alpha" of entmax must be real floating point. Got {alpha.dtype} instead.')
        if alpha.dim() > len(rows) or any(a not in (1, r) for a, r in zip(reversed(alpha.shape), reversed(rows), strict=False)):
            raise ValueError(f"entmax needs an alpha that broadcasts to {rows}. Got the shape {tuple(alpha.shape)} instead.")
        order = alpha.to(accumulate_dtype(x, alpha)).clamp(LEAST_ALPHA, 2.0)
        result = call(SPEC, x, order, backend=backend, order=None)
    else:
        if alpha != alpha:
            raise ValueError("entmax needs a number for alpha. Got NaN instead.")
        result = call(SPEC, x, None, backend=backend, order=min(max(float(alpha), LEAST_ALPHA), 2.0))
    return result


def sparsemax(x: Tensor, *, backend: str | None = None) -> Tensor:
    """The Euclidean projection of every row of ``x`` (..., width) on the probability simplex: :func:`entmax` with alpha = 2."""
    return entmax(x, 2.0, backend=backend)


# --- reference: the definition ---------------------------------------------------------------------------------------


def _power(base: Tensor, exponent: Tensor | float) -> Tensor:
    """``base ** exponent`` for ``base = 1 + w`` given as w, zero where the base is not positive."""
    positive = ~(base <= -1)
    return torch.where(positive, torch.exp(exponent * torch.log1p(torch.where(positive, base, 0.0))), 0.0)


def _started(x: Tensor) -> Tensor:
    """x without its largest entry in the row, and without the NaN of minus infinity taken from itself."""
    if x.shape[-1] == 0:
        return x
    top = x.detach().amax(-1, keepdim=True)
    return x - top.masked_fill(top == -torch.inf, 0.0)


def reference(x: Tensor, alpha: Tensor | None, *, order: float | None) -> Tensor:
    """The threshold by bisection, then two steps of Newton's method, which make it twice differentiable."""
    power: Tensor | float = alpha - 1 if alpha is not None else float(order or 0.0) - 1
    z, q = power * _started(x), 1 / power
    with torch.no_grad():
        low, high = torch.full_like(z[..., :1], -1.0), torch.zeros_like(z[..., :1])
        for _ in range(60):
            middle = (low + high) / 2
            above = _power(z + middle, q).sum(-1, keepdim=True) >= 1
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    delta = high
    for _ in range(2):
        slope = q * _power(z + delta, q - 1).sum(-1, keepdim=True)
        excess = _power(z + delta, q).sum(-1, keepdim=True) - 1
        delta = delta - torch.where(slope == 0, 0.0, excess / torch.where(slope == 0, 1.0, slope))
    p = _power(z + delta, q)
    total = p.sum(-1, keepdim=True)
    return (p / torch.where(total == 0, 1.0, total)).to(x.dtype)


def by_sorting(x: Tensor, alpha: Tensor | None, *, order: float | None) -> Tensor:
    """alpha = 1.5 and 2 exactly, from sorted rows through autograd; other orders by the definition."""
    if order not in (1.5, 2.0):
        return reference(x, alpha, order=order)
    z = (order - 1) * _started(x)
    ordered = z.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype, device=x.device)
    mean = ordered.cumsum(-1) / count
    if order == 2.0:
        thresholds = mean - 1 / count
    else:
        spread = ordered.square().cumsum(-1) / count - mean.square()
        thresholds = mean - (1 / count - spread).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    size = (thresholds <= ordered).sum(-1, keepdim=True)
    u = (z - thresholds.gather(-1, size - 1)).clamp_min(0)
    return u if order == 2.0 else u.square()


# --- fast: PyTorch, a block of rows at a time --------------------------------------------------------------------------


def fast(x: Tensor, alpha: Tensor | None, *, order: float | None) -> Tensor:
    """Newton's method on blocks of rows that stay in the cache; the backward pass in closed form."""
    return fused(_FAST, x, alpha, order=order)[0]


def _forward(x: Tensor, alpha: Tensor | None, *, order: float | None) -> tuple[Tensors, Optional]:
    dtype = accumulate_dtype(x, alpha)
    rows = x.reshape(-1, x.shape[-1])
    powers = per_row(alpha, x, dtype) - 1 if alpha is not None else None
    p = torch.empty_like(rows)
    for block in _blocks(rows):
        z = _started(rows[block].to(dtype))
        if powers is None and order in (1.5, 2.0):
            solved = _newton_sparsemax(z) if order == 2.0 else _newton_entmax15(z.mul_(0.5))
        else:
            power = powers[block] if powers is not None else torch.full((), float(order or 0.0) - 1, dtype=dtype, device=x.device)
            solved = _newton(z.mul_(power), power)
        total = solved.sum(-1, keepdim=True)
        torch.div(solved, total.masked_fill_(total == 0, 1.0), out=solved)
        p[block] = solved
    return (p.view(x.shape),), ()


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Blocks of rows small enough for a CPU's cache; elsewhere all rows at once."""
    count = len(rows)
    size = max(1, _BLOCK // rows.shape[1]) if rows.device.type == "cpu" else count
    for start in range(0, count, size):
        yield slice(start, start + size)


def per_row(alpha: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """alpha for every row, (rows, 1)."""
    return alpha.to(dtype).expand(*x.shape[:-1], 1).reshape(-1, 1)


def _fallen(solve: Callable[[Tensor], tuple[Tensor, Tensor]], delta: Tensor, power: Tensor | float) -> Tensor:
    """Newton's method from ``delta`` on: ``solve`` gives u^q and the step down, and a row rests once its step is lost in rounding.

    What a row becomes does not depend on the others. A CPU stops when all rest; a GPU, which is not to wait for the host, takes a
    fixed number of steps.
    """
    eps, waits = 2 * torch.finfo(delta.dtype).eps, delta.device.type == "cpu"
    for _ in range(MOST_STEPS if waits else MOST_STEPS // 2):
        p, step = solve(delta)
        step.masked_fill_(~(step > eps * (power - delta)), 0.0)
        if waits and not step.any():
            return p
        delta.sub_(step)
    return solve(delta)[0]


def _newton_entmax15(z: Tensor) -> Tensor:
    """u^2 for alpha = 1.5; ``z`` is (x - max) / 2."""
    u, p = torch.empty_like(z), torch.empty_like(z)

    def solve(delta: Tensor) -> tuple[Tensor, Tensor]:
        torch.add(z, 1 + delta, out=u).clamp_min_(0)
        steepness = u.sum(-1, keepdim=True)
        length = torch.mul(u, u, out=p).sum(-1, keepdim=True).sqrt_()
        return p, (length - 1).mul_(length).div_(steepness.masked_fill_(steepness == 0, 1.0))

    return _fallen(solve, z.new_zeros(len(z), 1), 0.5)


def _newton_sparsemax(z: Tensor) -> Tensor:
    """u for alpha = 2: the support shrinks until the mean of what is left fits; ``z`` is x - max."""
    u, inside = torch.empty_like(z), torch.empty_like(z)

    def solve(delta: Tensor) -> tuple[Tensor, Tensor]:
        torch.add(z, 1 + delta, out=u).clamp_min_(0)
        size = torch.sign(u, out=inside).sum(-1, keepdim=True)
        return u, (u.sum(-1, keepdim=True) - 1).div_(size.clamp_min_(1))

    return _fallen(solve, z.new_zeros(len(z), 1), 1.0)


def _newton(z: Tensor, power: Tensor) -> Tensor:
    """u^q for any alpha, ``power`` is alpha - 1 for all rows or (rows, 1); through log1p, since near softmax u is near one."""
    w, p, lower = torch.empty_like(z), torch.empty_like(z), torch.empty_like(z)
    least = torch.finfo(z.dtype).tiny

    def solve(delta: Tensor) -> tuple[Tensor, Tensor]:
        torch.add(z, delta, out=w).clamp_min_(-1)
        total = torch.log1p(w, out=p).div_(power).exp_().sum(-1, keepdim=True)
        steepness = torch.div(p, w.add_(1).clamp_min_(least), out=lower).sum(-1, keepdim=True)
        step = -torch.expm1(-power * total.log()).mul_(total).div_(steepness)
        return p, step.masked_fill_(total == 0, 0.0)

    return _fallen(solve, z.new_zeros(len(z), 1), power)


def _backward(args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, order: float | None) -> Optional:
    """dx = g (dy - <g, dy> / sum g) with g = p^(2 - alpha); with u = p^(alpha - 1), dalpha = <dx, u - 1 - u log u> / (alpha - 1)^2."""
    (x, alpha), (p,), (dy,) = args, outputs, cotangents
    dtype = accumulate_dtype(x, alpha)
    width = x.shape[-1]
    p, dy = p.reshape(-1, width), dy.reshape(-1, width)
    powers = per_row(alpha, x, dtype) - 1 if alpha is not None else None
    dx = torch.empty((len(p), width), dtype=x.dtype, device=x.device) if wanted[0] else None
    dorder = torch.empty((len(p), 1), dtype=dtype, device=x.device) if wanted[1] and alpha is not None else None
    for block in _blocks(p):
        kept, cotangent = p[block].to(dtype), dy[block].to(dtype)
        g = _slope(kept, float(order or 0.0)) if powers is None else torch.where(kept == 0, 0.0, kept.pow(1 - powers[block]))
        total = g.sum(-1, keepdim=True)
        weighted = g * cotangent
        mean = weighted.sum(-1, keepdim=True).div_(total.masked_fill_(total == 0, 1.0))
        d = weighted.addcmul_(g, mean, value=-1)
        if dx is not None:
            dx[block] = d
        if dorder is not None and powers is not None:
            power = powers[block]
            logarithm = kept.log().mul_(power).masked_fill_(kept == 0, 0.0)
            curve = torch.expm1(logarithm).sub_(logarithm.exp().mul_(logarithm))
            dorder[block] = curve.mul_(d).sum(-1, keepdim=True).div_(power.square())
    dalpha = None if dorder is None else dorder.view(*x.shape[:-1], 1).sum_to_size(alpha.shape).to(alpha.dtype)
    return None if dx is None else dx.view(x.shape), dalpha


def _slope(p: Tensor, order: float) -> Tensor:
    """p^(2 - alpha) on the support."""
    if order == 1.5:
        return p.sqrt()
    return (p > 0).to(p.dtype) if order == 2.0 else p.pow(2 - order)


_FAST = Core(_forward, _backward, reference, keeps_outputs=True)


# --- Triton ------------------------------------------------------------------------------------------------------------


def triton(x: Tensor, alpha: Tensor | None, *, order: float | None) -> Tensor:
    """One launch per direction; see :mod:`archwright.kernels.entmax_triton`."""
    from .entmax_triton import backward, forward

    return fused(Core(forward, backward, reference, keeps_outputs=True), x, alpha, order=order)[0]


def supports(x: Tensor, alpha: Tensor | None, **options: Any) -> str | None:
    if x.shape[-1] > WIDEST:
        return f"a row of {x.shape[-1]} elements does not fit into the registers of one program; {WIDEST} do."
    return refusal(x, kernel="entmax")


def variants() -> list[Variant]:
    from . import entmax_triton

    return entmax_triton.variants()


# --- spec --------------------------------------------------------------------------------------------------------------


def _public(x: Tensor, alpha: Tensor | None, *, order: float | None, backend: str) -> Tensor:
    return entmax(x, alpha if order is None else order, backend=backend)  # type: ignore[arg-type]


_public.__name__, _public.__doc__ = entmax.__name__, entmax.__doc__


@dataclass(frozen=True)
class Case:
    """``rows`` of ``width``; ``order`` None learns one alpha per row; ``masked`` sets that many entries of each row to minus infinity."""

    rows: int
    width: int
    order: float | None = 1.5
    scale: float = 1.0
    masked: int = 0

    def __str__(self) -> str:
        order = "learned" if self.order is None else f"{self.order:g}"
        marks = ("" if self.scale == 1 else f"-scale{self.scale:g}") + (f"-masked{self.masked}" if self.masked else "")
        return f"{self.rows}x{self.width}-alpha{order}{marks}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    x = case.scale * torch.randn(case.rows, case.width, generator=generator, dtype=torch.float64)
    x[:, case.width - case.masked :] = -torch.inf
    alpha = None if case.order is not None else 1.2 + 0.6 * torch.rand(case.rows, 1, generator=generator, dtype=torch.float64)
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (x, alpha))
    return Inputs(made, {"order": case.order})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    return {"forward": 2, "backward": 3}[direction] * case.rows * case.width * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 60, "backward": 8}[direction] * case.rows * case.width


_CASES = (
    *(Case(5, width, order) for width in (1, 2, 7, 8, 9, 31, 33, 130) for order in (1.5, 2.0, 1.3, None)),
    *(Case(4, 20, order, masked=9) for order in (1.5, 2.0, 1.7, None)),
    *(Case(3, 6, order, masked=6) for order in (1.5, 2.0, 1.7)),
    # the gradient of alpha is ill-conditioned for nearly equal scores, where alpha hardly matters: no learned alpha at 0.01
    *(Case(4, 20, order, scale) for order in (1.5, 2.0, 1.2, None) for scale in (0.01, 30.0) if order or scale > 1),
    *(Case(rows, width, order) for rows, width in ((0, 5), (5, 0)) for order in (1.5, None)),
)
_LARGE = Case(16384, 256)

SPEC = KERNELS.add(
    KernelSpec(
        name="entmax",
        public=_public,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(Case(13, 7, None), *(case for case in _CASES if case.width in (1, 6, 9, 20))),
        differentiable=("x", "alpha"),
        per_sample=("x",),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        min_work=1 << 16,
        peers={"sort": by_sorting},
        benchmarks=(
            Benchmark(_LARGE, 2, against="sort"),
            Benchmark(_LARGE, 2),
            Benchmark(replace(_LARGE, order=2.0), 1, against="sort"),
            Benchmark(replace(_LARGE, order=1.25), 2),
        ),
        variants=variants,
    )
)
