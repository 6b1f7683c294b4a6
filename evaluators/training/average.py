"""The running mean of a network's weights, which is what gets evaluated and kept."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(network: nn.Module, memory: float) -> Any:
    """An ``AveragedModel`` whose weights follow ``w <- d w + (1 - d) w_now``, d = 1 - 1 / memory, memory in optimizer steps.

    Its curve is smoother than that of the last weights, so that half a training says more about the end of it, and its final
    accuracy is rarely worse. Floating buffers (running statistics) are averaged like the weights.
    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992).
    """
    decay = 1.0 - 1.0 / max(1.0, memory)
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
