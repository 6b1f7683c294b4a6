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
    AdamW: Decoupled Weight Decay Regularization (2017, arXiv 1711.05101); Adam: (2014, arXiv 1412.6980).
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if _decays(parameter)]
    spared = [parameter for parameter in parameters if not _decays(parameter)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    kind: Any = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.learning_rate, fused=all(parameter.dtype == torch.float32 for parameter in parameters))


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
