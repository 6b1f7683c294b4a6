r"""The cells: what one step does, and the derivatives in closed form of all steps at once.

Tensors are (..., gates, batch, width) and (..., states, batch, width), where ... is nothing or the steps; recurrent weights are
(gates, 1, width), peepholes (2, 1, width). A dot is a product in every channel, bars are cotangents.

Elman: :math:`h' = \tanh(x + a h)`.

GRU, with the gates z, r, c:

.. math:: z = \sigma(x_z + a_z h), \quad r = \sigma(x_r + a_r h), \quad c = \tanh(x_c + a_c r h), \quad h' = (1 - z) h + z c

LSTM with coupled forget and input gates and peepholes p, with the gates f, g, o and the state (c, h):

.. math:: f = \sigma(x_f + a_f h + p_f c), \quad g = \tanh(x_g + a_g h), \quad c' = f c + (1 - f) g, \quad
          o = \sigma(x_o + a_o h + p_o c'), \quad h' = o \tanh c'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..newton.jacobians import BLOCK2, DIAGONAL, Structure

Peephole = Tensor | None
Slopes = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        gates: how many gates it has. states: how many states; the last one is its output.
        structure: of its Jacobian.
        step: ``step(x, state, recurrent, peephole) -> activations, next state``; activations are the gates after their nonlinearity.
        run: ``run(x, start, recurrent, peephole) -> activations, states``: all steps one after the other, x overwritten.
        slopes: ``slopes(activations, before, states, recurrent, peephole) -> slopes, jacobian, through`` of all steps. Slopes are the
            derivatives of the state that a gate feeds by the gate before its nonlinearity, (steps, gates, batch, width); the Jacobian
            is (steps, batch, width), or (steps, 2, 2, batch, width); ``through`` is the derivative of the output by the other new
            state, (steps, batch, width), where there is one.
        pull: ``pull(adjoint, slopes, through)``: slopes become the cotangents of the gates, in place.
    """

    gates: int
    states: int
    structure: Structure
    step: Callable[[Tensor, Tensor, Tensor, Peephole], tuple[Tensor, Tensor]]
    run: Callable[[Tensor, Tensor, Tensor, Peephole], tuple[Tensor, Tensor]]
    slopes: Callable[[Tensor, Tensor, Tensor, Tensor, Peephole], Slopes]
    pull: Callable[[Tensor, Tensor, Tensor | None], None]


def _pull(adjoint: Tensor, slopes: Tensor, through: Tensor | None) -> None:
    slopes *= adjoint


# --- Elman --------------------------------------------------------------------------------------------------------------


