"""The running mean of a network's weights, which is what gets evaluated and kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaged(network: nn.Module, memory: float) -> Any:
    """An ``AveragedModel`` whose weights follow ``w <- d w + (1 - d) w_now``, d = 1 - 1 / memory, memory in optimizer steps.

    Its curve is smoother than that of the last weights, so that half a training says more about the end of it, and its final
    accuracy is rarely worse. Floating buffers (running statistics) are averaged like the weights.
    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992).
    """
    decay = 1.0 - 1.0 / max(1.0, memory)
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def follower(average: Any, network: nn.Module) -> Callable[[], None]:
    """A function that lets ``average`` follow ``network`` by one step: a copy at first, then one fused update per dtype.

    Its later calls read no value on the host, so that they can be part of a CUDA graph.
    """
    pairs: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    means, now = (chain(module.parameters(), module.buffers()) for module in (average.module, network))
    for mean, current in zip(means, now, strict=True):
        kept, followed = pairs[mean.dtype]
        kept.append(mean.detach())
        followed.append(current.detach())

    def follow() -> None:
        if not int(average.n_averaged):  # lives on the CPU
            average.update_parameters(network)
            return
        for kept, followed in pairs.values():
            average.multi_avg_fn(kept, followed, average.n_averaged)

    return follow
