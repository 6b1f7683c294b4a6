r"""Diagonal linear recurrence, the scan under RG-LRU, minGRU, HGRN and their kin.

.. math:: h_t = a_t \cdot h_{t-1} + x_t

Its gradient is the same recurrence run the other way with the gates shifted by one step:

.. math:: g_t = \bar h_t + a_{t+1} g_{t+1}, \qquad \bar x_t = g_t, \quad \bar a_t = g_t h_{t-1}, \quad \bar h_0 = a_1 g_1

The chunked form is from "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models"
(2024, 2402.19427) and "Parallelizing Linear Recurrent Neural Nets Over Sequence Length" (2017, 1709.04057). Gates are never
divided and never taken through a logarithm, so that zeros, negative gates and long products that underflow are all exact.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .dispatch import choose
from .spec import KERNELS, Inputs, KernelSpec

Run = tuple[Tensor, Tensor]
Gradients = tuple[Tensor | None, Tensor, Tensor | None]


def linear_scan(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False, backend: str | None = None) -> Run:
    """All states of ``h_t = a_t * h_{t-1} + x_t``, and the last one.

    Args:
        a: gates, real, (batch, steps, width). Any sign and zero are exact; up to 32 successive gates are multiplied, so their
            product must stay finite (gates of magnitude up to 15 in float32).
        x: inputs, real, (batch, steps, width).
        h0: the state before the first step, (batch, width); None is zero.
        reverse: run from the last step to the first: ``h_t = a_t * h_{t+1} + x_t``.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        h: (batch, steps, width) in the dtype of ``x``.
        last: the final state, (batch, width), in float32 (float64 for float64 inputs); feed it as ``h0`` to go on.

    Gradients flow to ``a``, ``x`` and ``h0`` from both results, any number of times.

    Raises:
        ValueError: shapes do not match. TypeError: a tensor is not real floating point. BackendError: see dispatch.
    """
    _check(a, x, h0)
    return SPEC.implementation(choose(SPEC, a, x, h0, backend=backend).backend)(a, x, h0, reverse=reverse)


def _check(a: Tensor, x: Tensor, h0: Tensor | None) -> None:
    for name, tensor in (("a", a), ("x", x), ("h0", h0)):
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of linear_scan must be real floating point. Got {tensor.dtype} instead.')
    if x.dim() != 3 or a.shape != x.shape:
        raise ValueError(f"linear_scan needs a and x of one shape (batch, steps, width). Got {tuple(a.shape)} and {tuple(x.shape)}.")
    if h0 is not None and h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"linear_scan needs h0 of shape {(x.shape[0], x.shape[2])}, (batch, width). Got {tuple(h0.shape)} instead.")
    devices = {tensor.device for tensor in (a, x, h0) if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"linear_scan needs a, x and h0 on one device. Got {sorted(map(str, devices))}.")


def accumulate_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if any tensor is, else float32: what states and gates are computed in."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32


# --- reference: the definition ---------------------------------------------------------------------------------------


def reference(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """The recurrence as it is written, one step at a time, in the dtype of its inputs."""
    steps = x.shape[1]
    h = x.new_zeros(x.shape[0], x.shape[2]) if h0 is None else h0
    states: dict[int, Tensor] = {}
    for t in reversed(range(steps)) if reverse else range(steps):
        h = states[t] = a[:, t] * h + x[:, t]
    stacked = torch.stack([states[t] for t in range(steps)], dim=1) if steps else a * x
    return stacked.to(x.dtype), h.to(accumulate_dtype(a, x, h0))


# --- one autograd function for the fast path and for Triton -----------------------------------------------------------


@dataclass(frozen=True)
class _Core:
    """``forward(a, x, h0, reverse) -> h, last`` and ``backward(a, h0, h, dh, dlast, reverse, wants_a) -> da, dx, dh0``, no autograd."""

    forward: Callable[..., Run]
    backward: Callable[..., Gradients]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool, core: _Core) -> Run:
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
                return _Scan.apply(*args, ctx.core)

            da, dx, dh0 = backward_by_scan(scan, a, h0, h, dh, dlast, ctx.reverse)
        else:
            da, dx, dh0 = ctx.core.backward(a, h0, h, dh, dlast, ctx.reverse, ctx.needs_input_grad[0])
        return da, dx, dh0, None, None


def backward_by_scan(
    scan: Callable[..., Run], a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool = True
) -> Gradients:
    """The gradients through one scan in the other direction; ``dlast`` is its initial state, let in by a gate of one."""
    g, _ = scan(_shifted(a, torch.ones_like(a[:, :1]), not reverse), dh, dlast, not reverse)
    before = h.new_zeros(()).expand_as(h[:, :1]) if h0 is None else h0.to(h.dtype).unsqueeze(1)
    da = (g * _shifted(h, before, reverse)).to(a.dtype) if wants_a else None
    first = -1 if reverse else 0
    dh0 = None if h0 is None else (a[:, first] * g[:, first]).to(h0.dtype)
    return da, g, dh0


def _shifted(tensor: Tensor, entering: Tensor, towards_past: bool) -> Tensor:
    """``tensor`` moved one step along time; ``entering`` (batch, 1, width) fills the step left free."""
    return torch.cat([tensor[:, 1:], entering] if towards_past else [entering, tensor[:, :-1]], dim=1)


# --- fast: PyTorch, a chunk of steps for all chunks at once -----------------------------------------------------------


def fast(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """Chunks of 16 or 32 steps run side by side, then the states between chunks are added: about 3 sqrt(steps) tensor operations."""
    return reference(a, x, h0, reverse=reverse) if x.numel() == 0 else _Scan.apply(a, x, h0, reverse, _FAST)


def _fast_forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool) -> Run:
    batch, steps, width = x.shape
    dtype = accumulate_dtype(a, x, h0)
    chunk = steps if steps <= 32 else 16 if steps <= 512 else 32
    gates, states = _chunked(a, chunk, 1.0, dtype), _chunked(x, chunk, 0.0, dtype)
    start = states.new_zeros(batch, width) if h0 is None else h0.to(dtype)
    _scan_chunks(gates, states, start, reverse)
    h = states.permute(2, 1, 0, 3).reshape(batch, -1, width)[:, :steps]
    last = h[:, 0 if reverse else -1]
    return h.to(x.dtype).contiguous(), last.clone()


def _chunked(tensor: Tensor, chunk: int, fill: float, dtype: torch.dtype) -> Tensor:
    """(batch, steps, width) as a new (chunk, chunks, batch, width), the last chunk filled up with ``fill``."""
    batch, steps, width = tensor.shape
    whole, rest = divmod(steps, chunk)
    buffer = torch.empty((chunk, whole + (rest > 0), batch, width), dtype=dtype, device=tensor.device)
    target = buffer.permute(2, 1, 0, 3)
    target[:, :whole].copy_(tensor[:, : whole * chunk].unflatten(1, (whole, chunk)))
    if rest:
        target[:, whole, :rest].copy_(tensor[:, whole * chunk :])
        target[:, whole, rest:].fill_(fill)
    return buffer


def _scan_chunks(gates: Tensor, states: Tensor, start: Tensor, reverse: bool) -> None:
    """Overwrite ``states`` by the recurrence's; ``gates`` by their running products within each chunk. Both (chunk, chunks, B, D)."""
    direction = -1 if reverse else 1
    gate_at, state_at = gates.unbind(0)[::direction], states.unbind(0)[::direction]
    for (gate_before, state_before), (gate, state) in pairwise(zip(gate_at, state_at, strict=True)):
        state.addcmul_(gate, state_before)
        gate.mul_(gate_before)
    entering = torch.empty_like(state_at[-1])
    carry = start
    for into, gate, state in zip(*(t.unbind(0)[::direction] for t in (entering, gate_at[-1], state_at[-1])), strict=True):
        into.copy_(carry)
        carry = torch.addcmul(state, gate, carry)
    states.addcmul_(gates, entering)


