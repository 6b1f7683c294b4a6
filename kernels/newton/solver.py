"""Newton's method over a whole sequence: every step is one evaluation of the cell at all times and one linear scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .jacobians import Structure

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9}  # their squares are far below the precision
LINEAR_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


@dataclass(frozen=True)
class Solve:
    """How a solve went.

    Args:
        steps: Newton steps taken.
        residual: the largest ``|h_t - f(h_{t-1}, x_t)| / (1 + |h_t|)`` that was found, before the last step.
        fell_back: the residual stayed above the tolerance (or was not a number), and the states come from the sequential loop.
    """

    steps: int
    residual: float
    fell_back: bool


def solve(
    differentiate: Callable[[Tensor], tuple[Tensor, Tensor]],
    structure: Structure,
    start: Tensor,
    guess: Tensor,
    *,
    max_steps: int,
    tolerance: float,
    backend: str | None = None,
) -> tuple[Tensor, Solve]:
    """States (steps, ...) with ``states[t] = f(states[t - 1])``, and the report; where it says ``fell_back`` they are no solution.

    ``differentiate(previous) -> f, jacobian`` evaluates the cell at all steps. A residual within the tolerance is followed by the
    step that its Jacobian offers: Newton converges quadratically, so that the states are then as good as their precision allows.
    """
    states = guess.clone()
    exact = 4 * torch.finfo(states.dtype).eps
    taken, worst = 0, math.inf
    while True:
        following, jacobian = differentiate(torch.cat([start[None], states[:-1]]))
        residual = following - states
        worst = residual.abs().div_(following.abs().add_(1)).max().item()  # one read of the device for each step
        if worst <= exact or taken == max_steps:
            return states, Solve(taken, worst, fell_back=not worst <= tolerance)
        if math.isfinite(worst):
            update = structure.scan(jacobian, residual, backend, False)
            if worst <= tolerance:
                update = torch.where(update.isfinite(), update, 0)
            states = states + update
        else:
            states = states.nan_to_num(0.0, 0.0, 0.0)
        taken += 1
        if worst <= tolerance:
            return states, Solve(taken, worst, fell_back=False)


def check_limits(function: str, max_steps: int, tolerance: float | None) -> None:
    """Raises ValueError: ``max_steps`` is below one, or ``tolerance`` is not a positive number."""
    if max_steps < 1:
        raise ValueError(f"The argument max_steps of {function} must be at least 1. Got {max_steps} instead.")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ValueError(f"The argument tolerance of {function} must be a positive number. Got {tolerance} instead.")
