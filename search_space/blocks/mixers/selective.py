"""The step size and decay that a token chooses for each head, as in Mamba-2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..initialise import linear


class Decay(nn.Module):
    """``delta_t = softplus(W x_t + b)`` and ``log a_t = -delta_t exp(log_rate)``, one of each per head.

    The rate starts uniform in [1, 16] and b such that softplus(b) is log-uniform in [0.001, 0.1].
    Shapes: [B, T, D] -> two of [B, T, heads], in float32 or better.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.step = linear(width, heads, bias=False)
        start = torch.empty(heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.bias = nn.Parameter(torch.log(torch.expm1(start)))
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(1.0, 16.0).log())
        for parameter in (self.bias, self.log_rate):
            parameter.no_weight_decay = True  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pre = self.step(x)
        delta = F.softplus(pre.to(torch.promote_types(pre.dtype, torch.float32)) + self.bias)
        return delta, -delta * self.log_rate.exp()
