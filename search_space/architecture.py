"""The network as data: an immutable graph of named nodes, JSON in and JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import ArchitectureError, did_you_mean

if TYPE_CHECKING:
    import networkx

FORMAT = "archwright-architecture/1"
_FIELDS = ("name", "block", "inputs", "params", "weights")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Node:
    """One block in the graph.

    Args:
        name: unique in its architecture, by habit the choice scope it was made in (``layer/3``); never enters the digest.
        block: registered name of the block.
        inputs: names of the nodes it reads, in order; ``"node:port"`` reads a named output of a node.
        params: the block's keyword arguments: JSON values and :class:`Architecture` objects (cells), lists of both allowed.
        weights: the node whose parameters this one uses; None means its own.
    """

    name: str
    block: str
    inputs: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    weights: str | None = None

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise ArchitectureError(f'A node cannot be named "{self.name}"; a name is not empty and holds no colon.')
        if isinstance(self.inputs, str):
            raise ArchitectureError(f'The inputs of node "{self.name}" are the string "{self.inputs}"; give a tuple of node names.')
        if type(self.inputs) is not tuple:
            object.__setattr__(self, "inputs", tuple(self.inputs))
        if self.params is not _EMPTY:
            frozen = {str(key): _freeze(value, "parameter", key, self.name) for key, value in self.params.items()}
            object.__setattr__(self, "params", MappingProxyType(frozen) if frozen else _EMPTY)

    def __hash__(self) -> int:
        return hash((self.name, self.block, self.inputs, self.weights))


@dataclass(frozen=True)
class Architecture:
    """A directed acyclic graph of :class:`Node`.

    A top-level architecture has one node of block ``input``. A *cell* (an architecture used as a parameter) may have several,
    told apart by ``params={"index": i}`` (positional) or ``params={"port": name}`` (a value that travels across layers).

    Args:
        nodes: in any order; they are sorted so that inputs come first, keeping the given order where it is free.
        output: the reference (``"node"`` or ``"node:port"``) that the architecture returns.
        ports: further named outputs of a cell.
        training: how to train it, when the space chooses that too (``learning_rate``, ``optimizer``, ...); part of the digest.

    Raises:
        ArchitectureError: a name is used twice, an input does not exist, or the graph has a cycle.
    """

    nodes: tuple[Node, ...]
    output: str
    ports: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    training: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        names = {node.name for node in self.nodes}
        if len(names) < len(self.nodes):
            every = [node.name for node in self.nodes]
            twice = next(name for name in every if every.count(name) > 1)
            raise ArchitectureError(f'Two nodes are called "{twice}"; node names must be unique within an architecture.')
        object.__setattr__(self, "nodes", _sorted_by_inputs(tuple(self.nodes)))
        if self.ports is not _EMPTY:
            object.__setattr__(self, "ports", MappingProxyType(dict(self.ports)))
        if self.training is not _EMPTY:
            frozen = {key: _freeze(value, "training field", key) for key, value in self.training.items()}
            object.__setattr__(self, "training", MappingProxyType(frozen))
        for what, reference in [("output", self.output), *self.ports.items()]:
            if source_of(reference) not in names:
                cure = did_you_mean(reference, [node.name for node in self.nodes])
                raise ArchitectureError(f'The {what} of the architecture is "{reference}", which is no node; {cure}')

    def __hash__(self) -> int:
        return hash(self.to_text())

    def node(self, name: str) -> Node:
        try:
            return self._by_name[name]
        except KeyError:
            raise ArchitectureError(f'The architecture has no node "{name}"; {did_you_mean(name, self._by_name)}') from None

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def with_training(self, **training: Any) -> Architecture:
        """The same network with training hyper-parameters chosen by the space.

        >>> a = Architecture((Node("x", "input"),), "x").with_training(learning_rate=0.01, optimizer="adamw")
        >>> dict(a.training)
        {'learning_rate': 0.01, 'optimizer': 'adamw'}
        """
        return replace(self, training={**self.training, **training})

    @cached_property
    def _content(self) -> bytes:
        """A hash of everything but the names of nodes."""
        from .canonical import cell_content

        return cell_content(self)

    @cached_property
    def digest(self) -> str:
        """Canonical name of the network: equal for two architectures exactly when their normal forms are the same graph."""
        from .canonical import digest

        return digest(self)

    def to_networkx(self) -> networkx.MultiDiGraph:
        """The graph as a networkx multigraph: nodes carry ``block``, ``params``, ``weights``; edges ``position`` and ``port``."""
        from .drawing import to_networkx

        return to_networkx(self)

    def to_svg(self) -> str:
        """The drawing as a standalone SVG document."""
        from .drawing import to_svg

        return to_svg(self)

    def __str__(self) -> str:
        from .drawing import to_text

        return to_text(self)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; :meth:`from_json` is its inverse. A cell that is used n times is n times the same dictionary."""
        return _to_json(self, {})

    def to_text(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Architecture:
        """The architecture that ``data`` (a dictionary or JSON text) describes.

        Raises:
            ArchitectureError: the text is not JSON, or is not an architecture of this format.
        """
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except json.JSONDecodeError as error:
                raise ArchitectureError(f"The text is not JSON ({error}); give the contents of an architecture.json.") from None
        return _from_json(data, {})


def source_of(reference: str) -> str:
    """The node a reference reads: ``layer/0`` for ``layer/0:values``."""
    return reference.partition(":")[0]


def port_of(reference: str) -> str:
    """The port a reference reads, or the empty string for the main output."""
    return reference.partition(":")[2]


def _sorted_by_inputs(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    if _in_order(nodes):
        return nodes
    known = {node.name for node in nodes}
    sources = {node.name: [source_of(reference) for reference in node.inputs] for node in nodes}
    for node in nodes:
        for reference, source in zip(node.inputs, sources[node.name], strict=True):
            if source not in known:
                raise ArchitectureError(f'Node "{node.name}" reads "{reference}", which is no node; {did_you_mean(reference, known)}')
        if node.weights is not None and node.weights not in known:
            cure = did_you_mean(node.weights, known)
            raise ArchitectureError(f'Node "{node.name}" uses the weights of "{node.weights}", which is no node; {cure}')
    done: set[str] = set()
    ordered: list[Node] = []
    waiting = list(nodes)
    while waiting:
        later = []
        for node in waiting:
            if done.issuperset(sources[node.name]):
                ordered.append(node)
                done.add(node.name)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ArchitectureError(f"The nodes {[node.name for node in later]} form a cycle; an architecture is a directed acyclic graph.")
        waiting = later
    return tuple(ordered)


def _in_order(nodes: tuple[Node, ...]) -> bool:
    """Whether every node reads, and shares weights with, nodes before it alone."""
    before: set[str] = set()
    for node in nodes:
        if not before.issuperset([source_of(reference) for reference in node.inputs]):
            return False
        if node.weights is not None and node.weights not in before:
            return False
        before.add(node.name)
    return True


def _freeze(value: Any, what: str, key: str, node: str | None = None) -> Any:
    if value is None or isinstance(value, str | int | float | bool | Architecture):
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({str(name): _freeze(item, what, key, node) for name, item in value.items()})
    if isinstance(value, Sequence):
        return tuple(_freeze(item, what, key, node) for item in value)
    where = f'{what} "{key}"' if node is None else f'{what} "{key}" of node "{node}"'
    raise ArchitectureError(f"The {where} is {value!r} of type {type(value).__name__}; parameters are JSON values and architectures.")


def _to_json(architecture: Architecture, cells: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """``architecture`` as JSON; ``cells`` holds the dictionaries of those met before, by the object's id."""
    if id(architecture) not in cells:
        data: dict[str, Any] = {"format": FORMAT, "nodes": [_node_to_json(node, cells) for node in architecture.nodes]}
        data["output"] = architecture.output
        if architecture.ports:
            data["ports"] = dict(architecture.ports)
        if architecture.training:
            data["training"] = _thaw(architecture.training, cells)
        cells[id(architecture)] = data
    return cells[id(architecture)]


def _node_to_json(node: Node, cells: dict[int, dict[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {"name": node.name, "block": node.block, "inputs": list(node.inputs)}
    if node.params:
        data["params"] = _thaw(node.params, cells)
    if node.weights is not None:
        data["weights"] = node.weights
    return data


def _thaw(value: Any, cells: dict[int, dict[str, Any]]) -> Any:
    if isinstance(value, Architecture):
        return {"architecture": _to_json(value, cells)}
    if isinstance(value, Mapping):
        return {key: _thaw(item, cells) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_thaw(item, cells) for item in value]
    return value


def _from_json(data: Any, cells: dict[int, Architecture]) -> Architecture:
    """The architecture of ``data``; ``cells`` holds those of the dictionaries met before, by the dictionary's id."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
        raise ArchitectureError(f'The data has format {found!r}, expected "{FORMAT}"; give the contents of an architecture.json.')
    if id(data) not in cells:
        try:
            nodes = tuple(_node_from_json(item, cells) for item in data["nodes"])
            cells[id(data)] = Architecture(nodes, data["output"], data.get("ports", {}), data.get("training", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise ArchitectureError(f"The architecture lacks or misspells a field ({error}); a node has {', '.join(_FIELDS)}.") from None
    return cells[id(data)]


def _node_from_json(item: Mapping[str, Any], cells: dict[int, Architecture]) -> Node:
    unknown = set(item).difference(_FIELDS)
    if unknown:
        raise ArchitectureError(f'The node "{item.get("name")}" has the unknown field "{min(unknown)}"; a node has {", ".join(_FIELDS)}.')
    return Node(item["name"], item["block"], tuple(item["inputs"]), _melt(item.get("params", {}), cells), item.get("weights"))


def _melt(value: Any, cells: dict[int, Architecture]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"architecture"}:
            inner = value["architecture"]
            return Architecture.from_json(inner) if isinstance(inner, str) else _from_json(inner, cells)
        return {key: _melt(item, cells) for key, item in value.items()}
    if isinstance(value, list):
        return [_melt(item, cells) for item in value]
    return value


def cells_of(value: Any) -> Iterable[Architecture]:
    """Every architecture held in a parameter value, in order."""
    if isinstance(value, Architecture):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from cells_of(value[key])
    elif isinstance(value, tuple):
        for item in value:
            yield from cells_of(item)
