"""The definition: the basis of every input as one tensor (..., G, Din), then one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


def reference(
    x: Tensor, weight: Tensor, grid: Tensor | None = None, *, basis: str = "bspline", order: int = 3, low: float = -1.0, high: float = 1.0
) -> Tensor:
    """``y_o = sum_i sum_g phi_g(x_i) W_oig`` in the dtype of the inputs."""
    if grid is None:
        grid = uniform_grid(basis, weight.shape[2], order, low, high, x)
    expanded = expand(x, grid, basis, order, weight.shape[2])
    return (expanded.flatten(-2) @ weight.transpose(1, 2).flatten(1).T).to(x.dtype)


def uniform_grid(basis: str, count: int, order: int, low: float, high: float, like: Tensor) -> Tensor | None:
    """The grid that ``grid=None`` stands for, in the dtype of ``like``; polynomials have none."""
    if basis == "chebyshev":
        return None
    index = torch.arange(count, dtype=torch.float64, device=like.device)
    if basis == "rbf":
        spacing = (high - low) / (count - 1)
        return torch.stack([low + spacing * index, torch.full_like(index, spacing)]).to(like.dtype)
    spacing = (high - low) / (count - order)
    if basis == "relu":
        starts = low + spacing * (index - order)
        return torch.stack([starts, starts + (order + 1) * spacing]).to(like.dtype)
    knots = torch.arange(-order, count + 1, dtype=torch.float64, device=like.device)
    return (low + spacing * knots).to(like.dtype)


def expand(x: Tensor, grid: Tensor | None, basis: str, order: int, count: int) -> Tensor:
    """phi, (..., G, Din)."""
    if grid is None:
        return _chebyshev(x, count)
    x = x.unsqueeze(-2)
    if basis == "bspline":
        return _cox_de_boor(x, _by_function(grid.detach()), order)
    first, second = map(_by_function, grid.unbind(0))
    if basis == "rbf":
        return torch.exp(-((x - first) / second).square())
    return (4 * torch.relu(x - first) * torch.relu(second - x) / (second - first).square()).square()


def _by_function(grid: Tensor) -> Tensor:
    """(G) or (Din, G) as (G, 1) or (G, Din)."""
    return grid.unsqueeze(-1) if grid.dim() == 1 else grid.T


def _chebyshev(x: Tensor, count: int) -> Tensor:
    t = torch.tanh(x)
    values = [torch.ones_like(t), t]
    while len(values) < count:
        values.append(2 * t * values[-1] - values[-2])
    return torch.stack(values[:count], dim=-2)


def _cox_de_boor(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """The recursion over orders; a division by a knot interval of no length counts as zero."""
    values = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for p in range(1, order + 1):
        start, end = knots[: -p - 1], knots[p:-1]
        next_start, next_end = knots[1:-p], knots[p + 1 :]
        rising = _ratio(x - start, end - start)
        falling = _ratio(next_end - x, next_end - next_start)
        values = rising * values[..., :-1, :] + falling * values[..., 1:, :]
    return values


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
