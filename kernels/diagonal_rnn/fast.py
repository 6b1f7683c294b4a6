"""The diagonal RNN in PyTorch: a loop or Newton's method forwards, closed form backwards. Inside, time comes first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..newton.solver import TOLERANCE, Solve, solve
from .cells import CELLS, Cell

Run = tuple[Tensor, Tensor]
BLOCK = 2**16  # elements of a state that backward takes at a time


def reference(gates: Tensor, recurrent: Tensor, state: Tensor | None = None, peephole: Tensor | None = None, *, cell: str, **_: Any) -> Run:
    """The recurrence as it is written, one step at a time, in the dtype of its inputs; the definition under either solver."""
    step = CELLS[cell].step
    batch, _steps, _gates, width = gates.shape
    current = gates.new_zeros(CELLS[cell].states, batch, width) if state is None else state.transpose(0, 1)
    weights, peepholes = recurrent[:, None], None if peephole is None else peephole[:, None]
    outputs = []
    for x in gates.permute(1, 2, 0, 3).unbind(0):
        _activations, current = step(x, current, weights, peepholes)
        outputs.append(current[-1])
    h = torch.stack(outputs, 1) if outputs else gates[:, :, 0]
    return h.to(gates.dtype), current.transpose(0, 1).to(accumulate_dtype(gates, recurrent, state, peephole))


def fast(*args: Tensor | None, solver: str = "serial", **options: Any) -> Run:
    """The serial solver loops over the steps forwards and backwards and does the rest for all steps at once."""
    if solver == "newton":
        return solved(*args, backend="fast", **options)[:2]
    h, last = fused(_SERIAL, *args, outputs=2, **options)
    return h, last


def solved(
    *args: Tensor | None, cell: str, max_steps: int = 10, tolerance: float | None = None, backend: str | None = None, **_: Any
) -> tuple[Tensor, Tensor, Solve]:
    """By Newton's method: the outputs, the last state, and the report."""
    if any(arg is not None and arg.numel() == 0 for arg in args):
        return *reference(*args, cell=cell), Solve(0, 0.0, fell_back=False)  # type: ignore[arg-type]
    with torch.no_grad():
        solution, report = _newton(CELLS[cell], *args, max_steps=max_steps, tolerance=tolerance, backend=backend)  # type: ignore[arg-type]
    options = {"cell": cell, "solution": solution, "serial": report.fell_back, "backend": backend}
    h, last = fused(_NEWTON, *args, outputs=2, **options)
    return h, last, report


# --- forwards -------------------------------------------------------------------------------------------------------------


