"""All states of d_t = J_t d_{t-1} + b_t where J_t is a matrix: time first, in chunks, from a zero state."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor], Tensor]


def matrix_scan(matrices: Tensor, vectors: Tensor, multiply: Product, apply: Product, *, chunk: int | None = None) -> Tensor:
    r"""The states of :math:`d_t = J_t d_{t-1} + b_t, d_0 = b_0`, where ``vectors`` holds b.

    Chunks of about sqrt(steps / 2) steps run side by side twice: first from zero, together with the product of their matrices, which
    carries the state from chunk to chunk; then from the state that enters each. That is about 3 sqrt(2 steps) tensor operations, and
    no product longer than a chunk.

    Args:
        matrices: J, (steps, ...); the first is not used.
        vectors: b, (steps, ...).
        multiply: the product of two matrices, over any leading axes.
        apply: matrix times vector, over any leading axes.
        chunk: steps per chunk.
    """
    steps = len(vectors)
    size = chunk or max(8, 2 ** round(math.log2(max(steps, 2) / 2) / 2))
    states = torch.empty_like(vectors)
    entering = _entering(matrices, vectors, multiply, apply, size) if steps > size else None
    state = vectors[::size]
    if entering is not None:
        state = torch.cat([state[:1], state[1:] + apply(matrices[size::size], entering)])
    states[::size] = state
    for step in range(1, min(size, steps)):
        matrix = matrices[step::size]
        state = apply(matrix, state[: len(matrix)]) + vectors[step::size]
        states[step::size] = state
    return states


def _entering(matrices: Tensor, vectors: Tensor, multiply: Product, apply: Product, size: int) -> Tensor:
    """The state that enters each chunk but the first."""
    carried = (len(vectors) - 1) // size  # every chunk but the last has a successor
    product, partial = matrices[::size][:carried], vectors[::size][:carried]
    for step in range(1, size):
        matrix = matrices[step::size][:carried]
        product, partial = multiply(matrix, product), apply(matrix, partial) + vectors[step::size][:carried]
    state = partial[0]
    entering = [state]
    for whole, own in zip(product[1:].unbind(0), partial[1:].unbind(0), strict=True):
        state = apply(whole, state) + own
        entering.append(state)
    return torch.stack(entering)
