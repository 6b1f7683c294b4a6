"""What a drawing says of an architecture: runs of equal nodes folded into one, parameters as words, cells held in parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .architecture import Architecture, Node, source_of
from .canonical import content


@dataclass(frozen=True)
class Run:
    """Consecutive nodes that differ in name only, each reading the one before; drawn as the first with ``×count``."""

    nodes: tuple[Node, ...]

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def count(self) -> int:
        return len(self.nodes)

    @property
    def name(self) -> str:
        """``layer/0`` for one node, ``layer/0..2`` for three."""
        first, last = self.first.name, self.nodes[-1].name
        if self.count == 1:
            return first
        stem = first.rstrip("0123456789")
        return f"{first}..{last.removeprefix(stem)}"


def folded(architecture: Architecture) -> list[Run]:
    """The nodes in order, with runs of equal layers as one."""
    readers = _readers(architecture)
    runs: list[list[Node]] = []
    for node in architecture.nodes:
        if runs and _continues(runs[-1][-1], node, readers):
            runs[-1].append(node)
        else:
            runs.append([node])
    return [Run(tuple(run)) for run in runs]


def _readers(architecture: Architecture) -> dict[str, list[str]]:
    """Every reader of every node, outputs and sharers of weights among them."""
    readers: dict[str, list[str]] = {node.name: [] for node in architecture.nodes}
    for node in architecture.nodes:
        for reference in node.inputs:
            readers[source_of(reference)].append(node.name)
        if node.weights is not None:
            readers[node.weights].append(f"weights of {node.name}")
    for reference in (architecture.output, *architecture.ports.values()):
        readers[source_of(reference)].append("output")
    return readers


def _continues(before: Node, node: Node, readers: Mapping[str, list[str]]) -> bool:
    alike = before.block == node.block and before.weights is None and node.weights is None
    follows = node.inputs[:1] == (before.name,) and node.inputs[1:] == before.inputs[1:] and readers[before.name] == [node.name]
    return alike and follows and bool(before.inputs) and content(dict(before.params)) == content(dict(node.params))


def words(params: Mapping[str, Any]) -> list[str]:
    """Parameters that are no cells and not empty, each as ``key=value``."""
    return [f"{key}={_spelled(value)}" for key, value in params.items() if not _is_cell(value) and value not in ((), {})]


def nested(params: Mapping[str, Any]) -> Iterator[tuple[str, Architecture]]:
    """The cells among the parameters with what to call them: ``body``, ``branches 1``."""
    for key, value in params.items():
        if isinstance(value, Architecture):
            yield key, value
        elif _is_cell(value):
            items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
            yield from ((f"{key} {name}", item) for name, item in items if isinstance(item, Architecture))


def chain_of(cell: Architecture) -> list[Node] | None:
    """The nodes of a cell where each reads only the one before and the last is its output; None when it is no such chain."""
    *_, last = cell.nodes
    chained = all(node.inputs == (before.name,) for before, node in zip(cell.nodes, cell.nodes[1:], strict=False))
    shared = any(node.weights for node in cell.nodes)
    return list(cell.nodes[1:]) if chained and cell.nodes[0].block == "input" and cell.output == last.name and not shared else None


def _is_cell(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_is_cell(item) for item in value.values())
    return isinstance(value, Architecture) or (isinstance(value, tuple) and any(_is_cell(item) for item in value))


def _spelled(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_spelled(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