def _time_major(gates: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, steps, gates, width) as a new contiguous (steps, gates, batch, width)."""
    batch, steps, count, width = gates.shape
    return torch.empty((steps, count, batch, width), dtype=dtype, device=gates.device).copy_(gates.permute(1, 2, 0, 3))


def _prepared(cell: Cell, gates: Tensor, recurrent: Tensor, state: Tensor | None, peephole: Tensor | None) -> tuple[Tensor, ...]:
    """The start (states, batch, width), and the weights with an axis for the batch, in the dtype of the computation."""
    dtype = accumulate_dtype(gates, recurrent, state, peephole)
    start = gates.new_zeros((cell.states, len(gates), gates.shape[-1]), dtype=dtype) if state is None else state.to(dtype).transpose(0, 1)
    return start.contiguous(), recurrent.to(dtype)[:, None]


def _peepholes(peephole: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if peephole is None else peephole.to(dtype)[:, None]


def _results(gates: Tensor, states: Tensor) -> Tensors:
    """h (batch, steps, width) and the last state (batch, states, width), both new."""
    h = torch.empty((*gates.shape[:2], gates.shape[-1]), dtype=gates.dtype, device=gates.device).copy_(states[:, -1].transpose(0, 1))
    return h, states[-1].transpose(0, 1).clone(memory_format=torch.contiguous_format)


def _serial_forward(
    gates: Tensor, recurrent: Tensor, state: Tensor | None, peephole: Tensor | None, *, cell: str, **_: Any
) -> tuple[Tensors, Optional]:
    start, weights = _prepared(CELLS[cell], gates, recurrent, state, peephole)
    activations, states = CELLS[cell].run(_time_major(gates, start.dtype), start, weights, _peepholes(peephole, start.dtype))
    return _results(gates, states), _kept(activations, states)


def _newton(
    cell: Cell,
    gates: Tensor,
    recurrent: Tensor,
    state: Tensor | None,
    peephole: Tensor | None,
    *,
    max_steps: int,
    tolerance: float | None,
    backend: str | None,
) -> tuple[tuple[Tensor, Tensor], Solve]:
    """(activations, states) at the solution, and the report."""
    start, weights = _prepared(cell, gates, recurrent, state, peephole)
    peepholes, x = _peepholes(peephole, start.dtype), _time_major(gates, start.dtype)

    def differentiate(before: Tensor) -> tuple[Tensor, Tensor]:
        before = before.view(len(x), *start.shape)
        activations, states = cell.step(x, before, weights, peepholes)
        _, jacobian, _ = cell.slopes(activations, before, states, weights, peepholes)
        return _lanes(states), jacobian.view(len(x), *(2, 2) * (cell.states - 1), -1)

    guess = _lanes(cell.step(x, torch.zeros_like(start), weights, peepholes)[1])
    limit = TOLERANCE[start.dtype] if tolerance is None else tolerance
    states, report = solve(
        differentiate, cell.structure, _lanes(start[None])[0], guess, max_steps=max_steps, tolerance=limit, backend=backend
    )
    if report.fell_back:
        return cell.run(x, start, weights, peepholes), report
    before = torch.cat([start[None], states.view(len(x), *start.shape)[:-1]])
    return cell.step(x, before, weights, peepholes), report


def _lanes(tensor: Tensor) -> Tensor:
    """(steps, states, batch, width) as (steps, lanes), or as (steps, 2, lanes) where there are two states."""
    return tensor.flatten(-2).squeeze(1) if tensor.shape[1] == 1 else tensor.flatten(-2)


def _newton_forward(gates: Tensor, *_: Tensor | None, solution: tuple[Tensor, Tensor], **__: Any) -> tuple[Tensors, Optional]:
    return _results(gates, solution[1]), _kept(*solution)


def _kept(activations: Tensor, states: Tensor) -> Optional:
    """What the backward wants, each tensor once: the Elman cell's gate is its state."""
    return activations, None if states is activations else states


# --- backwards ------------------------------------------------------------------------------------------------------------


