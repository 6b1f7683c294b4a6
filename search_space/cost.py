"""What a network costs: parameters, operations and activation memory counted without training, latency measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .architecture import Architecture
from .build import drawn, plan_network
from .network import Network
from .shapes import inputs_of, zeros_of
from .specs import OutputSpec, TensorSpec

MOST_ON_CPU = 2_000_000  # parameters


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts for one sample; for a node of a graph with one edge to it, where nodes are the samples.

    Args:
        params: learnable numbers; shared ones once.
        flops: floating-point operations of a forward pass: two per multiply-add of matrix products, convolutions and attention,
            one per element that any other operation computes (views and copies of tensors are free).
        activation_bytes: memory that a forward pass keeps for the backward pass, parameters not counted.
    """

    params: int
    flops: int
    activation_bytes: int

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def cost(architecture: Architecture, input: TensorSpec, output: OutputSpec) -> Cost:
    """Count a network by running one sample through it.

    Small networks run on the CPU, which is quick; larger ones on the meta device, where nothing of their size is allocated.
    Attention counts as its plain form on both, so that the counts are the same.

    Raises:
        BuildError: the architecture cannot be built.
    """
    plan = plan_network(architecture, input, output)
    network = plan.meta(Network)
    params = sum(parameter.numel() for parameter in network.parameters())
    device = "meta"
    if params <= MOST_ON_CPU:
        device, network = "cpu", drawn(plan)
    return Cost(params, *_run(network, *_sample(input, 1, device)))


def latency(network: nn.Module, spec: TensorSpec, *, device: str = "cpu", batch: int = 1, repeats: int = 20) -> float:
    """Median seconds of a forward pass in evaluation mode, over ``repeats`` runs after three that are not counted.

    The network is moved to ``device`` and left there, in the mode it had. On CUDA each run is timed by events on the device.
    """
    was_training = network.training
    network = network.to(device).eval()
    x, ports = _sample(spec, batch, device)
    timed = _cuda_seconds if torch.device(device).type == "cuda" else _cpu_seconds
    with torch.no_grad():
        for _ in range(3):
            network(x, **ports)
        seconds = sorted(timed(lambda: network(x, **ports)) for _ in range(repeats))
    network.train(was_training)
    return seconds[len(seconds) // 2]


def _cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _cuda_seconds(run: Callable[[], Any]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _sample(spec: TensorSpec, count: int, device: str) -> tuple[Tensor, dict[str, Tensor]]:
    """What a network reads: ``count`` samples, and as many edges where they are the nodes of a graph."""
    given = {key: zeros_of(one, count, device) for key, one in inputs_of(spec).items()}
    return given[0], {key: value for key, value in given.items() if isinstance(key, str)}


def _run(network: nn.Module, x: Tensor, ports: dict[str, Tensor]) -> tuple[int, int]:
    """Operations and kept bytes of one training-mode pass over ``x``; batch norm is given its running statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # one sample of one pixel has no statistics of its own
    held: dict[int, int] = {}
    owned = {_storage(tensor) for tensor in [*network.parameters(), *network.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in owned:
            held[_storage(tensor)] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    alive: list[Tensor] = []  # a storage freed and made anew would be counted once
    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), saving, sdpa_kernel(SDPBackend.MATH), _Counter() as counter:
        network(x, **ports)
    return counter.flops, sum(held.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Counter(TorchDispatchMode):
    """Adds up the operations that run while it is active."""

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.flops += _flops(func, args, kwargs or {}, result)
        return result


_MOVES = ("clone", "_to_copy", "copy_", "cat", "stack", "detach", "embedding", "index_select")
_MAKES = ("empty", "zeros", "ones", "full", "arange", "new_")


def _flops(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    if func._overloadpacket in flop_registry:
        return int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=result))
    if func.is_view or func._overloadpacket.__name__.startswith((*_MOVES, *_MAKES)):
        return 0
    return max((prod(leaf.shape) for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)), default=0)
