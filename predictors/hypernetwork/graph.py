"""What a hypernetwork knows of a candidate: its nodes in canonical order, who reads whom, and the tensors it must predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from ...search_space.architecture import Architecture
from ...search_space.build import build
from ...search_space.facts import BLOCKS
from ...search_space.labelling import TooSymmetric, canonical_order
from ...search_space.specs import OutputSpec, TensorSpec
from .expanding import WRITE, Parts, parts_of

Kind = Literal["matrix", "classifier", "scale", "bias", "own"]
Sizes = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Slot:
    """One learnable tensor of a candidate.

    Args:
        name: in the network's state dict.
        node: number of the node it belongs to.
        local: its name within the node (``branch.0.conv.weight``).
        kind: ``matrix`` (two axes or more, drawn around zero by its block), ``classifier`` (the matrix of a head that gives the
            outputs), ``scale`` (one axis, starts at one), ``bias``, or ``own``: anything else, predicted as a change of its start.
        shape: of the tensor.
        start: for ``own``, the values that its block starts it with.
    """

    name: str
    node: int
    local: str
    kind: Kind
    shape: tuple[int, ...]
    start: Tensor | None = None

    @property
    def sizes(self) -> Sizes:
        """Outputs, inputs, height and width of the kernel; 1 for an axis that the tensor has not."""
        first, second = (*self.shape, 1, 1)[:2]
        rest = self.shape[2:]
        return first, second, rest[0] if len(rest) > 1 else 1, prod(rest[1:]) if len(rest) > 1 else prod(rest)

    @property
    def fan_in(self) -> int:
        """Numbers that one output is summed from."""
        return prod(self.shape[1:])


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A block with its parameters as numbers by name."""

    block: str
    traits: tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class ParameterGraph:
    """A candidate as a hypernetwork reads it; equal, node by node, for architectures that differ in the names of nodes alone.

    Args:
        nodes: by depth, then in canonical order.
        depths: of each node, the length of the longest path that leads to it.
        reads: [n, n]; how many times the row's node reads the column's.
        distances: [n, n]; length of the shortest path from the column's node to the row's, infinite where there is none.
        output: number of the node whose value is the network's.
        slots: the tensors, empty where the graph was made without input and output.
    """

    nodes: tuple[GraphNode, ...]
    depths: tuple[int, ...]
    reads: Any
    distances: Any
    output: int
    slots: tuple[Slot, ...] = ()

    @property
    def params(self) -> int:
        """Learnable numbers."""
        return sum(prod(slot.shape) for slot in self.slots)


def graph_of(architecture: Architecture, input: TensorSpec | None = None, output: OutputSpec | None = None) -> ParameterGraph:
    """``architecture`` as a graph; with ``input`` and ``output`` of its task also with its tensors, for which it is built once.

    Raises:
        BuildError: the architecture cannot be built for this input and output.
    """
    network = None if input is None or output is None else build(architecture, input, output)
    return graph_with(architecture, network, output)


def graph_with(architecture: Architecture, network: nn.Module | None, output: OutputSpec | None) -> ParameterGraph:
    """The same with the network that was built from the architecture at hand."""
    parts = parts_of(architecture)
    slots = [] if network is None or output is None else _slots(network, parts, output)
    order, depths = _order(parts, slots)
    new = {old: number for number, old in enumerate(order)}
    reads = np.zeros((len(order), len(order)), dtype=np.float32)
    for old, number in new.items():
        for source in parts.nodes[old].inputs:
            reads[number, new[source]] += 1.0
    nodes = tuple(GraphNode(parts.nodes[old].block, tuple(sorted(parts.nodes[old].traits.items()))) for old in order)
    placed = [Slot(slot.name, new[slot.node], slot.local, slot.kind, slot.shape, slot.start) for slot in slots]
    placed.sort(key=lambda slot: (slot.node, slot.local, slot.shape))
    return ParameterGraph(nodes, tuple(depths[old] for old in order), reads, _distances(reads), new[parts.output], tuple(placed))


def _order(parts: Parts, slots: Sequence[Slot]) -> tuple[list[int], list[int]]:
    """The nodes by depth and canonical label, and the depth of each."""
    depths: list[int] = []
    for node in parts.nodes:
        depths.append(1 + max((depths[source] for source in node.inputs), default=-1))
    owned: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for slot in slots:
        owned.setdefault(slot.node, []).append((slot.local, slot.shape))
    labels = [
        f"{node.block}|{sorted(node.traits.items())}|{sorted(owned.get(number, []))}|{number == parts.output}"
        for number, node in enumerate(parts.nodes)
    ]
    try:
        order = canonical_order(labels, [[(source, "") for source in node.inputs] for node in parts.nodes])
    except TooSymmetric:
        order = sorted(range(len(labels)), key=labels.__getitem__)
    return sorted(order, key=depths.__getitem__), depths


def _distances(reads: Any) -> Any:
    from scipy.sparse.csgraph import shortest_path

    found = shortest_path((reads.T > 0).astype(np.float64), method="D", unweighted=True)
    return found.T.astype(np.float32)


def _slots(network: nn.Module, parts: Parts, output: OutputSpec) -> list[Slot]:
    slots = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            node, local = _home(name, parts)
            block = parts.nodes[node].block
            head = block != WRITE and BLOCKS[block].facts.kind == "head"
            value = parameter.detach()
            kind = _kind(local, value, head, output)
            slots.append(Slot(name, node, local, kind, tuple(value.shape), value.clone() if kind == "own" else None))
    return slots


def _home(name: str, parts: Parts) -> tuple[int, str]:
    """The node that a parameter belongs to, by the longest prefix of its name, and its name there."""
    pieces = name.split(".")
    for length in range(len(pieces), 0, -1):
        prefix = ".".join(pieces[:length])
        if prefix in parts.homes:
            node, begins = parts.homes[prefix]
            return node, begins + ".".join(pieces[length:])
    raise KeyError(name)


def _kind(local: str, value: Tensor, head: bool, output: OutputSpec) -> Kind:
    if value.dim() < 2:
        if local.rpartition(".")[2] == "bias":
            return "bias"
        return "scale" if value.dim() == 1 and bool((value == 1).all()) else "own"
    deviation = float(value.std()) if value.numel() > 1 else 0.0
    if not deviation > 2 * abs(float(value.mean())):
        return "own"
    return "classifier" if head and value.dim() == 2 and len(value) == output.size else "matrix"
