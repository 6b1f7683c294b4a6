"""One autograd function for the scan, whatever runs it; its derivatives are scans again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..function import accumulate_dtype

Run = tuple[Tensor, Tensor]
Gradients = tuple[Tensor | None, Tensor, Tensor | None]


def state_dtype(*tensors: Tensor | None) -> torch.dtype:
    """What the state is computed in: float32 or float64, or the complex dtype of that width if any tensor is complex."""
    real = accumulate_dtype(*tensors)
    if not any(tensor is not None and tensor.is_complex() for tensor in tensors):
        return real
    return torch.complex128 if real == torch.float64 else torch.complex64


@dataclass(frozen=True)
class Core:
    """``forward(a, x, h0, reverse) -> h, last`` and ``backward(a, h0, h, dh, dlast, reverse, wants_a) -> da, dx, dh0``, no autograd."""

    forward: Callable[..., Run]
    backward: Callable[..., Gradients]


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool, core: Core) -> Run:
        return core.forward(a, x, h0, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Run) -> None:
        a, _, h0, ctx.reverse, ctx.core = inputs
        ctx.save_for_backward(a, h0, output[0])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        a, h0, h = ctx.saved_tensors
        if dh is None:
            dh = torch.zeros_like(h)
        if torch.is_grad_enabled():  # the graph of this backward is wanted: build it from differentiable scans

            def scan(*args: Any) -> Run:
                return Scan.apply(*args, ctx.core)

            da, dx, dh0 = backward_by_scan(scan, a, h0, h, dh, dlast, ctx.reverse)
        else:
            da, dx, dh0 = ctx.core.backward(a, h0, h, dh, dlast, ctx.reverse, ctx.needs_input_grad[0])
        return da, dx, dh0, None, None


def backward_by_scan(
    scan: Callable[..., Run], a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool = True
) -> Gradients:
    """The gradients through one scan in the other direction; ``dlast`` is its initial state, let in by a gate of one."""
    a, h, h0 = a.conj(), h.conj(), None if h0 is None else h0.conj()
    g, _ = scan(_shifted(a, torch.ones_like(a[:, :1]), not reverse), dh, dlast, not reverse)
    before = h.new_zeros(()).expand_as(h[:, :1]) if h0 is None else h0.to(h.dtype).unsqueeze(1)
    da = (g * _shifted(h, before, reverse)).to(a.dtype) if wants_a else None
    first = -1 if reverse else 0
    dh0 = None if h0 is None else (a[:, first] * g[:, first]).to(h0.dtype)
    return da, g, dh0


def _shifted(tensor: Tensor, entering: Tensor, towards_past: bool) -> Tensor:
    """``tensor`` moved one step along time; ``entering`` (batch, 1, width) fills the step left free."""
    return torch.cat([tensor[:, 1:], entering] if towards_past else [entering, tensor[:, :-1]], dim=1)