def _fast_backward(
    a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool
) -> Gradients:
    return backward_by_scan(_fast_forward, a, h0, h, dh, dlast, reverse, wants_a)


_FAST = _Core(_fast_forward, _fast_backward)


# --- Triton ------------------------------------------------------------------------------------------------------------


def triton(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """One launch per direction; see :mod:`archwright.kernels.scan_triton`."""
    from . import scan_triton

    if x.numel() == 0:
        return reference(a, x, h0, reverse=reverse)
    return _Scan.apply(a, x, h0, reverse, _Core(scan_triton.forward, scan_triton.backward))


def supports(a: Tensor, x: Tensor, h0: Tensor | None = None) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed."
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {x.device.type} and Triton needs CUDA (or TRITON_INTERPRET=1)."
    return None


# --- spec --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size of the scan; ``gates`` are drawn from [low, high]."""

    batch: int
    steps: int
    width: int
    state: bool = False
    reverse: bool = False
    low: float = 0.3
    high: float = 1.0

    def __str__(self) -> str:
        marks = ("-state" if self.state else "") + ("-reverse" if self.reverse else "")
        gates = "" if (self.low, self.high) == (0.3, 1.0) else f"-gates{self.low:g}to{self.high:g}"
        return f"{self.batch}x{self.steps}x{self.width}{marks}{gates}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    shape = (case.batch, case.steps, case.width)
    a = case.low + (case.high - case.low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    h0 = torch.randn((case.batch, case.width), generator=generator, dtype=torch.float64) if case.state else None
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (a, x, h0))
    return Inputs(made, {"reverse": case.reverse})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads a, x and writes h; backward reads dh, a, h and writes da, dx."""
    return {"forward": 3, "backward": 5}[direction] * case.batch * case.steps * case.width * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 2, "backward": 3}[direction] * case.batch * case.steps * case.width


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
        differentiable=("a", "x", "h0"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
    )
)
