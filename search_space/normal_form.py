"""The normal form: architectures that are the same network become the same graph.

In this order: called cells and fixed loops are written out (:mod:`.inlining`); identities are dropped; zeros are propagated
(a sum forgets them, a block that keeps zero and reads nothing else becomes one); nested sums are flattened; a sum of one is its
input; equal parameter-free deterministic nodes are merged; what no output needs is removed. Multiplicity is kept
throughout: x + x is not x. Nodes with parameters or randomness are never merged. Each step looks only at inputs that are
already in normal form, so one pass in the order of the graph reaches the fixed point.

A zero that is not summed away keeps its *shape*, written as an expression (concatenating 7 zeros is not concatenating 9).
A zero that is an output needs none: its reader fixes the shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .architecture import Architecture, Node, cells_of
from .errors import ArchitectureError
from .facts import BLOCKS, RESIDUALS, BlockFacts
from .inlining import FlatGraph, FlatNode, Reference, inlined, input_key
from .signatures import CellName, canonical_text, filled

Shape = tuple[int, str]  # depth and text of the expression that a shape is computed by
Read = tuple[int, str, int]  # node, port, how many times

_INPUT = BlockFacts("structure", (), parameters=False)
_SAME_SHAPE = ("mixer", "channel", "norm", "activation")
_MOST_INPUTS = 10_000


@dataclass(slots=True)
class NormalNode:
    """A node of the normal form.

    Args:
        label: block and parameters as text; all that tells it from others besides its edges.
        reads: its inputs in order, or as a sorted multiset when ``commutative``.
        group: number shared by the nodes with the same parameters, -1 when it has none or its own alone.
    """

    name: str
    block: str
    params: Mapping[str, Any]
    label: str
    reads: tuple[Read, ...]
    commutative: bool = False
    group: int = -1


@dataclass(slots=True)
class NormalGraph:
    """The normal form with numbered nodes, inputs first; only nodes that an output needs."""

    nodes: list[NormalNode]
    output: Reference
    ports: dict[str, Reference] = field(default_factory=dict)


def normalise(architecture: Architecture) -> Architecture:
    """The normal form as an architecture, for inspection: same digest, and its own normal form.

    Raises:
        RegistryError: a block is unknown (the message names the plug-in option).
        ArchitectureError: a call does not fit its body.
    """
    graph = normal_graph(architecture, lambda cell: cell.digest)
    names = _unique([node.name for node in graph.nodes])
    owner: dict[int, str] = {}
    nodes = []
    for node, name in zip(graph.nodes, names, strict=True):
        if sum(times for *_, times in node.reads) > _MOST_INPUTS:
            raise ArchitectureError(
                f'The sum "{name}" has more than {_MOST_INPUTS} terms when flattened; its normal form cannot be written out.'
            )
        inputs = tuple(_spell(names, (source, port)) for source, port, times in node.reads for _ in range(times))
        weights = owner.get(node.group) if node.group >= 0 else None
        owner.setdefault(node.group, name)
        nodes.append(Node(name, node.block, inputs, {key: _normal_cells(value) for key, value in node.params.items()}, weights))
    ports = {port: _spell(names, reference) for port, reference in graph.ports.items()}
    return Architecture(tuple(nodes), _spell(names, graph.output), ports, architecture.training)


def normal_graph(architecture: Architecture, cell_name: CellName) -> NormalGraph:
    """The normal form of ``architecture``; ``cell_name`` names cells held in parameters (by their digest)."""
    return _Normaliser(inlined(architecture), cell_name).graph()


class _Normaliser:
    def __init__(self, flat: FlatGraph, cell_name: CellName) -> None:
        self.flat = flat
        self.cell_name = cell_name
        self.read_by_port = {number for node in flat.nodes for number, port in node.inputs if port}
        self.read_by_port |= {number for number, port in [flat.output, *flat.ports.values()] if port}
        self.described: dict[tuple[str, int], tuple[Mapping[str, Any], BlockFacts, str]] = {}
        self.nodes: list[NormalNode] = []
        self.parametric: list[bool] = []
        self.keeps_shape: list[bool] = []
        self.zeros: dict[int, Shape] = {}
        self.shapes: dict[Reference, Shape] = {}
        self.merged: dict[tuple[str, tuple[Read, ...]], int] = {}
        self.value: list[Reference] = []  # flat node -> the normal reference its main output became
        self.kept: list[int] = []  # flat node -> the normal node that carries its ports and weights, or -1

    def graph(self) -> NormalGraph:
        for node in self.flat.nodes:
            self._add(node)
        output = self._shapeless(self._resolve(self.flat.output))
        ports = {port: self._shapeless(self._resolve(reference)) for port, reference in self.flat.ports.items()}
        self._share()
        return _pruned(self.nodes, output, ports)

    def _add(self, node: FlatNode) -> None:
        known = node.block, id(node.params)  # copies of one body share their parameters
        if known not in self.described:
            self.described[known] = self._described(node)
        params, facts, label = self.described[known]
        inputs = [self._resolve(reference) for reference in node.inputs]
        commutative = facts.commutative
        reads = _multiset([(source, port, 1) for source, port in inputs]) if commutative else tuple((*one, 1) for one in inputs)
        value: Reference | None = None
        if facts.identity and len(inputs) == 1:
            value = inputs[0]
        elif facts.zero:
            value = self._zero(node, self._shape_of_zero(node, inputs))
        elif _is_sum(node.block, params, facts):
            reads = self._flattened(reads)
            if not reads:
                value = self._zero(node, min((self._shape(one) for one in inputs), default=(0, "")))
            elif len(reads) == 1 and reads[0][2] == 1:
                value = reads[0][:2]
        elif facts.keeps_zero and inputs and all(self._is_zero(one) for one in inputs):
            value = self._zero(node, self._expression(label, facts, reads))
        kept = -1
        if value is None or len(self.value) in self.read_by_port:
            kept = self._keep(NormalNode(node.name, node.block, params, label, reads, commutative), facts)
        self.value.append((kept, "") if value is None else value)
        self.kept.append(kept)

    def _described(self, node: FlatNode) -> tuple[Mapping[str, Any], BlockFacts, str]:
        """The node's parameters in full, the facts of its block, and both as text."""
        if node.block == "input":
            key = input_key(node.params)
            return node.params, _INPUT, f"input {key!r}"
        entry = BLOCKS[node.block]
        params: Mapping[str, Any] = filled(node.params, entry)
        if node.block == "open" and isinstance(params.get("rule"), str):
            params = filled(params, RESIDUALS[params["rule"]])
        if "norm_params" in params:
            params = _filled_norm(params)
        return params, entry.facts, node.block + (canonical_text(params, self.cell_name) if params else "")

    def _resolve(self, reference: Reference) -> Reference:
        number, port = reference
        return (self.kept[number], port) if port else self.value[number]

    def _keep(self, node: NormalNode, facts: BlockFacts) -> int:
        """The number of ``node``, or of the equal one it is merged with."""
        has_cells = any(True for value in node.params.values() for _ in cells_of(value))
        own = facts.parameters or has_cells
        key = (node.label, node.reads)
        if not own and not facts.random:
            if key in self.merged:
                return self.merged[key]
            self.merged[key] = len(self.nodes)
        self.nodes.append(node)
        self.parametric.append(own)
        same = facts.gives is None and bool(node.reads) and (facts.kind in _SAME_SHAPE or _is_sum(node.block, node.params, facts))
        self.keeps_shape.append(same)
        return len(self.nodes) - 1

    def _flattened(self, reads: tuple[Read, ...]) -> tuple[Read, ...]:
        """The terms of a sum: those of inner sums in place of them, without zeros."""
        terms: list[Read] = []
        for source, port, times in reads:
            inner = self.nodes[source]
            if self._is_zero((source, port)):
                continue
            if not port and inner.block == "sum" and not inner.params and inner.commutative:
                terms += [(number, name, count * times) for number, name, count in inner.reads]
            else:
                terms.append((source, port, times))
        return _multiset(terms)

    # --- zeros and their shapes

    def _is_zero(self, reference: Reference) -> bool:
        return not reference[1] and reference[0] in self.zeros

    def _zero(self, node: FlatNode, shape: Shape | None) -> Reference:
        """The zero of this shape; None is the zero whose reader knows its shape."""
        params = {} if shape is None else {"shape": f"{shape[0]}:{shape[1]}"}
        label = f"zero {params}"
        if (label, ()) not in self.merged:
            self.merged[label, ()] = len(self.nodes)
            if shape is not None:
                self.zeros[len(self.nodes)] = shape
            self.nodes.append(NormalNode(node.name, "zero", params, label, ()))
            self.parametric.append(False)
            self.keeps_shape.append(False)
        return self.merged[label, ()], ""

    def _shapeless(self, reference: Reference) -> Reference:
        if not self._is_zero(reference):
            return reference
        return self._zero(FlatNode(self.nodes[reference[0]].name, "zero", {}, []), None)

    def _shape_of_zero(self, node: FlatNode, inputs: list[Reference]) -> Shape:
        if inputs:
            return self._shape(inputs[0])
        depth, _, text = str(node.params.get("shape", "0:")).partition(":")
        return int(depth), text

    def _shape(self, reference: Reference) -> Shape:
        """The shape of a value: inputs and blocks of unknown effect by name, blocks that keep the shape of their input left out."""
        waiting = [reference]
        while waiting:
            number, port = waiting[-1]
            if (number, port) in self.shapes or number in self.zeros:
                waiting.pop()
                continue
            node = self.nodes[number]
            sources = [read[:2] for read in node.reads]
            missing = [one for one in sources if one not in self.shapes and one[0] not in self.zeros]
            if missing:
                waiting += missing
                continue
            known = [self._known(one) for one in sources]
            if self.keeps_shape[number] and not port:
                shape = min(known) if node.commutative else known[0]
            else:
                shape = _expression(f"{node.label}:{port}", known, node.commutative) if known else (0, _hashed(node.label))
            self.shapes[number, port] = shape
        return self._known(reference)

    def _known(self, reference: Reference) -> Shape:
        return self.zeros[reference[0]] if self._is_zero(reference) else self.shapes[reference]

    def _expression(self, label: str, facts: BlockFacts, reads: tuple[Read, ...]) -> Shape:
        known = [self._shape(read[:2]) for read in reads]
        if facts.gives is None and facts.kind in _SAME_SHAPE:
            return min(known) if facts.commutative else known[0]
        return _expression(f"{label}:", known, facts.commutative)

    # --- shared parameters

    def _share(self) -> None:
        """Number the groups of nodes that share parameters, also where the node between them was dropped."""
        root = list(range(len(self.flat.nodes)))

        def find(number: int) -> int:
            while root[number] != number:
                root[number] = root[root[number]]
                number = root[number]
            return number

        for one, other in self.flat.ties:
            root[find(one)] = find(other)
        first: dict[int, int] = {}
        for number, kept in enumerate(self.kept):
            if kept >= 0 and self.parametric[kept]:
                self.nodes[kept].group = first.setdefault(find(number), kept)


