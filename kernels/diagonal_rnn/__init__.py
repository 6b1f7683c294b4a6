r"""Nonlinear recurrences whose recurrent weights are diagonal: every channel is a recurrence of its own.

The state of a channel is one number (Elman, GRU) or two (LSTM with coupled gates), so that the Jacobian of a step is a number or a
2x2 matrix in every channel. Newton's method over time can therefore solve all steps at once by scans, and the backward of either
solver is a linear recurrence. The equations of the cells are in :mod:`archwright.kernels.diagonal_rnn.cells`.

"ParaRNN: Unlocking Parallel Training of Nonlinear RNNs for Large Language Models" (2025, 2510.21450).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..newton import Solve
from ..newton.solver import check_limits
from ..spec import FLOATS, KERNELS, Benchmark, Inputs, KernelSpec, Variant
from .cells import CELLS
from .fast import Run, fast, reference, solved

__all__ = ["diagonal_rnn", "solve_diagonal_rnn"]

SOLVERS = ("serial", "newton")


def diagonal_rnn(
    gates: Tensor,
    recurrent: Tensor,
    state: Tensor | None = None,
    peephole: Tensor | None = None,
    *,
    cell: str = "gru",
    solver: str = "serial",
    max_steps: int = 10,
    tolerance: float | None = None,
    backend: str | None = None,
) -> Run:
    """A recurrent layer with diagonal recurrent weights, over a whole sequence.

    Args:
        gates: what the inputs give to each gate, biases included, (batch, steps, gates, width): ``elman`` has 1; ``gru`` 3, in the
            order update, reset, candidate; ``lstm`` 3, in the order forget, candidate, output (the input gate is one minus the
            forget gate).
        recurrent: what each gate takes from the state, (gates, width).
        state: the state before the first step, (batch, states, width): h, or c and h for ``lstm``; None is zero.
        peephole: what the forget gate takes from c and the output gate from the new c, (2, width); of ``lstm`` alone, None is zero.
        cell: ``elman``, ``gru`` or ``lstm``.
        solver: ``serial`` walks over the steps; ``newton`` solves all at once and hands over to ``serial`` where it does not converge.
            Its results are those of ``serial`` up to rounding; it pays on GPUs for sequences of several thousand steps with few
            channels.
        max_steps: Newton steps before ``serial`` takes over.
        tolerance: see :func:`archwright.kernels.newton.newton_scan`, as for how the residual is read.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        h: (batch, steps, width) in the dtype of ``gates``.
        last: the state after the last step, (batch, states, width), in float32 (float64 for float64 inputs); feed it as ``state``.

    Gradients flow to every tensor from both results, any number of times.

    Raises:
        ValueError: shapes do not match, or an option is unknown. TypeError: a tensor is not real floating point.
        BackendError: see dispatch.
    """
    _check(gates, recurrent, state, peephole, cell, solver)
    check_limits("diagonal_rnn", max_steps, tolerance)
    options = {"cell": cell, "solver": solver, "max_steps": max_steps, "tolerance": tolerance}
    result: Run = call(SPEC, gates, recurrent, state, peephole, backend=backend, **options)
    return result


def solve_diagonal_rnn(
    gates: Tensor,
    recurrent: Tensor,
    state: Tensor | None = None,
    peephole: Tensor | None = None,
    *,
    cell: str = "gru",
    max_steps: int = 10,
    tolerance: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Solve]:
    """:func:`diagonal_rnn` by Newton's method, with the report: ``h, last, solve``.

    ``solve.steps`` are the Newton steps taken, ``solve.residual`` is how far the states were from a solution before the last, and
    ``solve.fell_back`` says that the serial solver had to do it. ``backend`` is that of the scans.

    Raises:
        As :func:`diagonal_rnn`.
    """
    _check(gates, recurrent, state, peephole, cell, "newton")
    check_limits("solve_diagonal_rnn", max_steps, tolerance)
    return solved(gates, recurrent, state, peephole, cell=cell, max_steps=max_steps, tolerance=tolerance, backend=backend)


def _check(gates: Tensor, recurrent: Tensor, state: Tensor | None, peephole: Tensor | None, cell: str, solver: str) -> None:
    if cell not in CELLS:
        raise ValueError(f'The argument cell of diagonal_rnn must be one of {", ".join(CELLS)}. Got "{cell}" instead.')
    if solver not in SOLVERS:
        raise ValueError(f'The argument solver of diagonal_rnn must be one of {", ".join(SOLVERS)}. Got "{solver}" instead.')
    if gates.dim() != 4 or gates.shape[2] != CELLS[cell].gates:
        expected = f"(batch, steps, {CELLS[cell].gates}, width)"
        raise ValueError(f'diagonal_rnn with cell="{cell}" needs gates of shape {expected}. Got {tuple(gates.shape)} instead.')
    batch, _, _, width = gates.shape
    if peephole is not None and cell != "lstm":
        raise ValueError(f'diagonal_rnn takes a peephole for cell="lstm" alone. Got one for cell="{cell}".')
    shapes = {"recurrent": (CELLS[cell].gates, width), "state": (batch, CELLS[cell].states, width), "peephole": (2, width)}
    tensors = {"gates": gates, "recurrent": recurrent, "state": state, "peephole": peephole}
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of diagonal_rnn must be real floating point. Got {tensor.dtype} instead.')
        if tensor is not None and tensor.shape != shapes.get(name, gates.shape):
            raise ValueError(
                f'diagonal_rnn with cell="{cell}" needs "{name}" of shape {shapes[name]} for gates of shape {tuple(gates.shape)}. '
                f"Got {tuple(tensor.shape)} instead."
            )
    devices = {str(tensor.device) for tensor in tensors.values() if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"diagonal_rnn needs all tensors on one device. Got {sorted(devices)}.")


def triton(*args: Tensor | None, solver: str = "serial", **options: Any) -> Run:
    """One launch per direction (serial), or Newton over the Triton scan; see :mod:`archwright.kernels.diagonal_rnn.triton_`."""
    from . import triton_

    return solved(*args, backend="triton", **options)[:2] if solver == "newton" else triton_.run(*args, **options)


def supports(gates: Tensor, *_: Tensor | None, **__: Any) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(gates, kernel="diagonal_rnn")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.variants()


# --- spec ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size of the layer; recurrent weights are drawn from [-scale, scale]."""

    cell: str
    batch: int
    steps: int
    width: int
    state: bool = True
    peephole: bool = True
    solver: str = "serial"
    scale: float = 1.0
    spread: float = 1.0

    def __str__(self) -> str:
        marks = "".join(f"-{name}" for name in ("state", "peephole") if getattr(self, name) and (name == "state" or self.cell == "lstm"))
        drawn = "" if (self.scale, self.spread) == (1.0, 1.0) else f"-scale{self.scale:g}-spread{self.spread:g}"
        return f"{self.cell}-{self.batch}x{self.steps}x{self.width}{marks}{drawn}" + ("-newton" if self.solver == "newton" else "")


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    made = CELLS[case.cell]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = (
        case.spread * normal(case.batch, case.steps, made.gates, case.width),
        case.scale * (2 * torch.rand((made.gates, case.width), generator=generator, dtype=torch.float64) - 1),
        normal(case.batch, made.states, case.width) if case.state else None,
        0.5 * normal(2, case.width) if case.peephole and case.cell == "lstm" else None,
    )
    args = tuple(None if tensor is None else tensor.to(device=device, dtype=dtype) for tensor in tensors)
    return Inputs(args, {"cell": case.cell, "solver": case.solver})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads the gates and writes h; backward reads gates, h (and c) and the cotangent, and writes the gates' cotangents."""
    made = CELLS[case.cell]
    moved = {"forward": made.gates + 1, "backward": 2 * made.gates + made.states + 1}[direction]
    return moved * case.batch * case.steps * case.width * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    """Per element and step; a sigmoid or tanh counts as 10."""
    forward = {"elman": 12, "gru": 39, "lstm": 52}[case.cell]
    return {"forward": forward, "backward": 2 * forward}[direction] * case.batch * case.steps * case.width