def _backward(
    args: Optional, outputs: Tensors, saved: Optional, cotangents: Optional, wanted: tuple[bool, ...], *, cell: str, **options: Any
) -> Optional:
    """The adjoint of the states by the linear recurrence of the Jacobians; the rest follows for many steps at once.

    The serial solver goes back in blocks of steps that stay in the cache.
    """
    gates, recurrent, state, peephole = args
    activations, states = saved[0], saved[0] if saved[1] is None else saved[1]
    assert gates is not None
    assert recurrent is not None
    assert activations is not None
    assert states is not None
    made = CELLS[cell]
    start, weights = _prepared(made, gates, recurrent, state, peephole)
    peepholes = _peepholes(peephole, start.dtype)
    dh, dlast = cotangents
    carry = None if dlast is None else dlast.transpose(0, 1)
    dgates = torch.empty_like(gates, memory_format=torch.contiguous_format)
    drecurrent = start.new_zeros(recurrent.shape)
    dpeephole = None if peephole is None else start.new_zeros(peephole.shape)
    parallel = "solution" in options and not options["serial"]
    block = len(states) if parallel else max(1, BLOCK // start[0].numel())
    for first in reversed(range(0, len(states), block)):
        here = slice(first, min(first + block, len(states)))
        now, gate = states[here], activations[here]
        before = torch.cat([start[None], now[:-1]]) if first == 0 else states[first - 1 : here.stop - 1]
        slopes, jacobian, through = made.slopes(gate, before, now, weights, peepholes)
        adjoint = _incoming(now, None if dh is None else dh[:, here], carry)
        adjoint = _adjoint_scan(made, adjoint, jacobian, options["backend"]) if parallel else _adjoint_loop(adjoint, jacobian)
        carry = _pull_back(jacobian[0], adjoint[0])
        made.pull(adjoint, slopes, through)
        dgates[:, here].copy_(slopes.permute(2, 0, 1, 3))
        drecurrent += _recurrent_gradient(cell, slopes, gate, before)
        if dpeephole is not None:
            pairs = ((slopes[:, 0], before[:, 0]), (slopes[:, 2], now[:, 0]))
            dpeephole += torch.stack([(of * by).sum((0, 1)) for of, by in pairs])
    dstate = None if state is None or carry is None else carry.transpose(0, 1).to(state.dtype)
    typed = None if dpeephole is None or peephole is None else dpeephole.to(peephole.dtype)
    return dgates, drecurrent.to(recurrent.dtype), dstate, typed


def _incoming(states: Tensor, dh: Tensor | None, carry: Tensor | None) -> Tensor:
    """The cotangents of the outputs, and of the last state from what follows, as those of the states; new."""
    adjoint = torch.zeros_like(states) if dh is None or states.shape[1] > 1 else torch.empty_like(states)
    if dh is not None:
        adjoint[:, -1].copy_(dh.transpose(0, 1))
    if carry is not None:
        adjoint[-1] += carry
    return adjoint


def _adjoint_scan(cell: Cell, adjoint: Tensor, jacobian: Tensor, backend: str | None) -> Tensor:
    flat = jacobian.view(len(adjoint), *(2, 2) * (cell.states - 1), -1)
    return cell.structure.adjoint(flat, _lanes(adjoint), backend).view(adjoint.shape)


def _adjoint_loop(adjoint: Tensor, jacobian: Tensor) -> Tensor:
    """l_t = g_t + J_{t+1}^T l_{t+1} in place, from the last step to the first."""
    if jacobian.dim() == 3:
        later = adjoint[-1, 0]
        for own, gate in zip(reversed(adjoint[:-1, 0].unbind(0)), reversed(jacobian[1:].unbind(0)), strict=True):
            later = own.addcmul_(gate, later)
        return adjoint
    later = adjoint[-1]
    from_c, from_h = jacobian[1:].unbind(1)
    for own, by_c, by_h in zip(*(reversed(part.unbind(0)) for part in (adjoint[:-1], from_c, from_h)), strict=True):
        later = own.addcmul_(by_c, later[0]).addcmul_(by_h, later[1])
    return adjoint


def _pull_back(jacobian: Tensor, adjoint: Tensor) -> Tensor:
    """J^T l of one step, (states, batch, width)."""
    return jacobian * adjoint if jacobian.dim() == 2 else jacobian[0] * adjoint[0] + jacobian[1] * adjoint[1]


def _recurrent_gradient(cell: str, dgates: Tensor, activations: Tensor, before: Tensor) -> Tensor:
    """(gates, width): each gate's cotangent times what its weight multiplied."""
    h = before[:, -1]
    if cell != "gru":
        return (dgates * h[:, None]).sum((0, 2))
    z_and_r = (dgates[:, :2] * h[:, None]).sum((0, 2))
    return torch.cat([z_and_r, (dgates[:, 2:] * (activations[:, 1] * h)[:, None]).sum((0, 2))])


_SERIAL = Core(_serial_forward, _backward, reference)
_NEWTON = Core(_newton_forward, _backward, reference)