def elman_step(x: Tensor, state: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    h = torch.tanh(x + recurrent * state)
    return h, h


def elman_run(x: Tensor, start: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    h, weight = start[0], recurrent[0]
    for state in x[:, 0].unbind(0):
        h = state.addcmul_(weight, h).tanh_()
    return x, x


def elman_slopes(activations: Tensor, before: Tensor, states: Tensor, recurrent: Tensor, peephole: Peephole) -> Slopes:
    slopes = 1 - states * states
    return slopes, slopes[:, 0] * recurrent[0], None


# --- GRU ----------------------------------------------------------------------------------------------------------------


def gru_step(x: Tensor, state: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    (x_z, x_r, x_c), (a_z, a_r, a_c), h = x.unbind(-3), recurrent.unbind(0), state.squeeze(-3)
    z, r = torch.sigmoid(x_z + a_z * h), torch.sigmoid(x_r + a_r * h)
    c = torch.tanh(x_c + a_c * (r * h))
    return torch.stack([z, r, c], -3), ((1 - z) * h + z * c).unsqueeze(-3)


def gru_run(x: Tensor, start: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    states = torch.empty_like(x[:, :1])
    a_zr, a_c = recurrent[:2].expand_as(x[0, :2]).contiguous(), recurrent[2].expand_as(start[0]).contiguous()
    h, reset = start[0], torch.empty_like(start[0])
    for zr, z, r, c, state in zip(*(part.unbind(0) for part in (x[:, :2], x[:, 0], x[:, 1], x[:, 2], states[:, 0])), strict=True):
        zr.addcmul_(a_zr, h).sigmoid_()
        c.addcmul_(a_c, torch.mul(r, h, out=reset)).tanh_()
        h = torch.lerp(h, c, z, out=state)
    return x, states


def gru_slopes(activations: Tensor, before: Tensor, states: Tensor, recurrent: Tensor, peephole: Peephole) -> Slopes:
    (z, r, c), (a_z, a_r, a_c), h = activations.unbind(1), recurrent.unbind(0), before[:, 0]
    slopes = torch.empty_like(activations)
    by_z, by_r, by_c = slopes.unbind(1)
    keep = 1 - z
    torch.mul(keep, z, out=by_z).mul_(c - h)
    torch.mul(z, 1 - c * c, out=by_c)
    through_c = by_c * a_c
    torch.mul(1 - r, r, out=by_r).mul_(h).mul_(through_c)
    return slopes, keep.addcmul_(by_z, a_z).addcmul_(by_r, a_r).addcmul_(through_c, r), None


# --- LSTM ---------------------------------------------------------------------------------------------------------------


def lstm_step(x: Tensor, state: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    (x_f, x_g, x_o), (a_f, a_g, a_o), (c, h) = x.unbind(-3), recurrent.unbind(0), state.unbind(-3)
    p_f, p_o = (0, 0) if peephole is None else peephole.unbind(0)
    f, g = torch.sigmoid(x_f + a_f * h + p_f * c), torch.tanh(x_g + a_g * h)
    c = f * c + (1 - f) * g
    o = torch.sigmoid(x_o + a_o * h + p_o * c)
    return torch.stack([f, g, o], -3), torch.stack([c, o * torch.tanh(c)], -3)


def lstm_run(x: Tensor, start: Tensor, recurrent: Tensor, peephole: Peephole) -> tuple[Tensor, Tensor]:
    states = torch.empty_like(x[:, :2])
    a = recurrent.expand_as(x[0]).contiguous()
    p_f, p_o = (None, None) if peephole is None else peephole.expand_as(start).contiguous().unbind(0)
    c, h = start.unbind(0)
    parts = (x, x[:, 0], x[:, 1], x[:, 2], states[:, 0], states[:, 1])
    for fgo, f, g, o, c_out, h_out in zip(*(part.unbind(0) for part in parts), strict=True):
        fgo.addcmul_(a, h)
        f = (f if p_f is None else f.addcmul_(p_f, c)).sigmoid_()
        c = torch.lerp(g.tanh_(), c, f, out=c_out)
        o = (o if p_o is None else o.addcmul_(p_o, c)).sigmoid_()
        h = torch.tanh(c, out=h_out).mul_(o)
    return x, states


def lstm_slopes(activations: Tensor, before: Tensor, states: Tensor, recurrent: Tensor, peephole: Peephole) -> Slopes:
    (f, g, o), (a_f, a_g, a_o), c = activations.unbind(1), recurrent.unbind(0), before[:, 0]
    slopes = torch.empty_like(activations)
    by_f, by_g, by_o = slopes.unbind(1)
    take = 1 - f
    torch.mul(take, f, out=by_f).mul_(c - g)
    torch.mul(take, 1 - g * g, out=by_g)
    squashed = torch.tanh(states[:, 0])
    torch.mul(1 - o, o, out=by_o).mul_(squashed)
    through = squashed.square_().neg_().add_(1).mul_(o)
    if peephole is not None:
        through.addcmul_(by_o, peephole[1])
    jacobian = activations.new_empty((len(f), 2, 2, *f.shape[1:]))
    (c_by_c, c_by_h), (h_by_c, h_by_h) = (row.unbind(1) for row in jacobian.unbind(1))
    c_by_c.copy_(f if peephole is None else torch.addcmul(f, by_f, peephole[0]))
    torch.mul(by_f, a_f, out=c_by_h).addcmul_(by_g, a_g)
    torch.mul(through, c_by_c, out=h_by_c)
    torch.mul(by_o, a_o, out=h_by_h).addcmul_(through, c_by_h)
    return slopes, jacobian, through


def lstm_pull(adjoint: Tensor, slopes: Tensor, through: Tensor | None) -> None:
    """The gates f and g feed c', which h' sees as well; the gate o feeds h' alone."""
    assert through is not None
    onto_c = torch.addcmul(adjoint[:, 0], adjoint[:, 1], through)
    slopes[:, :2] *= onto_c[:, None]
    slopes[:, 2] *= adjoint[:, 1]


CELLS = {
    "elman": Cell(1, 1, DIAGONAL, elman_step, elman_run, elman_slopes, _pull),
    "gru": Cell(3, 1, DIAGONAL, gru_step, gru_run, gru_slopes, _pull),
    "lstm": Cell(3, 2, BLOCK2, lstm_step, lstm_run, lstm_slopes, lstm_pull),
}
