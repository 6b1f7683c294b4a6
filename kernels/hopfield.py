r"""Retrieval from a modern Hopfield network: attention that is iterated, with an inverse temperature of its own.

.. math:: \xi \leftarrow softmax(\beta \xi K^T) K \quad (steps - 1 \text{ times}), \qquad y = softmax(\beta \xi K^T) V

"Hopfield Networks is All You Need" (2020, 2008.02217). Each update is one call of PyTorch's scaled dot product attention, which has
fused kernels for CPUs and GPUs; a learned inverse temperature is folded into the query.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import call
from .spec import KERNELS, Benchmark, Inputs, KernelSpec


def hopfield(
    query: Tensor,
    stored: Tensor,
    values: Tensor | None,
    beta: float | Tensor,
    *,
    steps: int = 1,
    causal: bool = False,
    mask: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """What ``steps`` updates retrieve; the last reads ``values``.

    Args:
        query: states (batch, heads, states, width).
        stored: patterns (batch, heads, patterns, width).
        values: what is read at the end, (batch, heads, patterns, any width); None reads the patterns themselves.
        beta: inverse temperature: a number, or a tensor that is learned and broadcasts to (batch, heads, 1, 1) or has shape (heads).
        steps: how often the patterns are read, at least once; 1 is attention.
        causal: the states belong to the last of the patterns; each reads patterns up to its own.
        mask: True where a state may read, broadcast to (batch, heads, states, patterns); every state needs one pattern at least.
        backend: ``fast`` or ``reference``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        (batch, heads, states, width of the values), in the dtype of ``query``.

    Raises:
        ValueError: shapes or dtypes do not fit, or ``steps`` is below 1. BackendError: see dispatch.
    """
    if steps < 1:
        raise ValueError(f"hopfield reads the patterns at least once. Got steps={steps} instead.")
    values = stored if values is None else values
    shapes = " and ".join(str(tuple(tensor.shape)) for tensor in (query, stored, values))
    if any(tensor.dim() != 4 for tensor in (query, stored, values)) or query.shape[-1] != stored.shape[-1]:
        raise ValueError(f"hopfield needs query, stored and values of shape (batch, heads, count, width). Got {shapes}.")
    if stored.shape[:3] != values.shape[:3] or query.shape[:2] != stored.shape[:2]:
        raise ValueError(f"hopfield needs as many values as patterns, for the same batch and heads as the states. Got {shapes}.")
    if not query.is_floating_point() or not query.dtype == stored.dtype == values.dtype:
        raise ValueError(f"hopfield needs tensors of one real dtype. Got {query.dtype}, {stored.dtype} and {values.dtype}.")
    if causal and (mask is not None or query.shape[2] > stored.shape[2]):
        raise ValueError("hopfield with causal=True takes no mask, and no more states than patterns; put the order into the mask instead.")
    options = {"steps": steps, "causal": causal, "mask": mask}
    result: Tensor
    if isinstance(beta, Tensor):
        beta = beta[:, None, None] if beta.dim() == 1 else beta
        result = call(SPEC, query, stored, values, beta, backend=backend, scale=1.0, **options)
    else:
        result = call(SPEC, query, stored, values, None, backend=backend, scale=float(beta), **options)
    return result


def _order(states: int, patterns: int, device: torch.device) -> Tensor:
    return torch.ones(states, patterns, dtype=torch.bool, device=device).tril(patterns - states)


def reference(
    query: Tensor, stored: Tensor, values: Tensor, beta: Tensor | None, *, scale: float, steps: int, causal: bool, mask: Tensor | None
) -> Tensor:
    seen = _order(query.shape[2], stored.shape[2], query.device) if causal else mask
    state = query
    for step in range(steps):
        scores = (state if beta is None else state * beta) @ stored.transpose(-1, -2) * scale
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        state = scores.softmax(-1) @ (values if step == steps - 1 else stored)
    return state.to(query.dtype)


def fast(
    query: Tensor, stored: Tensor, values: Tensor, beta: Tensor | None, *, scale: float, steps: int, causal: bool, mask: Tensor | None
) -> Tensor:
    """One call of scaled dot product attention per step."""
    options: dict[str, Any] = {"scale": scale, "steps": steps, "causal": causal, "mask": mask}
    if query.numel() == 0 or stored.numel() == 0 or values.numel() == 0:
        return reference(query, stored, values, beta, **options)
    states, patterns = query.shape[2], stored.shape[2]
    ordered = causal and states > 1
    seen = _order(states, patterns, query.device) if ordered and states != patterns else mask
    kind = query.device.type
    cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if cast else nullcontext():
        state = query
        for step in range(steps):
            asked = state if beta is None else (state * beta).to(query.dtype)
            read = values if step == steps - 1 else stored
            state = F.scaled_dot_product_attention(asked, stored, read, attn_mask=seen, is_causal=ordered and seen is None, scale=scale)
    result: Tensor = _Twice.apply(options, state, query, stored, values, beta) if state.requires_grad else state
    return result


class _Twice(torch.autograd.Function):
    """Lets a gradient pass to ``state``, or, where a gradient of the gradient is wanted, takes it through the definition.

    PyTorch's attention kernels can be differentiated once.
    """

    @staticmethod
    def forward(options: dict[str, Any], state: Tensor, *args: Tensor | None) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.options, _, *args = inputs
        ctx.save_for_backward(*args)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        args = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return (None, cotangent, *(None for _ in args))
        wanted = [arg for arg, wants in zip(args, ctx.needs_input_grad[2:], strict=True) if wants]
        out = reference(*args, **ctx.options)
        found = iter(torch.autograd.grad(out, wanted, cotangent, create_graph=True, allow_unused=True))
        return (None, None, *(next(found) if wants else None for wants in ctx.needs_input_grad[2:]))


# PyTorch asks for the signature at every call, which takes longer than the call
_Twice.forward.__signature__ = signature(_Twice.forward)  # type: ignore[attr-defined]


def supports(*args: Tensor | None, **options: Any) -> str | None:
    return "PyTorch's own attention kernels serve it on every device."


@dataclass(frozen=True)
class Case:
    """``states`` and ``patterns`` of ``width`` per head; a learned beta per head unless ``scale`` fixes it."""

    batch: int
    heads: int
    states: int
    patterns: int
    width: int
    value_width: int = 0
    steps: int = 1
    causal: bool = False
    masked: bool = False
    scale: float | None = None

    def __str__(self) -> str:
        marks = "".join(f"-{name}" for name in ("causal", "masked") if getattr(self, name))
        beta = "" if self.scale is None else f"-beta{self.scale:g}"
        return f"{self.batch}x{self.heads}x{self.states}of{self.patterns}x{self.width}to{self._read}-steps{self.steps}{marks}{beta}"

    @property
    def _read(self) -> int:
        return self.value_width or self.width


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    first = (case.batch, case.heads)
    # patterns this short make every update a contraction; longer ones amplify rounding from step to step, in any formulation
    patterns = 0.5 * draw(*first, case.patterns, case.width)
    tensors = (draw(*first, case.states, case.width), patterns, draw(*first, case.patterns, case._read))
    beta = None if case.scale is not None else 0.3 + 0.5 * torch.rand(case.heads, 1, 1, generator=generator, dtype=torch.float64)
    mask = None
    if case.masked:
        mask = (torch.rand(case.states, case.patterns, generator=generator) < 0.5).to(device)
        mask[:, 0] = True
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (*tensors, beta))
    scale = 1.0 if case.scale is None else case.scale
    return Inputs(made, {"scale": scale, "steps": case.steps, "causal": case.causal, "mask": mask})


def _public(
    query: Tensor,
    stored: Tensor,
    values: Tensor,
    beta: Tensor | None,
    *,
    scale: float,
    steps: int,
    causal: bool,
    mask: Tensor | None,
    backend: str,
) -> Tensor:
    return hopfield(query, stored, values, scale if beta is None else beta, steps=steps, causal=causal, mask=mask, backend=backend)


_public.__name__, _public.__doc__ = hopfield.__name__, hopfield.__doc__


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Queries, patterns, values and result, once; backward reads them with the cotangent and writes three gradients."""
    moved = case.states * (case.width + case._read) + case.patterns * (case.width + case._read)
    return {"forward": 1, "backward": 2}[direction] * case.batch * case.heads * moved * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    pairs = case.batch * case.heads * case.states * case.patterns
    return {"forward": 2, "backward": 5}[direction] * pairs * (2 * case.width * (case.steps - 1) + case.width + case._read)


