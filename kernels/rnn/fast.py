"""The recurrence on a CPU: few operations per step, in buffers that stay in the cache; the rest for a chunk of steps at once.

The forward pass leaves the activated gates behind. The backward pass turns them, a chunk at a time, into the factors by which the
gradient of each gate follows from that of the state. Its loop over the steps multiplies by them and by the recurrent weights; the
gradient of those weights is one matrix product per chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from .cells import CELLS
from .chunk import Chunk
from .reference import Run, reference, start


def fast(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None = None, state: Tensor | None = None, *, cell: str, reverse: bool = False
) -> Run:
    h, last = fused(CORE, gates, recurrent, bias, state, outputs=2, cell=cell, reverse=reverse)
    return h, last


def forward(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None, state: Tensor | None, *, cell: str, reverse: bool
) -> tuple[Tensors, Optional]:
    """``h`` and the final states; saved are the activated gates, what else the cell wants kept, and all its states but ``h``."""
    rule, dtype = CELLS[cell], accumulate_dtype(gates, recurrent, bias, state)
    chunk = Chunk(gates, dtype, reverse)
    raw, extra = chunk.buffer(gates.shape[2]), [chunk.buffer() for _ in range(rule.extra)]
    states = [chunk.states() for _ in range(rule.states)]
    kept = [chunk.for_all_steps(gates.shape[2]), *(chunk.for_all_steps() for _ in extra)]
    kept_states = [chunk.for_all_steps(more=1) for _ in range(rule.kept)]
    before = start(cell, gates.to(dtype)) if state is None else state.to(dtype).unbind(0)
    matrix = recurrent.to(dtype).roll(rule.roll, 0).permute(1, 3, 0, 2).flatten(2)
    offset = None if bias is None else bias.to(dtype).roll(rule.roll, 0).transpose(0, 1)[:, None, None]
    h = torch.empty((*gates.shape[:2], *gates.shape[3:]), dtype=gates.dtype, device=gates.device)
    entering, leaving = gates.permute(3, 1, 0, 2, 4), h.permute(2, 1, 0, 3)
    enter, run = rule.forward(chunk, chunk.whole(matrix), raw, extra, states)
    for all_steps, first in zip(kept_states, before[1:], strict=False):
        chunk.first(all_steps).copy_(first.transpose(0, 1))
    carried = [first.transpose(0, 1) for first in before]
    for low, high in chunk.spans():
        steps = high - low
        used = [buffer[:, : steps + 1] for buffer in states]
        for buffer, value in zip(used, carried, strict=True):
            chunk.first(buffer).copy_(value)
        enter(entering[:, low:high], offset)
        run(steps)
        for all_steps, buffer in zip(kept, (raw, *extra), strict=True):
            all_steps[:, low:high] = buffer[:, :steps]
        for all_steps, buffer in zip(kept_states, used[1:], strict=False):
            chunk.after(all_steps)[:, low:high] = chunk.after(buffer)
        leaving[:, low:high] = chunk.after(used[0])
        carried = [chunk.last(buffer) for buffer in used]
    return (h, torch.stack([value.transpose(0, 1) for value in carried])), (*kept, *kept_states)


def backward(
    args: Optional, outputs: Tensors, saved: Optional, cotangents: Optional, wanted: tuple[bool, ...], *, cell: str, reverse: bool
) -> Optional:
    """The gradients of gates, recurrent weights, bias and state."""
    gates, recurrent, bias, state = args
    dh, dlast = cotangents
    assert gates is not None
    assert recurrent is not None
    h, rule, tensors = outputs[0], CELLS[cell], list[Any](saved)
    chunk = Chunk(gates, tensors[0].dtype, reverse)
    batch, _, count, heads, width = gates.shape
    states, g = chunk.states(), chunk.states()
    matrix = recurrent.to(chunk.dtype).roll(rule.roll, 0).transpose(0, 1).flatten(1, 2)
    carried = [states.new_zeros(heads, batch, width) for _ in range(rule.states)]
    if dlast is not None:
        for value, given in zip(carried, dlast, strict=True):
            value.copy_(given.transpose(0, 1))
    dgates = torch.empty(gates.shape, dtype=gates.dtype, device=gates.device)
    dmatrix, doffset = states.new_zeros(heads, count * width, width), states.new_zeros(heads, count, width)
    all_h, leaving = h.permute(2, 1, 0, 3), dgates.permute(3, 1, 0, 2, 4)
    run = rule.backward(chunk, chunk.whole(matrix), states, g, carried, dlast is not None or state is not None)
    for low, high in reversed(chunk.spans()):
        steps = high - low
        _load(chunk, states[:, : steps + 1], all_h, None if state is None else state[0], low, high)
        used = g[:, : steps + 1]
        if dh is None:
            chunk.after(used).zero_()
        else:
            chunk.after(used).copy_(dh.permute(2, 1, 0, 3)[:, low:high])
        chunk.last(used).add_(carried[0])
        chunk.first(used).zero_()
        more = [tensor[:, low : high + 1] if tensor.shape[1] > h.shape[1] else tensor[:, low:high] for tensor in tensors]
        returning = run(steps, more, leaving[:, low:high])
        carried[0].copy_(chunk.first(used))
        rows = returning.reshape(heads, steps * batch, count * width)
        if wanted[1]:
            before = chunk.before(states[:, : steps + 1]).reshape(heads, steps * batch, width)
            total = chunk.whole(dmatrix)
            chunk.add_product(total, chunk.whole(rows.transpose(1, 2)), chunk.whole(before), out=total)
        if wanted[2]:
            doffset += returning.sum((1, 2))
    drecurrent = dmatrix.unflatten(1, (count, width)).transpose(0, 1).roll(-rule.roll, 0).to(recurrent.dtype)
    dbias = None if bias is None else doffset.transpose(0, 1).roll(-rule.roll, 0).to(bias.dtype)
    dstate = None if state is None else torch.stack([value.transpose(0, 1) for value in carried]).to(state.dtype)
    return dgates, drecurrent, dbias, dstate


CORE = Core(forward, backward, reference, keeps_outputs=True)


def _load(chunk: Chunk, states: Tensor, h: Tensor, entering: Tensor | None, low: int, high: int) -> None:
    """The states h of a chunk from the output, and the one before it, which is the initial state at the end of the sequence."""
    chunk.after(states).copy_(h[:, low:high])
    first = chunk.first(states)
    outside = high == h.shape[1] if chunk.reverse else low == 0
    if not outside:
        first.copy_(h[:, high if chunk.reverse else low - 1])
    elif entering is None:
        first.zero_()
    else:
        first.copy_(entering.transpose(0, 1))
