r"""Newton's method over time: a nonlinear recurrence solved for all its steps at once.

.. math:: h_t = f(h_{t-1}, x_t, \theta), \qquad t = 1 \dots T

is a system of equations for all states together. A Newton step linearises it around the present guess, which leaves a linear
recurrence, and that is a scan:

.. math:: d_t = J_t d_{t-1} + \big(f(h_{t-1}, x_t) - h_t\big), \quad d_0 = 0, \quad h_t \leftarrow h_t + d_t, \qquad
          J_t = \partial f / \partial h \,(h_{t-1}, x_t)

After k steps the first k states are exact whatever the guess was; near the solution convergence is quadratic. Gradients come from the
solution alone, by one scan backwards, :math:`l_t = g_t + J_{t+1}^\top l_{t+1}`, and one vector-Jacobian product of the cell at all
times: no Newton step is differentiated.

"Parallelizing non-linear sequential models over the sequence length" (2023, 2309.12252) and "ParaRNN: Unlocking Parallel Training of
Nonlinear RNNs for Large Language Models" (2025, 2510.21450); the diagonal of a dense Jacobian in its place ("quasi") is from "Towards
Scalable and Stable Parallelization of Nonlinear RNNs" (2024, 2407.19115).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from .jacobians import DENSE, QUASI, STRUCTURES, Structure
from .solver import LINEAR_TOLERANCE, TOLERANCE, Solve, check_limits, solve

__all__ = ["Solve", "newton_scan"]

Derivative = Callable[..., tuple[Tensor, Tensor]]


def newton_scan(
    cell: Callable[..., Tensor],
    h0: Tensor,
    inputs: Tensor,
    parameters: Sequence[Tensor] = (),
    *,
    jacobian: str = "diagonal",
    derivative: Derivative | None = None,
    guess: Tensor | None = None,
    max_steps: int = 10,
    tolerance: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Solve]:
    """All states of ``h_t = cell(h_{t-1}, x_t, *parameters)``, in parallel over time.

    >>> def cell(h, x, w):
    ...     return torch.tanh(h @ w + x)
    >>> states, report = newton_scan(cell, torch.zeros(2, 4), torch.randn(2, 50, 4), [0.3 * torch.eye(4)], jacobian="dense")
    >>> states.shape, report.fell_back
    (torch.Size([2, 50, 4]), False)

    Args:
        cell: ``cell(h, x, *parameters)``: the next states, for rows that do not know of each other: h is (rows, \\*state), x is
            (rows, \\*features). Tensors that it closes over receive no gradients; name them as ``parameters``.
        h0: the state before the first step, (batch, \\*state).
        inputs: (batch, steps, \\*features).
        parameters: tensors of any shape.
        jacobian: what the derivative of a row's next state by its state looks like: ``diagonal``; ``block2``, a 2x2 matrix in every
            channel of a state (batch, 2, width); ``dense``, any matrix for a state (batch, width), width small; or ``quasi``: it is
            dense and Newton's steps use its diagonal (more steps, each cheaper; the gradients use all of it).
        derivative: ``derivative(h, x, *parameters)``: the next states and the Jacobian in closed form, of shape (rows, \\*state) for
            ``diagonal`` and ``quasi``, (rows, 2, 2, width) with ``[:, i, j]`` the derivative of component i by component j for
            ``block2``, (rows, width, width) for ``dense``. None differentiates the cell by autograd, once for each row of the Jacobian.
        guess: states to start from, (batch, steps, \\*state); None is one step of the cell from zero.
        max_steps: Newton steps before the sequential loop takes over.
        tolerance: the residual, relative to 1 + the state, from which one more step ends the solve; None is 2e-5 in float32 and 1e-9
            in float64, and for ``quasi``, which converges only linearly, 1e-6 and 1e-12. The residual is read after each step, so
            that a solve cannot be captured in a CUDA graph.
        backend: of the diagonal scan; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        states: (batch, steps, \\*state) in the dtype of ``inputs``, computed in float32 (float64 for float64 inputs).
        report: the steps taken, the residual, and whether the sequential loop had to compute the states.

    Gradients flow to ``h0``, ``inputs`` and ``parameters``; second derivatives go through the sequential loop.

    Raises:
        ValueError: shapes do not match, or an argument is out of its range.
    """
    structure = _checked(h0, inputs, jacobian, guess)
    check_limits("newton_scan", max_steps, tolerance)
    dtype = accumulate_dtype(h0, inputs, *parameters)
    args = tuple(tensor.to(dtype) for tensor in (h0, inputs, *parameters))
    options: dict[str, Any] = {"cell": cell, "derivative": derivative, "structure": structure, "backend": backend}
    if inputs.numel() == 0 or h0.numel() == 0:
        return reference(*args, cell=cell).to(inputs.dtype), Solve(0, 0.0, fell_back=False)
    with torch.no_grad():
        states, report = _solved(args, guess, max_steps, tolerance, options)
    (states,) = fused(_CORE, *args, solution=states, serial=report.fell_back, **options)
    return states.to(inputs.dtype), report


def _checked(h0: Tensor, inputs: Tensor, jacobian: str, guess: Tensor | None) -> Structure:
    if jacobian not in STRUCTURES:
        raise ValueError(f'The argument jacobian of newton_scan must be one of {", ".join(STRUCTURES)}. Got "{jacobian}" instead.')
    if inputs.dim() < 2 or h0.dim() < 2 or len(h0) != len(inputs):
        raise ValueError(
            "newton_scan needs h0 of shape (batch, *state) and inputs of shape (batch, steps, *features). "
            f"Got {tuple(h0.shape)} and {tuple(inputs.shape)}."
        )
    if jacobian == "block2" and (h0.dim() != 3 or h0.shape[1] != 2):
        raise ValueError(f'newton_scan with jacobian="block2" needs h0 of shape (batch, 2, width). Got {tuple(h0.shape)} instead.')
    if jacobian in ("dense", "quasi") and h0.dim() != 2:
        raise ValueError(f'newton_scan with jacobian="{jacobian}" needs h0 of shape (batch, width). Got {tuple(h0.shape)} instead.')
    expected = (len(h0), inputs.shape[1], *h0.shape[1:])
    if guess is not None and guess.shape != expected:
        raise ValueError(f"newton_scan needs a guess of shape {expected}, (batch, steps, *state). Got {tuple(guess.shape)} instead.")
    return STRUCTURES[jacobian]


def reference(h0: Tensor, inputs: Tensor, *parameters: Tensor, cell: Callable[..., Tensor], **_: Any) -> Tensor:
    """The recurrence one step at a time: the definition, and what is returned where Newton does not converge."""
    state, states = h0, []
    for x in inputs.unbind(1):
        state = cell(state, x, *parameters)
        states.append(state)
    return torch.stack(states, 1) if states else h0.new_zeros((len(h0), 0, *h0.shape[1:]))


def _solved(args: Tensors, guess: Tensor | None, max_steps: int, tolerance: float | None, options: dict[str, Any]) -> tuple[Tensor, Solve]:
    """The states (batch, steps, ...) by Newton, or by the loop where Newton fails."""
    h0, inputs, *parameters = args
    x = inputs.transpose(0, 1).contiguous()
    if guess is None:
        rows = x.flatten(0, 1)
        first = options["cell"](h0.new_zeros((len(rows), *h0.shape[1:])), rows, *parameters)
        if first.shape != (len(rows), *h0.shape[1:]):
            raise ValueError(f"The cell must return rows of shape {tuple(h0.shape[1:])} like its state. Got {tuple(first.shape[1:])}.")
        start = first.unflatten(0, x.shape[:2])
    else:
        start = guess.to(h0.dtype).transpose(0, 1)
    differentiate = _differentiator(options["structure"], options, x, parameters)
    if tolerance is None:
        tolerance = (LINEAR_TOLERANCE if options["structure"] is QUASI else TOLERANCE)[h0.dtype]
    states, report = solve(
        differentiate, options["structure"], h0, start, max_steps=max_steps, tolerance=tolerance, backend=options["backend"]
    )
    return reference(*args, cell=options["cell"]) if report.fell_back else states.transpose(0, 1), report


def _differentiator(
    structure: Structure, options: dict[str, Any], x: Tensor, parameters: Sequence[Tensor]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """``previous -> next states, Jacobian`` for all (steps, batch) rows at once."""
    rows = x.detach().flatten(0, 1)
    parameters = [parameter.detach() for parameter in parameters]

    def differentiate(previous: Tensor) -> tuple[Tensor, Tensor]:
        h = previous.flatten(0, 1)
        if options["derivative"] is not None and structure is options["structure"]:
            following, found = options["derivative"](h, rows, *parameters)
        else:
            following, found = structure.differentiate(lambda states: options["cell"](states, rows, *parameters), h)
        return following.unflatten(0, x.shape[:2]), found.unflatten(0, x.shape[:2])

    return differentiate


def _forward(*_: Tensor, solution: Tensor, **__: Any) -> tuple[Tensors, Optional]:
    return (solution,), ()


def _backward(args: Tensors, outputs: Tensors, saved: Optional, cotangents: Tensors, wanted: tuple[bool, ...], **options: Any) -> Optional:
    """The adjoint by one scan at the solution, then one vector-Jacobian product of the cell at all times."""
    h0, inputs, *parameters = args
    x, states, cotangent = (tensor.transpose(0, 1) for tensor in (inputs, outputs[0], cotangents[0]))
    previous = torch.cat([h0[None], states[:-1]])
    structure = DENSE if options["structure"] is QUASI else options["structure"]
    _, jacobian = _differentiator(structure, options, x, parameters)(previous)
    adjoint = structure.adjoint(jacobian, cotangent, options["backend"], serial=options["serial"])
    dh0 = structure.apply(structure.transposed(jacobian[0]), adjoint[0]) if wanted[0] else None
    leaves = [tensor.detach().requires_grad_(want) for tensor, want in zip((inputs, *parameters), wanted[1:], strict=True)]
    if not any(wanted[1:]):
        return (dh0, *(None for _ in leaves))
    with torch.enable_grad():
        rows = leaves[0].transpose(0, 1).flatten(0, 1)
        following = options["cell"](previous.flatten(0, 1), rows, *leaves[1:])
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(following, asked, adjoint.flatten(0, 1), allow_unused=True))
    return (dh0, *(next(found) if leaf.requires_grad else None for leaf in leaves))


_CORE = Core(_forward, _backward, reference, keeps_outputs=True)
