"""A network run at given weights, its own untouched."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ...search_space.specs import OutputSpec


def run(network: nn.Module, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Outputs of ``network`` for a batch, with ``weights`` in the place of its parameters; gradients flow into them."""
    result: Tensor = torch.func.functional_call(network, dict(weights), (x,))
    return result


def loss_of(output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy for classes, mean squared error for values."""
    return nn.functional.cross_entropy if output.kind == "classes" else nn.functional.mse_loss


def with_batch_statistics(network: nn.Module) -> nn.Module:
    """``network`` in evaluation mode but for its batch norms, which use the statistics of the batch: nothing else is known of
    the values that predicted weights give."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return network
