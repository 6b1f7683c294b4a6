"""A short depthwise convolution over time, alone a mixer's core, and before a gated recurrence its view of the last tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ShortConv(nn.Module):
    """``y_t = sum_j w_j x_{t-k+1+j} + b`` for every channel on its own; with ``causal=False`` the window is centred on t.

    Computed as k shifted products, which on CPU is quicker than a grouped convolution for windows this short.

    Args:
        width: number of channels D.
        size: window length k.

    Shapes: [B, T, D] -> [B, T, D]. Past: the last k - 1 inputs, [B, k - 1, D]; None is zeros.
    """

    def __init__(self, width: int, size: int, *, causal: bool = True) -> None:
        super().__init__()
        self.size, self.causal = size, causal
        self.weight = nn.Parameter(torch.empty(size, width).normal_(std=size**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = x.shape[1]
        window = self._padded(x) if past is None else torch.cat([past, x], dim=1)
        y = self.bias + window[:, :steps] * self.weight[0]
        for lag in range(1, self.size):
            y = torch.addcmul(y, window[:, lag : lag + steps], self.weight[lag])
        return y, window[:, steps:]

    def _padded(self, x: Tensor) -> Tensor:
        ahead = 0 if self.causal else (self.size - 1) // 2
        return F.pad(x, (0, 0, self.size - 1 - ahead, ahead))