_CASES = (
    *(Case(2, 2, states, 7, 4, steps=steps, scale=0.5) for states in (1, 7, 9) for steps in (1, 2)),
    *(Case(2, 2, states, 7, 4, 5, steps=2, causal=True, scale=0.5) for states in (1, 3, 7)),
    Case(2, 3, 5, 8, 4, 3, steps=2, masked=True),
    *(Case(1, 2, 6, 6, 8, steps=2, causal=True, scale=scale) for scale in (0.5, 1.0)),
    Case(1, 1, 1, 1, 1),
    Case(1, 2, 17, 33, 16, steps=2, scale=0.25),
    *(Case(*size, 4) for size in ((0, 2, 3, 3), (2, 2, 0, 3))),
)
_SEARCH = Case(32, 4, 64, 64, 32, scale=32**-0.5)

SPEC = KERNELS.add(
    KernelSpec(
        name="hopfield",
        public=_public,
        reference=reference,
        fast=fast,
        triton=fast,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(Case(2, 2, 3, 5, 3, 2, steps=2), *_CASES),
        differentiable=("query", "stored", "values", "beta"),
        per_sample=("query", "stored", "values"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        benchmarks=(Benchmark(_SEARCH, 1.2), Benchmark(Case(32, 4, 64, 64, 32, steps=4, scale=32**-0.5), 0.9)),
        has_triton=False,
    )
)
