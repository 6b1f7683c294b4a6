"""Small blocks with known facts, and graphs made of them, for the tests of the normal form and the digest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Integer, OneOf, Real
from archwright.search_space.facts import BLOCKS, RESIDUALS, block, residual

FACTS: dict[str, dict[str, Any]] = {
    "test-conv": {"keeps_zero": True},
    "test-linear": {},
    "test-pool": {"keeps_zero": True, "parameters": False},
    "test-shift": {"parameters": False},
    "test-dropout": {"keeps_zero": True, "parameters": False, "random": True},
    "test-product": {"keeps_zero": True, "parameters": False, "commutative": True},
    "test-mix": {"keeps_zero": True, "commutative": True},
    "test-values": {"outputs": ("values",)},
    "test-branches": {},
    "test-resize": {"keeps_zero": True, "parameters": False},
}


BUILT = "a digest and a normal form look at facts; they build no module"


def _factory(name: str) -> Any:
    def make(*specs: Any, **params: Any) -> None:
        raise AssertionError(BUILT)

    make.__qualname__ = name
    return make


def _knobbed(*specs: Any, output: Any = None, heads: int = 4, rate: float = 0.5, size: Any = 3, name: str = "plain") -> None:
    raise AssertionError(BUILT)


def _rule(spec: Any, total: int, *, streams: int = 2) -> None:
    raise AssertionError(BUILT)


@contextmanager
def test_blocks() -> Iterator[None]:
    """Register the blocks for a while, so that no other test meets them."""
    for name, facts in FACTS.items():
        block(name, "op", ("image",), **facts)(_factory(name))
    knobs = {"heads": Integer(1, 8), "rate": Real(0.0, 1.0), "size": OneOf((3, 5, "full"))}
    block("test-knobs", "mixer", knobs=knobs)(_knobbed)
    residual("test-rule", norm="none")(_rule)
    try:
        yield
    finally:
        for name in (*FACTS, "test-knobs"):
            del BLOCKS._entries[name]
        del RESIDUALS._entries["test-rule"]


test_blocks.__test__ = False  # type: ignore[attr-defined]


def graph(output: str, *, ports: dict[str, str] | None = None, **nodes: Any) -> Architecture:
    """``graph("b", a=("test-conv", "x"), b=("sum", "x", "a"))``: nodes as (block, inputs..., [params], [weights=...]).

    The top-level input is called ``x``. A dictionary among the inputs holds the params; its key ``weights`` is the shared node.
    """
    made = [] if "x" in nodes else [Node("x", "input")]
    for name, (kind, *rest) in nodes.items():
        params: dict[str, Any] = {}
        for item in rest:
            params |= item if isinstance(item, dict) else {}
        weights = params.pop("weights", None)
        made.append(Node(name, kind, tuple(item for item in rest if isinstance(item, str)), params, weights))
    return Architecture(tuple(made), output, ports or {})


def renamed(architecture: Architecture, rng: random.Random) -> Architecture:
    """The same network with new node names in another order, the inputs of commutative blocks shuffled."""
    fresh = [f"n{number}" for number in range(len(architecture.nodes))]
    rng.shuffle(fresh)
    names = {node.name: name for node, name in zip(architecture.nodes, fresh, strict=True)}

    def spell(reference: str) -> str:
        name, colon, port = reference.partition(":")
        return names[name] + colon + port

    nodes = []
    for node in architecture.nodes:
        inputs = [spell(reference) for reference in node.inputs]
        if node.block in ("sum", "test-product", "test-mix"):
            rng.shuffle(inputs)
        nodes.append(Node(names[node.name], node.block, tuple(inputs), node.params, names[node.weights] if node.weights else None))
    rng.shuffle(nodes)
    ports = {port: spell(reference) for port, reference in architecture.ports.items()}
    return Architecture(tuple(nodes), spell(architecture.output), ports, architecture.training)
