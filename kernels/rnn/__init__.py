r"""Recurrences whose gates read their own state, several heads at once: Elman, GRU, LSTM and sLSTM.

With ``u = gates_t + R h_{t-1} + b``, one matrix ``R`` per gate and head:

- ``elman``: :math:`h = \tanh(u)`; "Finding Structure in Time" (1990).
- ``gru``, gates r, z, n: :math:`n = \tanh(gates_n + r (R_n h_{t-1} + b_n))`, :math:`h = (1 - z) n + z h_{t-1}` with
  :math:`r, z = \sigma(u)`; "Learning Phrase Representations using RNN Encoder-Decoder" (2014, 1406.1078), in PyTorch's form.
- ``lstm``, gates i, f, g, o: :math:`c = \sigma(f) c_{t-1} + \sigma(i) \tanh(g)`, :math:`h = \sigma(o) \tanh(c)`; "Long Short-Term
  Memory" (1997).
- ``slstm``, gates i, f, g, o: :math:`a = m_{t-1} + \log \sigma(f)`, :math:`m = \max(a, i)`,
  :math:`c = e^{a - m} c_{t-1} + e^{i - m} \tanh(g)`, :math:`n = e^{a - m} n_{t-1} + e^{i - m}`,
  :math:`h = \sigma(o) c / \max(n, 1)`; "xLSTM: Extended Long Short-Term Memory" (2024, 2405.04517).

The layout, with input projections made beforehand and recurrent weights that stay on the chip, is that of "FlashRNN: Optimizing
Traditional RNNs on Modern Hardware" (2024, 2412.07752).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant
from .fast import fast
from .reference import CELLS, Run, reference

_WIDEST = 64


def rnn(
    gates: Tensor,
    recurrent: Tensor,
    bias: Tensor | None = None,
    state: Tensor | None = None,
    *,
    cell: str,
    reverse: bool = False,
    backend: str | None = None,
) -> Run:
    """All outputs of a recurrence, and its final states; the equations stand at the head of the module.

    Args:
        gates: what the input contributes to each gate, (batch, steps, G, heads, width); G is 1 for ``elman``, 3 for ``gru`` (r, z, n)
            and 4 for ``lstm`` and ``slstm`` (i, f, g, o).
        recurrent: (G, heads, width out, width in); for one head these are PyTorch's ``weight_hh`` cut into gates.
        bias: (G, heads, width), added to ``R h``; for ``gru`` the part of n stands inside ``r (R_n h + b_n)``.
        state: the states before the first step, (S, batch, heads, width): (h) for ``elman`` and ``gru``, (h, c) for ``lstm``,
            (h, c, n, m) for ``slstm``. None is zero, and minus infinity for m, with which n is never below 1.
        cell: ``elman``, ``gru``, ``lstm`` or ``slstm``.
        reverse: run from the last step to the first.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        h: (batch, steps, heads, width) in the dtype of ``gates``.
        last: the final states, (S, batch, heads, width), in float32 (float64 for float64 inputs); feed them as ``state`` to go on.

    Gradients flow to every tensor from both results, any number of times.

    Raises:
        ValueError: no such cell, or shapes do not match. TypeError: a tensor is not real floating point. BackendError: see dispatch.
    """
    _check(gates, recurrent, bias, state, cell)
    result: Run = call(SPEC, gates, recurrent, bias, state, backend=backend, cell=cell, reverse=reverse)
    return result


def _check(gates: Tensor, recurrent: Tensor, bias: Tensor | None, state: Tensor | None, cell: str) -> None:
    if cell not in CELLS:
        raise ValueError(f'rnn has no cell "{cell}"; cells are {", ".join(CELLS)}.')
    given = {"gates": gates, "recurrent": recurrent, "bias": bias, "state": state}
    for name, tensor in given.items():
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of rnn must be real floating point. Got {tensor.dtype} instead.')
    _, count, states = CELLS[cell]
    if gates.dim() != 5 or gates.shape[2] != count:
        raise ValueError(
            f'rnn with the cell "{cell}" needs gates of shape (batch, steps, {count}, heads, width). Got {tuple(gates.shape)} instead.'
        )
    batch, _, _, heads, width = gates.shape
    expected = {"recurrent": (count, heads, width, width), "bias": (count, heads, width), "state": (states, batch, heads, width)}
    for name, shape in expected.items():
        tensor = given[name]
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f'rnn with the cell "{cell}" needs {name} of shape {shape}. Got {tuple(tensor.shape)} instead.')
    devices = {tensor.device for tensor in given.values() if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"rnn needs its tensors on one device. Got {sorted(map(str, devices))}.")


def triton(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None = None, state: Tensor | None = None, *, cell: str, reverse: bool = False
) -> Run:
    """One program per batch tile and head for all steps; see :mod:`archwright.kernels.rnn.triton_`."""
    from . import triton_

    return triton_.run(gates, recurrent, bias, state, cell=cell, reverse=reverse)


def supports(
    gates: Tensor, recurrent: Tensor, bias: Tensor | None = None, state: Tensor | None = None, *, cell: str, reverse: bool = False
) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    if gates.shape[-1] > _WIDEST:
        return f"heads are {gates.shape[-1]} wide and recurrent weights stay on the chip for heads up to {_WIDEST}."
    return refusal(gates, kernel="rnn")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.variants()


# --- spec ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size; ``scale`` is that of the gates and ``gain`` that of the recurrent weights (1: the state keeps its variance)."""

    cell: str
    batch: int
    steps: int
    heads: int
    width: int
    state: bool = False
    bias: bool = True
    reverse: bool = False
    scale: float = 1.0
    gain: float = 1.0

    def __str__(self) -> str:
        marks = ("-state" if self.state else "") + ("" if self.bias else "-nobias") + ("-reverse" if self.reverse else "")
        sizes = f"{self.batch}x{self.steps}x{self.heads}x{self.width}"
        hard = f"-scale{self.scale:g}-gain{self.gain:g}" if (self.scale, self.gain) != (1, 1) else ""
        return f"{self.cell}-{sizes}{marks}{hard}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    _, count, states = CELLS[case.cell]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    gates = case.scale * draw(case.batch, case.steps, count, case.heads, case.width)
    recurrent = case.gain * draw(count, case.heads, case.width, case.width) / max(1, case.width) ** 0.5
    bias = 0.3 * draw(count, case.heads, case.width) if case.bias else None
    state = draw(states, case.batch, case.heads, case.width) if case.state else None
    if state is not None and case.cell == "slstm":
        state[2] = 1 + state[2].abs()  # what runs from no state leave behind
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (gates, recurrent, bias, state))
    return Inputs(made, {"cell": case.cell, "reverse": case.reverse})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads the gates and writes the states; backward reads both and the cotangents of h, and writes the gates' gradient."""
    _, count, states = CELLS[case.cell]
    tensors = count + states if direction == "forward" else 2 * count + states + 1
    weights = count * case.heads * case.width**2 * (1 if direction == "forward" else 2)
    return (tensors * case.batch * case.steps * case.heads * case.width + weights) * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    """The recurrent products: one forward, two backward."""
    products = 1 if direction == "forward" else 2
    return products * 2 * case.batch * case.steps * case.heads * CELLS[case.cell][1] * case.width**2


