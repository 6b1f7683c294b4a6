r"""Diagonal linear recurrence, the scan under RG-LRU, minGRU, HGRN and their kin.

.. math:: h_t = a_t \cdot h_{t-1} + x_t

Its gradient is the same recurrence run the other way with the gates shifted by one step:

.. math:: g_t = \bar h_t + a_{t+1} g_{t+1}, \qquad \bar x_t = g_t, \quad \bar a_t = g_t h_{t-1}, \quad \bar h_0 = a_1 g_1

The chunked form is from "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models"
(2024, 2402.19427) and "Parallelizing Linear Recurrent Neural Nets Over Sequence Length" (2017, 1709.04057). Gates are never
divided and never taken through a logarithm, so that zeros, negative gates and long products that underflow are all exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from .dispatch import call
from .function import accumulate_dtype
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

Item = TypeVar("Item")
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
    result: Run = call(SPEC, a, x, h0, backend=backend, reverse=reverse)
    return result


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
class Core:
    """``forward(a, x, h0, reverse) -> h, last`` and ``backward(a, h0, h, dh, dlast, reverse, wants_a) -> da, dx, dh0``, no autograd."""

    forward: Callable[..., Run]
    backward: Callable[..., Gradients]


class _Scan(torch.autograd.Function):
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
    """Chunks of 16 or 32 steps run side by side, then the states between chunks are let in: about 3 sqrt(steps) tensor operations."""
    return reference(a, x, h0, reverse=reverse) if x.numel() == 0 else _Scan.apply(a, x, h0, reverse, _FAST)


def _fast_forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool) -> Run:
    dtype = accumulate_dtype(a, x, h0)
    gates, states = _time_major(a, dtype), _time_major(x, dtype)
    start = states.new_zeros(states.shape[1:]) if h0 is None else h0.to(dtype)
    _scan_in_place(gates, states, start, reverse)
    last = states[0 if reverse else -1].clone()
    return _batch_major(states, x.dtype, gates), last


def _fast_backward(a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool) -> Gradients:
    """The other direction over views that are one step apart, so that nothing is shifted in memory."""
    dtype = accumulate_dtype(a, h, h0)
    gates, g = _time_major(a, dtype), _time_major(dh, dtype)
    early, late = slice(None, -1), slice(1, None)
    first, final, before, after = (-1, 0, late, early) if reverse else (0, -1, early, late)
    if dlast is not None:
        g[final] += dlast
    dh0 = None if h0 is None else gates[first].clone()
    _scan_in_place(gates[after], g[before], g[final], not reverse)
    if dh0 is not None and h0 is not None:
        dh0 = (dh0 * g[first]).to(h0.dtype)
    dx = _batch_major(g, h.dtype, gates)
    if not wants_a:
        return None, dx, dh0
    da = _reused(g, a.shape, a.dtype)
    torch.mul(dx[:, after], h[:, before], out=da[:, after])
    torch.mul(dx[:, first], 0.0 if h0 is None else h0, out=da[:, first])
    return da, dx, dh0


_FAST = Core(_fast_forward, _fast_backward)


def _time_major(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, steps, width) as a new contiguous (steps, batch, width)."""
    batch, steps, width = tensor.shape
    return torch.empty((steps, batch, width), dtype=dtype, device=tensor.device).copy_(tensor.transpose(0, 1))


def _batch_major(tensor: Tensor, dtype: torch.dtype, spent: Tensor) -> Tensor:
    """(steps, batch, width) as a contiguous (batch, steps, width), in the memory of ``spent``."""
    steps, batch, width = tensor.shape
    return _reused(spent, (batch, steps, width), dtype).copy_(tensor.transpose(0, 1))


def _reused(spent: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in the memory of ``spent`` if the dtype allows: fresh pages cost more than the arithmetic."""
    return spent.view(shape) if spent.dtype == dtype else torch.empty(shape, dtype=dtype, device=spent.device)


def _scan_in_place(gates: Tensor, states: Tensor, start: Tensor, reverse: bool) -> None:
    """Turn inputs into ``states``, (steps, batch, width); ``gates`` are overwritten by running products."""
    steps = len(states)
    if steps <= 32:
        for gate, state in zip(_directed(gates.unbind(0), reverse), _directed(states.unbind(0), reverse), strict=True):
            start = state.addcmul_(gate, start)
        return
    chunk = 16 if steps <= 512 else 32
    _chunks_from_zero(gates, states, chunk, reverse)
    _let_in(gates, states, start, chunk, reverse)


def _chunks_from_zero(gates: Tensor, states: Tensor, chunk: int, reverse: bool) -> None:
    """Run every chunk from a zero state, all chunks at once; ``gates`` become their running products within each chunk.

    Step c of every chunk is the strided view ``[c::chunk]``; the last chunk may be short, so later views may be one shorter.
    """
    at = _directed([(gates[c::chunk], states[c::chunk]) for c in range(chunk)], reverse)
    for (gate_before, state_before), (gate, state) in pairwise(at):
        if len(state) != len(state_before):
            both = min(len(state), len(state_before))
            state, state_before, gate, gate_before = state[:both], state_before[:both], gate[:both], gate_before[:both]
        state.addcmul_(gate, state_before)
        gate.mul_(gate_before)


def _let_in(gates: Tensor, states: Tensor, start: Tensor, chunk: int, reverse: bool) -> None:
    """Carry the state from chunk to chunk, and add what enters each times the running product of its gates."""
    steps, batch, width = states.shape
    chunks, whole = -(-steps // chunk), steps // chunk
    entering = states.new_empty(chunks, batch, width)
    into = _directed(entering.unbind(0), reverse)
    exits = slice(chunk, None, chunk) if reverse else slice(chunk - 1, (chunks - 1) * chunk, chunk)
    into[0].copy_(start)
    gate_at, state_at = (_directed(tensor[exits].unbind(0), reverse) for tensor in (gates, states))
    for (before, after), gate, state in zip(pairwise(into), gate_at, state_at, strict=True):
        torch.addcmul(state, gate, before, out=after)
    body, tail = slice(None, whole * chunk), slice(whole * chunk, None)
    states[body].unflatten(0, (whole, chunk)).addcmul_(gates[body].unflatten(0, (whole, chunk)), entering[:whole, None])
    if whole < chunks:
        states[tail].addcmul_(gates[tail], entering[whole])


def _directed(items: Sequence[Item], reverse: bool) -> Sequence[Item]:
    return items[::-1] if reverse else items


# --- Triton ------------------------------------------------------------------------------------------------------------


def triton(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> Run:
    """One launch per direction; see :mod:`archwright.kernels.scan_triton`."""
    from . import scan_triton

    if x.numel() == 0:
        return reference(a, x, h0, reverse=reverse)
    return _Scan.apply(a, x, h0, reverse, scan_triton.CORE)


def supports(a: Tensor, x: Tensor, h0: Tensor | None = None, *, reverse: bool = False) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(a, kernel="scan")


def variants() -> list[Variant]:
    from . import scan_triton

    return scan_triton.variants()


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
