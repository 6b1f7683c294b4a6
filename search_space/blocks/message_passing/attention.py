"""How much a node hears each neighbour: the attention functions of a searched message-passing layer.

Each is a module made with (inputs, heads, hidden); ``forward(x, z, edges)`` gives the weights [E, heads] of the edges from the
nodes' features x [N, inputs] and their projections z [N, heads, hidden].
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ..initialise import linear
from .edges import softmax_at, symmetric_weights

SLOPE = 0.2


class Const(nn.Module):
    """Every neighbour counts 1."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        return z.new_ones(len(edges), self.heads)


class Symmetric(nn.Module):
    """1 / sqrt(d_i d_j): Semi-Supervised Classification with Graph Convolutional Networks (2016, 1609.02907)."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        return symmetric_weights(edges, len(x), z)[:, None].expand(-1, self.heads)


class _Scored(nn.Module, ABC):
    """Softmax of the scores over the edges into a node."""

    def forward(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        return softmax_at(edges[:, 1], self.scores(x, z, edges), len(x))

    @abstractmethod
    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        """One score for every edge and head, [E, heads]."""


class Gat(_Scored):
    """leakyrelu(a_l z_i + a_r z_j), i the target: Graph Attention Networks (2017, 1710.10903)."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(heads, hidden) * hidden**-0.5)
        self.right = nn.Parameter(torch.randn(heads, hidden) * hidden**-0.5)

    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        left, right = (z * self.left).sum(-1), (z * self.right).sum(-1)
        return leaky_relu(left[edges[:, 1]] + right[edges[:, 0]], SLOPE)


class SymmetricGat(Gat):
    """e_ij + e_ji, with e the scores of ``gat``."""

    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        return super().scores(x, z, edges) + super().scores(x, z, edges.flip(1))


class Cos(_Scored):
    """<W_1 x_i, W_2 x_j>."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.shape = (heads, hidden)
        self.left = linear(inputs, heads * hidden, bias=False)
        self.right = linear(inputs, heads * hidden, bias=False)

    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        left, right = self.left(x).unflatten(-1, self.shape), self.right(x).unflatten(-1, self.shape)
        return (left[edges[:, 1]] * right[edges[:, 0]]).sum(-1)


class Linear(_Scored):
    """tanh(a z_j)."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.right = nn.Parameter(torch.randn(heads, hidden) * hidden**-0.5)

    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        return (z * self.right).sum(-1).tanh()[edges[:, 0]]


class GeneLinear(_Scored):
    """w tanh(W_l x_i + W_r x_j)."""

    def __init__(self, inputs: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.shape = (heads, hidden)
        self.left = linear(inputs, heads * hidden, bias=False)
        self.right = linear(inputs, heads * hidden, bias=False)
        self.out = nn.Parameter(torch.randn(heads, hidden) * hidden**-0.5)

    def scores(self, x: Tensor, z: Tensor, edges: Tensor) -> Tensor:
        left, right = self.left(x).unflatten(-1, self.shape), self.right(x).unflatten(-1, self.shape)
        return ((left[edges[:, 1]] + right[edges[:, 0]]).tanh() * self.out).sum(-1)


ATTENTIONS: dict[str, type[nn.Module]] = {
    "const": Const,
    "gcn": Symmetric,
    "gat": Gat,
    "sym-gat": SymmetricGat,
    "cos": Cos,
    "linear": Linear,
    "gene-linear": GeneLinear,
}