_PAIRS = ((False, False), (True, False), (False, True), (True, True))
_SIZES = ((1, 1, 1, 1), (2, 2, 1, 3), (1, 7, 3, 2), (3, 17, 2, 5), (2, 33, 1, 7))
_SMALL = (
    Case("gru", 2, 3, 2, 3, state=True),
    *(Case(cell, 17, 3, 2, 5, state=True, reverse=True) for cell in CELLS),
    *(Case(cell, 2, 5, 1, 17, bias=False) for cell in CELLS),
    *(Case(cell, 1, 1, 1, 1) for cell in CELLS),
    Case("slstm", 2, 6, 1, 6, state=True, scale=30.0),
)
_CASES = (
    *(Case(cell, *size, state=s, reverse=r) for cell in CELLS for size in _SIZES for s, r in _PAIRS[:: 3 if size[0] == 1 else 1]),
    # a state that grows on its own way multiplies rounding errors; over many steps the weights are smaller
    *(Case(cell, 2, 67, 2, 8, bias=False, state=True, gain=0.5) for cell in CELLS),
    *(Case(cell, 2, 0, 2, 3, state=True) for cell in CELLS),
    *(Case(cell, 0, 5, 2, 3, state=True) for cell in CELLS),
    Case("gru", 2, 3, 1, 0),
    *(Case(cell, 2, 20, 1, 4, gain=0.0) for cell in CELLS),
    *(Case(cell, 2, 20, 2, 4, scale=30.0) for cell in CELLS),
    *(Case(cell, 2, 9, 1, 64) for cell in CELLS),
)

SPEC = KERNELS.add(
    KernelSpec(
        name="rnn",
        public=rnn,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=_SMALL,
        differentiable=("gates", "recurrent", "bias", "state"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        # against torch.nn, whose layers hold the input projection: studies/benchmarks/recurrent_layers.py
        benchmarks=(
            *(Benchmark(Case(cell, 32, 256, 1, 64), 2.0) for cell in CELLS),
            *(Benchmark(Case(cell, 32, 256, 4, 16), 1.5) for cell in CELLS),
        ),
        variants=variants,
    )
)
