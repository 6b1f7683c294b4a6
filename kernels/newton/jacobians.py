"""What the Jacobian of a cell may look like, and the linear recurrence each shape leads to. Tensors are time first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scan import linear_scan
from .matrix_scan import Product, matrix_scan

Cell = Callable[[Tensor], Tensor]  # states of all rows to the next states


@dataclass(frozen=True)
class Structure:
    """One shape of Jacobian.

    Args:
        seeds: ``seeds(states)``: the cotangents (rows of the Jacobian, \\*states) by which the cell is differentiated.
        gather: ``gather(derivatives)``: the Jacobian from (rows of the Jacobian, \\*states).
        apply: ``apply(jacobian, vector)``, over any leading axes.
        transposed: the transposed Jacobian.
        scan: ``scan(jacobian, vectors, backend, reverse)``: all d_t = J_t d_{t-1} + b_t from a zero state, (steps, ...); in reverse
            d_t = J_t d_{t+1} + b_t. The Jacobian of the step that comes first is not used.
    """

    seeds: Callable[[Tensor], Tensor]
    gather: Callable[[Tensor], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]
    transposed: Callable[[Tensor], Tensor]
    scan: Callable[[Tensor, Tensor, str | None, bool], Tensor]

    def differentiate(self, cell: Cell, states: Tensor) -> tuple[Tensor, Tensor]:
        """The next states and the Jacobian, by one reverse-mode derivative for each row of it."""
        with torch.enable_grad():
            leaf = states.detach().requires_grad_()
            following = cell(leaf)
        seeds = self.seeds(following.detach())
        if not following.requires_grad:
            return following, self.gather(torch.zeros_like(seeds))
        batched = len(seeds) > 1
        (derivatives,) = torch.autograd.grad(
            following, leaf, seeds if batched else seeds[0], is_grads_batched=batched, allow_unused=True, materialize_grads=True
        )
        derivatives = derivatives if batched else derivatives[None]
        return following.detach(), self.gather(derivatives)

    def adjoint(self, jacobian: Tensor, cotangents: Tensor, backend: str | None, *, serial: bool = False) -> Tensor:
        """All l_t = g_t + J_{t+1}^T l_{t+1}, from the last step to the first; ``serial`` one step at a time, free of long products."""
        following = self.transposed(jacobian).roll(-1, 0)
        if serial:
            return self.serial(following.flip(0), cotangents.flip(0)).flip(0)
        return self.scan(following, cotangents, backend, True)

    def serial(self, jacobian: Tensor, vectors: Tensor) -> Tensor:
        """What ``scan`` computes forwards, one step at a time."""
        matrices, (state, *rest) = jacobian.unbind(0), vectors.unbind(0)
        states = [state]
        for matrix, vector in zip(matrices[1:], rest, strict=True):
            state = self.apply(matrix, state) + vector
            states.append(state)
        return torch.stack(states)


def _diagonal_scan(gates: Tensor, vectors: Tensor, backend: str | None, reverse: bool = False) -> Tensor:
    rows = (1, len(vectors), -1)
    return linear_scan(gates.reshape(rows), vectors.reshape(rows), reverse=reverse, backend=backend)[0].view(vectors.shape)


def _matrix_scan(multiply: Product, apply: Product) -> Callable[[Tensor, Tensor, str | None, bool], Tensor]:
    def scan(jacobian: Tensor, vectors: Tensor, _: str | None, reverse: bool) -> Tensor:
        if reverse:
            return matrix_scan(jacobian.flip(0), vectors.flip(0), multiply, apply).flip(0)
        return matrix_scan(jacobian, vectors, multiply, apply)

    return scan


DIAGONAL = Structure(
    seeds=lambda states: torch.ones_like(states)[None],
    gather=lambda derivatives: derivatives[0],
    apply=torch.mul,
    transposed=lambda jacobian: jacobian,
    scan=_diagonal_scan,
)


def _block_seeds(states: Tensor) -> Tensor:
    seeds = states.new_zeros((2, *states.shape))
    for component in range(2):
        seeds[component, ..., component, :] = 1
    return seeds


def _block_multiply(left: Tensor, right: Tensor) -> Tensor:
    """(..., 2, 2, width) times (..., 2, 2, width), a product of 2x2 matrices in every channel."""
    return torch.addcmul(left[..., :1, :] * right[..., :1, :, :], left[..., 1:, :], right[..., 1:, :, :])


def block_apply(block: Tensor, vector: Tensor) -> Tensor:
    """(..., 2, 2, width) times (..., 2, width)."""
    return torch.addcmul(block[..., 0, :] * vector[..., :1, :], block[..., 1, :], vector[..., 1:, :])


BLOCK2 = Structure(
    seeds=_block_seeds,
    gather=lambda derivatives: derivatives.movedim(0, -3),
    apply=block_apply,
    transposed=lambda jacobian: jacobian.transpose(-3, -2),
    scan=_matrix_scan(_block_multiply, block_apply),
)


def _seeds(states: Tensor) -> Tensor:
    width = states.shape[-1]
    return torch.eye(width, dtype=states.dtype, device=states.device)[:, None].expand(width, *states.shape)


def _dense_apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


DENSE = Structure(
    seeds=_seeds,
    gather=lambda derivatives: derivatives.movedim(0, -2),
    apply=_dense_apply,
    transposed=lambda jacobian: jacobian.mT,
    scan=_matrix_scan(torch.matmul, _dense_apply),
)

QUASI = Structure(
    seeds=_seeds,
    gather=lambda derivatives: derivatives.diagonal(dim1=0, dim2=-1),
    apply=torch.mul,
    transposed=lambda jacobian: jacobian,
    scan=_diagonal_scan,
)

STRUCTURES = {"diagonal": DIAGONAL, "block2": BLOCK2, "dense": DENSE, "quasi": QUASI}