def _filled_norm(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a layer or close with those of its norm in full, none where it has no norm."""
    norm = params.get("norm")
    return {**params, "norm_params": filled(params["norm_params"] or {}, BLOCKS[norm]) if isinstance(norm, str) else {}}


def _is_sum(block: str, params: Mapping[str, Any], facts: BlockFacts) -> bool:
    return block == "sum" and facts.commutative and not facts.parameters and not params


def _multiset(reads: list[Read]) -> tuple[Read, ...]:
    counts: dict[Reference, int] = {}
    for source, port, times in reads:
        counts[source, port] = counts.get((source, port), 0) + times
    return tuple(sorted((source, port, times) for (source, port), times in counts.items()))


def _expression(label: str, inputs: list[Shape], commutative: bool) -> Shape:
    ordered = sorted(inputs) if commutative else inputs
    return 1 + max(depth for depth, _ in inputs), _hashed(f"{label}|{ordered}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pruned(nodes: list[NormalNode], output: Reference, ports: dict[str, Reference]) -> NormalGraph:
    """Only the nodes that an output needs, renumbered in the same order; groups of one node dissolved."""
    alive: set[int] = set()
    waiting = [output[0], *(number for number, _ in ports.values())]
    while waiting:
        number = waiting.pop()
        if number not in alive:
            alive.add(number)
            waiting += [read[0] for read in nodes[number].reads]
    new = {old: index for index, old in enumerate(sorted(alive))}
    members: dict[int, int] = {}
    for old in new:
        members[nodes[old].group] = members.get(nodes[old].group, 0) + 1
    kept = []
    for old in new:
        node = nodes[old]
        node.reads = tuple((new[source], port, times) for source, port, times in node.reads)
        node.group = node.group if node.group >= 0 and members[node.group] > 1 else -1
        kept.append(node)
    return NormalGraph(kept, (new[output[0]], output[1]), {port: (new[number], name) for port, (number, name) in ports.items()})


def _spell(names: list[str], reference: Reference) -> str:
    return f"{names[reference[0]]}:{reference[1]}" if reference[1] else names[reference[0]]


def _unique(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name}~{count}"
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _normal_cells(value: Any) -> Any:
    if isinstance(value, Architecture):
        return normalise(value)
    if isinstance(value, Mapping):
        return {key: _normal_cells(item) for key, item in value.items()}
    return tuple(_normal_cells(item) for item in value) if isinstance(value, tuple) else value
