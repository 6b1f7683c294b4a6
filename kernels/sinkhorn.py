"""Doubly stochastic matrices from logits, by Sinkhorn's iteration on logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from .function import accumulate_dtype


def sinkhorn(logits: Tensor, iterations: int = 20) -> Tensor:
    """``exp(logits)`` with rows and columns scaled in turn until both sum to one, as the mixing matrices of hyper-connections want.

    Args:
        logits: (..., n, n).
        iterations: how often rows, then columns are scaled. Columns sum to one to rounding; rows approach it.

    Returns:
        (..., n, n), positive, in the dtype of ``logits``. Everything is computed as logarithms in float32 or better, so that no
        logit overflows. Gradients go through the iterations; matrices are so small (n up to 8 or so) that plain PyTorch serves.

    Raises:
        ValueError: the logits are not square, or there is no iteration.

    Paper: mHC: Manifold-Constrained Hyper-Connections (2025, 2512.24880).
    """
    if logits.dim() < 2 or logits.shape[-1] != logits.shape[-2]:
        raise ValueError(f"sinkhorn needs logits of shape (..., n, n). Got {tuple(logits.shape)} instead.")
    if iterations < 1:
        raise ValueError(f"sinkhorn needs at least one iteration. Got {iterations!r} instead.")
    logs = logits.to(accumulate_dtype(logits))
    for _ in range(iterations):
        logs = torch.log_softmax(logs, -1)
        logs = torch.log_softmax(logs, -2)
    return torch.exp(logs).to(logits.dtype)