_SIZES = ((1, 1, 1), (2, 2, 3), (2, 7, 5), (4, 17, 2), (3, 31, 4), (2, 33, 16), (2, 70, 3))
_CASES = (
    *(Case(cell, *size) for cell in CELLS for size in _SIZES),
    *(Case(cell, 2, 9, 3, state=False, peephole=False) for cell in CELLS),
    *(Case(cell, 2, 40, 3, solver="newton") for cell in CELLS),
    Case("lstm", 2, 9, 3, peephole=False, solver="newton"),
    *(Case(cell, *size) for cell in CELLS for size in ((2, 0, 3), (0, 4, 3), (2, 4, 0))),
    *(Case(cell, 2, 12, 3, scale=5.0, spread=40.0) for cell in CELLS),
    *(Case(cell, 2, 12, 3, scale=0.0) for cell in CELLS),
)
_SMALL = (
    Case("lstm", 2, 3, 9),
    Case("gru", 2, 3, 9),
    Case("elman", 2, 3, 9),
    *(Case(cell, 1, 1, 1, state=False, peephole=False) for cell in CELLS),
    Case("lstm", 2, 4, 3, state=False, peephole=False),
    Case("gru", 3, 4, 9, state=False),
    Case("elman", 2, 4, 16, scale=5.0, spread=40.0),
    Case("lstm", 1, 4, 2, scale=5.0, spread=40.0),
    Case("gru", 2, 9, 3, solver="newton"),
    Case("gru", 2, 0, 3),
)

_BENCHMARKS = tuple(
    Benchmark(Case(cell, *size, state=False, peephole=False), target)
    for cell, targets in (("elman", (2, 3)), ("gru", (3, 5)), ("lstm", (3, 5)))
    for size, target in zip(((32, 256, 64), (8, 1024, 128)), targets, strict=True)
)

SPEC = KERNELS.add(
    KernelSpec(
        name="diagonal_rnn",
        public=diagonal_rnn,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("gates", "recurrent", "state", "peephole"),
        per_sample=("gates", "state"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        dtypes=FLOATS,
        benchmarks=_BENCHMARKS,
        variants=variants,
    )
)
