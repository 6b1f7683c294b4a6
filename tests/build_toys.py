"""Blocks, rules and short spellings for the tests of building."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from archwright import Architecture, Node, OutputSpec, TensorSpec
from archwright.search_space.facts import BLOCKS, RESIDUALS, block, residual
from archwright.search_space.residual import Rule, Write

TOKENS = TensorSpec("tokens", (6, 8))
IMAGE = TensorSpec("image", (1, 8, 8))
CLASSES = OutputSpec("classes", 10)
VALUES = OutputSpec("values", 4)


class Linear(nn.Module):
    """y = x W + b over the last axis, to ``width`` where it is given."""

    def __init__(self, spec: TensorSpec, *, width: int | None = None) -> None:
        super().__init__()
        self.map = nn.Linear(spec.width, width or spec.width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.map(x))


class Raising(nn.Module):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("this block is broken\nsecond line")


class Growing(Rule):
    """A rule whose stream gets wider: each write appends one channel, so ``final`` is ``total`` channels wider than ``init``."""

    def write_at(self, k: int, shared: nn.Module | None) -> Write:
        return GrowingWrite(self.spec.width)


class GrowingWrite(Write):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def read(self, stream: Tensor) -> Tensor:
        return stream[..., : self.width]

    def write(self, stream: Tensor, y: Tensor) -> Tensor:
        return torch.cat([stream, y.sum(-1, keepdim=True)], -1)

    def skip(self, stream: Tensor) -> Tensor:
        return torch.cat([stream, torch.zeros_like(stream[..., :1])], -1)


@contextmanager
def toys() -> Iterator[None]:
    """Register the blocks ``test-linear``, ``test-raising`` and the rule ``test-growing`` for a while."""
    list(BLOCKS), list(RESIDUALS)
    block("test-linear", "op", ("tokens", "vector"))(Linear)
    block("test-raising", "op", ("tokens",))(Raising)
    residual("test-growing", norm="branch")(Growing)
    try:
        yield
    finally:
        del BLOCKS._entries["test-linear"], BLOCKS._entries["test-raising"], RESIDUALS._entries["test-growing"]


def graph(*nodes: tuple[Any, ...], output: str | None = None) -> Architecture:
    """``graph(("a", "gelu", "input"), ("b", "sum", "a", "a", {...}))``: nodes after an input called ``input``."""
    made = [Node("input", "input")]
    for name, kind, *rest in nodes:
        params = next((item for item in rest if isinstance(item, dict)), {})
        weights = params.get("weights")
        kept = {key: value for key, value in params.items() if key != "weights"}
        made.append(Node(name, kind, tuple(item for item in rest if isinstance(item, str)), kept, weights))
    return Architecture(tuple(made), output or made[-1].name)


def body(kind: str = "test-linear", **params: Any) -> Architecture:
    """A cell of one block called ``op``."""
    return Architecture((Node("x", "input", (), {"index": 0}), Node("op", kind, ("x",), params)), "op")


def batch(spec: TensorSpec = TOKENS, size: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(size, *spec.shape, generator=torch.Generator().manual_seed(seed))
