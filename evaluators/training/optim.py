"""Optimizers by name, what weight decay spares, and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .recipe import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over two groups: matrices, which decay, and the rest, which does not.

    Spared are parameters of fewer than two axes (biases, norm scales) and those a block marks with ``no_weight_decay = True``.
    On CUDA its step can be part of a CUDA graph: the rate is a tensor, and nothing is read on the host.
    AdamW: Decoupled Weight Decay Regularization (2017, arXiv 1711.05101); Adam: (2014, arXiv 1412.6980).
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if _decays(parameter)]
    spared = [parameter for parameter in parameters if not _decays(parameter)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    fused = all(parameter.dtype == torch.float32 for parameter in parameters)
    on_cuda = bool(parameters) and parameters[0].is_cuda
    rate: Any = torch.tensor(recipe.learning_rate, device=parameters[0].device) if on_cuda and fused else recipe.learning_rate
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, fused=on_cuda and fused)
    kind: Any = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, fused=fused, capturable=on_cuda)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate; a rate that is a tensor keeps its memory, which a CUDA graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _decays(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not getattr(parameter, "no_weight_decay", False)


def rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """The share of the peak learning rate at optimizer step ``step`` (0, 1, ...) of ``steps``.

    Linear warm-up over the first ``warmup`` of the steps, then ``(1 + cos(pi p)) / 2`` with p the progress through the rest.
    A pure function of the step, so that a resumed training has nothing to restore.
    SGDR: Stochastic Gradient Descent with Warm Restarts (2016, arXiv 1608.03983), one cycle.
    """
    warm = math.ceil(steps * recipe.warmup)
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
