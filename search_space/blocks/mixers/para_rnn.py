"""GRU and LSTM with diagonal recurrent weights: nonlinear in their state, and yet solvable for all steps at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....kernels.diagonal_rnn import diagonal_rnn
from ...choices import Domain, Integer, OneOf
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, chosen, linear
from .heads import checked_heads, refuse_state

_PAPER = "ParaRNN: Unlocking Parallel Training of Nonlinear RNNs for Large Language Models (2025, 2510.21450)"
_BOOL = OneOf((True, False))
_KNOBS: dict[str, Domain] = {"heads": Integer(1, 8), "expand": OneOf((1, 2)), "causal": _BOOL}
_SOLVERS = ("serial", "newton")


class DiagonalRNN(nn.Module):
    """A recurrent layer in which the state of a channel is read by that channel alone; inputs enter in blocks.

    The cells and the solvers are those of :func:`archwright.kernels.diagonal_rnn`. Input weights are block-diagonal with ``heads``
    blocks, from Xavier's uniform distribution; recurrent weights and peepholes start uniform in [-1/2, 1/2]; the bias of the first
    gate is spread so that channels start by keeping 50 to 97 per cent of their state per step. With ``causal=False`` one half of
    the channels runs backwards. State: [B, 1, inner], or [B, 2, inner] with c and h for ``lstm``.
    """

    def __init__(
        self, width: int, inner: int, *, cell: str, heads: int = 1, peephole: bool = False, solver: str = "serial", causal: bool = True
    ) -> None:
        super().__init__()
        self.cell, self.solver, self.causal = cell, solver, causal
        bound = (6 / (width // heads + inner // heads)) ** 0.5
        self.enter = nn.Parameter(torch.empty(heads, width // heads, 3, inner // heads).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(3, inner))
        self.recurrent = nn.Parameter(torch.empty(3, inner).uniform_(-0.5, 0.5))
        self.recurrent.no_weight_decay = True  # type: ignore[attr-defined]
        self.peephole = nn.Parameter(torch.empty(2, inner).uniform_(-0.5, 0.5)) if peephole else None
        with torch.no_grad():
            slow = torch.linspace(0.0, 3.5, inner)
            self.bias[0] = slow if cell == "lstm" else -slow

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        heads = self.enter.shape[0]
        entering = torch.einsum("bthi,higo->btgho", x.unflatten(-1, (heads, -1)), self.enter)
        gates = entering.flatten(3) + self.bias
        if self.causal:
            return self._run(gates, slice(None), state)
        middle = gates.shape[-1] - gates.shape[-1] // 2
        forwards, _ = self._run(gates, slice(middle))
        backwards, _ = self._run(gates.flip(1), slice(middle, None))
        return torch.cat([forwards, backwards.flip(1)], dim=-1), None

    def _run(self, gates: Tensor, part: slice, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Some of the channels."""
        peephole = None if self.peephole is None else self.peephole[:, part]
        solver = "serial" if gates.is_meta else self.solver  # Newton's method looks at its residual
        return diagonal_rnn(gates[..., part], self.recurrent[:, part], state, peephole, cell=self.cell, solver=solver)


class _ParaRNN(nn.Module):
    """``y_t = W_o h_t + b_o`` on a :class:`DiagonalRNN`."""

    def __init__(
        self, name: str, spec: TensorSpec, *, heads: int, expand: int, solver: str, causal: bool, cell: str, peephole: bool, variance: float
    ) -> None:
        super().__init__()
        self.name, self.causal = name, causal
        inner = checked(name, "expand", expand) * spec.width
        heads, solver = checked_heads(name, spec.width, heads), chosen(name, "solver", solver, _SOLVERS)
        self.recurrence = DiagonalRNN(spec.width, inner, cell=cell, heads=heads, peephole=peephole, solver=solver, causal=causal)
        self.out = linear(inner, spec.width, variance=variance)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state(self.name, self.causal, state)
        h, last = self.recurrence(x, state)
        return self.out(h), last, {}


@block("para-gru", "mixer", knobs=_KNOBS, paper=_PAPER)
class ParaGRU(_ParaRNN):
    """A gated recurrent unit whose channels do not read each other's states.

    Per channel, ``z = sigmoid(a_z h + B_z x + b_z)``, ``r = sigmoid(a_r h + B_r x + b_r)``, ``c = tanh(a_c r h + B_c x + b_c)``,
    ``h' = (1 - z) h + z c``, ``y = W_o h' + b_o`` in ``expand * D`` channels, with ``heads`` diagonal blocks in each B.
    ``solver`` is how the same states are found: ``serial`` or ``newton`` (see :func:`archwright.kernels.diagonal_rnn`).
    With ``causal=False`` one half of the channels runs backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: h, [B, 1, expand * D].
    Cost per token: 6 e D^2 / heads + 2 e D^2 operations for e = ``expand``, half as many parameters and 6 e D more.
    """

    def __init__(self, spec: TensorSpec, *, heads: int = 1, expand: int = 1, solver: str = "serial", causal: bool = True) -> None:
        options: dict[str, Any] = {"heads": heads, "expand": expand, "solver": solver, "causal": causal}
        # States are averages over many steps, hence small; the way out makes up for it.
        super().__init__("para-gru", spec, cell="gru", peephole=False, variance=8.0, **options)


@block("para-lstm", "mixer", knobs={**_KNOBS, "peephole": _BOOL}, paper=_PAPER)
class ParaLSTM(_ParaRNN):
    """A long short-term memory with coupled gates whose channels do not read each other's states.

    Per channel, ``f = sigmoid(a_f h + p_f c + B_f x + b_f)``, ``c' = f c + (1 - f) tanh(a_c h + B_c x + b_c)``,
    ``o = sigmoid(a_o h + p_o c' + B_o x + b_o)``, ``h' = o tanh(c')``, ``y = W_o h' + b_o`` in ``expand * D`` channels, with
    ``heads`` diagonal blocks in each B; ``peephole=False`` is p = 0. ``solver`` as in ``para-gru``.
    With ``causal=False`` one half of the channels runs backwards.
    Shapes: [B, T, D] -> [B, T, D]. State: c and h, [B, 2, expand * D].
    Cost per token: 6 e D^2 / heads + 2 e D^2 operations for e = ``expand``, half as many parameters and 8 e D more.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int = 1,
        expand: int = 1,
        peephole: bool = True,
        solver: str = "serial",
        causal: bool = True,
    ) -> None:
        options: dict[str, Any] = {"heads": heads, "expand": expand, "solver": solver, "causal": causal}
        super().__init__("para-lstm", spec, cell="lstm", peephole=peephole, variance=32.0, **options)
