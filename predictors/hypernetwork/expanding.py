"""The graph a hypernetwork reads: cells and loops written out, and layers taken apart into their branches and writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...search_space.architecture import Architecture, cells_of
from ...search_space.inlining import FlatGraph, FlatNode, inlined, input_key
from ...search_space.network import key_of
from ...search_space.streams import Streams, owners

WRITE = "write"
_WIRING = ("ports", "branches", "index", "port")


@dataclass(slots=True)
class Part:
    """One node: its block, its parameters as numbers by name, and the nodes it reads (a node read twice stands there twice)."""

    block: str
    traits: dict[str, float]
    inputs: list[int]


@dataclass(slots=True)
class Parts:
    """Nodes, inputs first, and where the modules of the built network lie in them.

    Args:
        homes: prefix of a parameter's name in the network -> the node it belongs to and what its name there begins with.
        output: the node whose value the network returns.
    """

    nodes: list[Part] = field(default_factory=list)
    homes: dict[str, tuple[int, str]] = field(default_factory=dict)
    output: int = 0


def parts_of(architecture: Architecture) -> Parts:
    """``architecture`` as :class:`Parts`.

    A layer becomes, for each branch, the nodes of the branch and a node ``write`` that reads the stream and the branch and owns the
    norm and whatever the residual rule learns for this write. Fields of ``training`` are parameters of the inputs. Blocks that
    hold architectures of another kind stay one node, which says how often each block stands in them.
    """
    parts = Parts()
    training = dict(traits_of(architecture.training))
    parts.output = _Writer(parts, inlined(architecture), "", {}, training).output
    return parts


class _Writer:
    """Adds one flat graph to the parts; ``given`` maps an input's index or port to the node that stands for it in a branch."""

    def __init__(self, parts: Parts, flat: FlatGraph, prefix: str, given: Mapping[int | str, int], training: Mapping[str, float]) -> None:
        self.parts, self.flat, self.prefix, self.given, self.training = parts, flat, prefix, given, training
        self.owner = owners(flat)
        self.streams = Streams(flat, prefix)
        self.places: list[dict[str, int]] = []  # flat node -> port -> part
        for number, node in enumerate(flat.nodes):
            self.places.append(self._added(number, node))
        self.output = self._at(flat.output)
        self.ports = {port: self._at(reference) for port, reference in flat.ports.items()}

    def _at(self, reference: tuple[int, str]) -> int:
        number, port = reference
        return self.places[number].get(port, self.places[number][""])

    def _added(self, number: int, node: FlatNode) -> dict[str, int]:
        inputs = [self._at(reference) for reference in node.inputs]
        if node.block == "input":
            key = input_key(node.params)
            return {"": self.given[key] if key in self.given else self._add(node.block, dict(self.training), inputs)}
        module = self.prefix + key_of(node.name)
        if node.block == "layer":
            return self._layer(number, node, inputs, module)
        place = self._add(node.block, dict(traits_of(node.params)), inputs)
        if self.owner.get(number, number) == number:
            self.parts.homes[module] = (place, "")
        return {"": place}

    def _layer(self, number: int, node: FlatNode, inputs: list[int], module: str) -> dict[str, int]:
        """The nodes of each branch and the write that follows it; where a layer uses another's weights, they are that one's."""
        own = self.owner.get(number, number) == number
        ports = tuple(node.params.get("ports", ()))
        extra: dict[int | str, int] = dict(zip(ports, inputs[1:], strict=True))
        opened, key = self.prefix + (self.streams.of(number) or ""), key_of(node.name)
        stream, given = inputs[0], dict[str, int]()
        for index, cell in enumerate(node.params["branches"]):
            homes = self.parts.homes if own else {}
            inside = Parts(self.parts.nodes, homes)
            branch = _Writer(inside, inlined(cell), f"{module}.branch{index}.", {0: stream, **extra}, self.training)
            stream = self._add(WRITE, dict(traits_of(node.params)), [stream, branch.output])
            given |= branch.ports
            homes[f"{module}.norm{index}"] = (stream, "norm.")
            self.parts.homes[f"{opened}.writes.{key}.{index}"] = (stream, "write.")
            self.parts.homes.setdefault(f"{opened}.shared.{key}", (stream, "shared."))
        return {"": stream, **given}

    def _add(self, block: str, traits: dict[str, float], inputs: list[int]) -> int:
        self.parts.nodes.append(Part(block, traits, inputs))
        return len(self.parts.nodes) - 1


def traits_of(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """A parameter value as numbers by name: a number as ``sign(x) log(1 + |x|)``, anything else as ``name=value`` with 1."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            if name or key not in _WIRING:
                yield from traits_of(value[key], f"{name}.{key}" if name else key)
    elif isinstance(value, Architecture):
        yield from _counted(value, name)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from traits_of(item, f"{name}.{index}")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield f"{name}={value}", 1.0
    else:
        yield name, math.copysign(math.log1p(abs(value)), value)


def _counted(cell: Architecture, name: str) -> Iterator[tuple[str, float]]:
    """How often each block stands in a cell and in the cells it holds."""
    counts: dict[str, float] = {}
    waiting = [cell]
    while waiting:
        for node in waiting.pop().nodes:
            counts[node.block] = counts.get(node.block, 0.0) + 1.0
            waiting += [inner for key in sorted(node.params) for inner in cells_of(node.params[key])]
    for block in sorted(counts):
        yield f"{name}:{block}", counts[block]
