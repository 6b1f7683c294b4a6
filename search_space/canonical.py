"""The canonical digest: one name for all architectures that are the same network, different names for all others.

The digest is the hash of the normal form (:mod:`.normal_form`) numbered in canonical order (:mod:`.labelling`), never of
expressions: two convolutions are not one convolution read twice. Cells held in parameters enter by their own digest, and so does
``training``. Node names never enter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .architecture import Architecture
from .facts import BLOCKS, RESIDUALS
from .labelling import TooSymmetric, canonical_order
from .normal_form import NormalGraph, normal_graph
from .signatures import canonical_text, plain_numbers

VERSION = "a1:"
INEXACT = "~"
MOST_KNOWN = 200_000
#: Digests found in this process, by content: a search meets the same networks again and again.
_KNOWN: dict[tuple[Any, bytes], str] = {}


def digest(architecture: Architecture) -> str:
    """``a1:`` and 32 hexadecimal digits, equal for two architectures exactly when their normal forms are isomorphic.

    A trailing ``~`` marks a graph too symmetric to label exactly: then equal digests do not prove equal networks, and nobody may
    reject a candidate by it.

    Raises:
        RegistryError: a block is unknown; a digest is never guessed.
        ArchitectureError: a call does not fit its body.

    >>> from archwright.search_space.architecture import Architecture, Node
    >>> one, other = (Architecture((Node(name, "input"),), name) for name in ("x", "y"))
    >>> digest(one) == digest(other)
    True
    """
    facts = (BLOCKS.changes, RESIDUALS.changes)
    key = facts, architecture._content
    if key not in _KNOWN:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = _Digester().digest(architecture)
    return _KNOWN[key]


class _Digester:
    """Digests one architecture; equal cells inside it are digested once."""

    def __init__(self) -> None:
        self.cells: dict[Any, str] = {}

    def digest(self, architecture: Architecture) -> str:
        inexact = False

        def cell_name(cell: Architecture) -> str:
            nonlocal inexact
            name = self._cell(cell)
            inexact |= name.endswith(INEXACT)
            return name

        graph = normal_graph(architecture, cell_name)
        training = canonical_text(plain_numbers(architecture.training), cell_name)
        text, exact = _numbered(graph)
        found = VERSION + hashlib.sha256(f"{text}\n{training}".encode()).hexdigest()[:32]
        return found if exact and not inexact else found + INEXACT

    def _cell(self, cell: Architecture) -> str:
        key = content(cell)
        if key not in self.cells:
            self.cells[key] = self.digest(cell)
        return self.cells[key]


def content(value: Any) -> Any:
    """A parameter as a hashable key that does not hold names of nodes: equal keys mean equal values, cells up to renaming."""
    if isinstance(value, Architecture):
        return value._content
    if isinstance(value, Mapping):
        return tuple((key, content(item)) for key, item in sorted(value.items()))
    return tuple(content(item) for item in value) if isinstance(value, tuple) else (type(value), value)


def cell_content(cell: Architecture) -> bytes:
    """A hash of everything in ``cell`` but the names of its nodes."""
    place = {node.name: str(number) for number, node in enumerate(cell.nodes)}

    def spell(reference: str) -> str:
        name, _, port = reference.partition(":")
        return f"{place[name]}:{port}"

    nodes = tuple(
        (node.block, tuple(map(spell, node.inputs)), content(node.params) if node.params else (), place.get(node.weights or ""))
        for node in cell.nodes
    )
    ports = tuple((port, spell(reference)) for port, reference in sorted(cell.ports.items()))
    whole = nodes, spell(cell.output), ports, content(cell.training)
    return hashlib.blake2b(repr(whole).encode(), digest_size=16).digest()


def _numbered(graph: NormalGraph) -> tuple[str, bool]:
    """The normal form as text under its canonical numbering, and whether that is exact."""
    labels = _marked_labels(graph)
    reads = [_kinds(node.reads, node.commutative) for node in graph.nodes]
    groups: dict[int, list[tuple[int, str]]] = {}
    for number, node in enumerate(graph.nodes):
        if node.group >= 0:
            groups.setdefault(node.group, []).append((number, "weights"))
    labels += ["shared weights"] * len(groups)  # a vertex for each set of shared parameters, reading those who use it
    reads += groups.values()
    try:
        order = canonical_order(labels, reads)
    except TooSymmetric as tie:
        return repr(sorted((labels[vertex], around) for vertex, around in tie.refined.items())), False
    place = {vertex: number for number, vertex in enumerate(order)}
    return repr([(labels[vertex], sorted((place[source], kind) for source, kind in reads[vertex])) for vertex in order]), True


def _marked_labels(graph: NormalGraph) -> list[str]:
    """The label of each node, with a mark where the architecture gives it out."""
    labels = [node.label for node in graph.nodes]
    for name, (number, port) in [("", graph.output), *sorted(graph.ports.items())]:
        labels[number] += f"\n{name!r}={port!r}"
    return labels


def _kinds(reads: tuple[tuple[int, str, int], ...], commutative: bool) -> list[tuple[int, str]]:
    if commutative:
        return [(source, f"{port}*{times}") for source, port, times in reads]
    return [(source, f"{port}@{position}") for position, (source, port, _) in enumerate(reads)]
