"""The registry of zero-cost proxies, and what keeps a network as it was while one is computed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...search_space.choices import Domain
from ...search_space.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from .batch import Batch

_HOME = "archwright.evaluators.proxies"
_MODULES = ("codes", "jacobians", "gradients", "synflow", "zen", "aspect_ratio", "susceptibility")
PROXIES = Registry("proxy", tuple(f"{_HOME}.{module}" for module in _MODULES))


def proxy(name: str, *, knobs: Mapping[str, Domain] | None = None, paper: str = "") -> Callable[[Any], Any]:
    """Register a function ``(network, batch, **knobs) -> number``; larger is expected to be better.

    What is registered is called as ``(network, batch, *, seed=0, **knobs) -> float``: the function gets a copy of the network in
    training mode (batch norms use the batch) with dropout off, and random numbers from ``seed``; the network itself and the global
    generators stay as they are.

    Args:
        name: kebab-case; the metric's name in a study.
        knobs: its keyword arguments with their domains, for ``archwright list``.
        paper: title, year and arXiv number of the paper it is from.
    """

    def add(function: Callable[..., Any]) -> Callable[..., float]:
        @functools.wraps(function)
        def guarded(network: nn.Module, batch: Batch, *, seed: int = 0, **given: Any) -> float:
            import torch

            from ..training.loop import seeded
            from .skipping import DROPOUTS, Skipping

            with seeded(seed, batch.x.device), torch.enable_grad(), Skipping(DROPOUTS):
                found = function(copy.deepcopy(network).train(), batch, **given)
            return float(found.detach()) if isinstance(found, torch.Tensor) else float(found)

        PROXIES.register(name, guarded, knobs=knobs, paper=paper)
        return guarded

    return add
