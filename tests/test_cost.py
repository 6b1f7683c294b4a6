"""Counts against formulas and against the built network."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import archwright.search_space.cost as counting
from archwright import SPACES, TensorSpec, build, chain, cost, layer, pooled_head, tokens
from archwright.search_space.cost import latency

from .build_toys import CLASSES, IMAGE, TOKENS, VALUES, graph


def counted(*nodes: Any, spec: TensorSpec = TOKENS) -> Any:
    return cost(graph(*nodes), spec, VALUES)


def test_a_linear_head_costs_what_it_must() -> None:
    """Pooling reads 8 numbers; 8 x 4 multiply-adds count twice, the 4 biases are part of the product."""
    found = counted(("h", "pooled-head", "input"), spec=TensorSpec("vector", (8,)))
    assert (found.params, found.flops) == (8 * 4 + 4, 2 * 8 * 4)


def test_a_convolution_costs_two_operations_per_multiply_add() -> None:
    found = counted(("c", "conv-stem", "input", {"width": 4}), spec=IMAGE)
    assert found.params == 1 * 9 * 4 + 2 * 4
    assert found.flops == 2 * 9 * 4 * 64 + 4 * 64  # and one per element of the norm


def test_shared_weights_count_once_and_work_twice() -> None:
    once = counted(("a", "mlp", "input"))
    twice = counted(("a", "mlp", "input"), ("b", "mlp", "a", {"weights": "a"}))
    assert twice.params == once.params
    assert twice.flops == 2 * once.flops


def test_dropped_shapes_cost_nothing() -> None:
    assert counted(("a", "identity", "input")) == counting.Cost(0, 0, 0)


def test_activation_memory_is_what_backward_needs() -> None:
    """relu keeps its output: 48 numbers of 4 bytes. A sum keeps nothing."""
    assert counted(("a", "mlp", "input", {"activation": "relu", "ratio": 1.0})).activation_bytes == 4 * (48 + 48)
    assert counted(("a", "sum", "input", "input")).activation_bytes == 0


@pytest.mark.parametrize("name", ["token-mixers", "conv-cells"])
def test_params_equal_the_built_network_on_samples(name: str) -> None:
    space, rng = SPACES[name].obj.for_input(IMAGE), random.Random(3)
    for _ in range(6):
        arch, _ = space.sample(rng)
        found = cost(arch, IMAGE, CLASSES)
        assert found.params == sum(p.numel() for p in build(arch, IMAGE, CLASSES).parameters())
        assert found.flops > 0


def test_large_networks_are_counted_without_memory_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    mixers = ["attention", "hopfield", "gru", "rg-lru", "depthwise-conv"]
    arch = chain(tokens(16, patch=2), [layer(m, "swiglu") for m in mixers], pooled_head(), residual="hyper-connections")
    small = cost(arch, IMAGE, CLASSES)
    monkeypatch.setattr(counting, "MOST_ON_CPU", 0)
    assert cost(arch, IMAGE, CLASSES) == small
    huge = chain(tokens(8192, patch=2), [layer("attention", "mlp")] * 20, pooled_head())
    assert cost(huge, IMAGE, CLASSES).params > 8_000_000_000


def test_counting_leaves_random_state_alone() -> None:
    before = torch.get_rng_state()
    counted(("a", "mlp", "input"))
    assert torch.equal(before, torch.get_rng_state())


def test_latency_is_a_time_and_leaves_the_mode() -> None:
    net = build(graph(("h", "pooled-head", "input")), TOKENS, VALUES).train()
    assert 0.0 < latency(net, TOKENS, repeats=3) < 10.0
    assert net.training
