"""The definition: one step after the other, as the equations are written."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..function import accumulate_dtype

Run = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def elman(entering: Tensor, returning: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (u,) = (entering + returning).unbind(1)
    return (torch.tanh(u),)


def gru(entering: Tensor, returning: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (h,) = states
    r, z = torch.sigmoid(entering[:, :2] + returning[:, :2]).unbind(1)
    n = torch.tanh(entering[:, 2] + r * returning[:, 2])
    return ((1 - z) * n + z * h,)


def lstm(entering: Tensor, returning: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (entering + returning).unbind(1)
    c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def slstm(entering: Tensor, returning: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (entering + returning).unbind(1)
    _, c, n, m = states
    kept = m + F.logsigmoid(f)
    largest = torch.where(kept >= i, kept, i)
    keep, enter = torch.exp(kept - largest), torch.exp(i - largest)
    c = keep * c + enter * torch.tanh(g)
    n = keep * n + enter
    return torch.sigmoid(o) * c / torch.where(n >= 1, n, torch.ones_like(n)), c, n, largest


CELLS: dict[str, tuple[Step, int, int]] = {"elman": (elman, 1, 1), "gru": (gru, 3, 1), "lstm": (lstm, 4, 2), "slstm": (slstm, 4, 4)}
"""By name: a step, the number of gates and that of states."""


def start(cell: str, gates: Tensor) -> tuple[Tensor, ...]:
    """The states before the first step where none are given: zero, and minus infinity for the stabiliser ``m`` of the sLSTM."""
    batch, _, _, heads, width = gates.shape
    zero = gates.new_zeros(batch, heads, width)
    return (zero, zero, zero, torch.full_like(zero, float("-inf"))) if cell == "slstm" else (zero,) * CELLS[cell][2]


def reference(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None = None, state: Tensor | None = None, *, cell: str, reverse: bool = False
) -> Run:
    """The recurrence in the widest dtype of its arguments; ``h`` comes back in that of ``gates``."""
    given: list[Any] = [arg for arg in (gates, recurrent, bias, state) if arg is not None]
    dtype = reduce(torch.promote_types, [arg.dtype for arg in given])
    step, matrix = CELLS[cell][0], recurrent.to(dtype)
    states = start(cell, gates.to(dtype)) if state is None else state.to(dtype).unbind(0)
    entering = gates.to(dtype).unbind(1)
    outputs: dict[int, Tensor] = {}
    for t in reversed(range(len(entering))) if reverse else range(len(entering)):
        returning = torch.einsum("bhi,ghoi->bgho", states[0], matrix)
        states = step(entering[t], returning if bias is None else returning + bias.to(dtype), states)
        outputs[t] = states[0]
    h = torch.stack([outputs[t] for t in range(len(entering))], 1) if entering else gates[:, :, 0]
    return h.to(gates.dtype), torch.stack(states).to(accumulate_dtype(*given))
