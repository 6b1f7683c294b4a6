"""From the state of a node to a tensor of any shape: decoded at a fixed size, then tiled and sliced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .graph import Sizes


class MatrixDecoder(nn.Module):
    """States [t, d] to tensors [t, rows, columns, S, S].

    ``relu(Linear(d, 4 d S S))`` as [4 d, S, S], then 1x1 convolutions to [rows columns, S, S]. Only what the target needs is
    computed, which gives the same numbers as slicing afterwards.

    Args:
        d: width of the states.
        rows, columns: most outputs and inputs that are told apart; larger tensors repeat them.
        side: S, likewise for kernels.
        layers: 1x1 convolutions with a ReLU before the last one.
    """

    def __init__(self, d: int, rows: int, columns: int, side: int, layers: int = 1) -> None:
        super().__init__()
        self.width, self.side = 4 * d, side
        self.lift = nn.Linear(d, self.width * side * side)
        self.mix = nn.ModuleList(nn.Linear(self.width, self.width) for _ in range(layers))
        self.weight = nn.Parameter(torch.empty(rows, columns, self.width))
        self.bias = nn.Parameter(torch.zeros(rows, columns))
        for linear in (self.lift, *self.mix):
            _start_relu(linear)
        nn.init.normal_(self.weight, std=self.width**-0.5)

    def forward(self, states: Tensor, sizes: Sizes) -> Tensor:
        """Tensors [t, *sizes] of about unit variance."""
        out, into, high, wide = (min(size, most) for size, most in zip(sizes, (*self.weight.shape[:2], self.side, self.side), strict=True))
        x = self.lift(states).relu().view(-1, self.width, self.side, self.side)[:, :, :high, :wide]
        x = x.permute(0, 2, 3, 1)
        for linear in self.mix:
            x = linear(x).relu()
        w = torch.einsum("tabh,oih->toiab", x, self.weight[:out, :into]) + self.bias[:out, :into, None, None]
        return tiled(w, sizes)


class VectorDecoder(nn.Module):
    """States [t, d] to vectors by an ``MLP(d, 2 d, 2 length)``: scales in the first half, biases in the second."""

    def __init__(self, d: int, length: int) -> None:
        super().__init__()
        self.length = length
        self.hidden, self.out = nn.Linear(d, 2 * d), nn.Linear(2 * d, 2 * length)
        _start_relu(self.hidden)
        nn.init.normal_(self.out.weight, std=(2 * d) ** -0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: Tensor, size: int, *, scale: bool) -> Tensor:
        """Vectors [t, size] of about unit variance."""
        both = self.out(self.hidden(states).relu())
        return tiled(both[:, : self.length] if scale else both[:, self.length :], (size,))


def tiled(w: Tensor, target: Sequence[int]) -> Tensor:
    """``tile(w, ceil(target / size))[:target]`` on every axis but the first: [t, *sizes] -> [t, *target]."""
    times = [-(-wanted // has) for wanted, has in zip(target, w.shape[1:], strict=True)]
    if max(times) > 1:
        w = w.repeat(1, *times)
    return w[(slice(None), *(slice(wanted) for wanted in target))]


def _start_relu(linear: nn.Linear) -> None:
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
