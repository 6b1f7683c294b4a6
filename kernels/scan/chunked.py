"""The scan in PyTorch: a chunk of steps for all chunks at once, about 3 sqrt(steps) tensor operations.

Complex tensors go through the same operations: PyTorch's complex ``addcmul_`` takes half the time of four real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from .differentiable import Core, Gradients, Run, state_dtype

Item = TypeVar("Item")


def forward(a: Tensor, x: Tensor, h0: Tensor | None, reverse: bool) -> Run:
    dtype = state_dtype(a, x, h0)
    gates, states = _time_major(a, dtype), _time_major(x, dtype)
    start = states.new_zeros(states.shape[1:]) if h0 is None else h0.to(dtype)
    _scan_in_place(gates, states, start, reverse)
    last = states[0 if reverse else -1].clone()
    return _batch_major(states, x.dtype, gates), last


def backward(a: Tensor, h0: Tensor | None, h: Tensor, dh: Tensor, dlast: Tensor | None, reverse: bool, wants_a: bool) -> Gradients:
    """The other direction over views that are one step apart, so that nothing is shifted in memory."""
    dtype = state_dtype(a, h, h0)
    gates, g = _time_major(a.conj(), dtype), _time_major(dh, dtype)
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
    # over the flattened steps, which is contiguous; the row that a sequence takes from its neighbour is written below
    flat, flat_g, flat_h = (tensor.view(-1, tensor.shape[-1]) for tensor in (da, dx, h.contiguous()))
    torch.mul(flat_g[after], flat_h[before].conj(), out=flat[after])
    da[:, first] = 0.0 if h0 is None else dx[:, first] * h0.conj()
    return da, dx, dh0


CORE = Core(forward, backward)


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
