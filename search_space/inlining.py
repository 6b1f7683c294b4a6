"""The first step of the normal form: called cells and fixed loops written out, so that nested and flat graphs are one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .architecture import Architecture, Node, port_of, source_of
from .errors import ArchitectureError

Reference = tuple[int, str]  # number of a node, port ("" for the main output)
Tied = dict[str, Any]  # name in a body -> number of the written-out node, or again such a dictionary


@dataclass(slots=True)
class FlatNode:
    """A node of the flat graph: inputs by number; ``ties`` numbers the nodes whose parameters it shares."""

    name: str
    block: str
    params: Mapping[str, Any]
    inputs: list[Reference]


@dataclass(slots=True)
class FlatGraph:
    """Nodes in an order in which inputs come first, and pairs of nodes that share their parameters."""

    nodes: list[FlatNode] = field(default_factory=list)
    ties: list[tuple[int, int]] = field(default_factory=list)
    output: Reference = (0, "")
    ports: dict[str, Reference] = field(default_factory=dict)


def inlined(architecture: Architecture) -> FlatGraph:
    """``architecture`` with every ``cell`` replaced by its body and every ``loop`` by ``times`` copies that share parameters.

    Raises:
        ArchitectureError: a body reads an input that its call does not give, or shares parameters with a different body.
    """
    flat = FlatGraph()
    flat.output, flat.ports, _ = _Scope(flat, "", None).write(architecture)
    return flat


class _Scope:
    """Writes one architecture out; ``arguments`` maps an input's index or port to what the call gives (None at the top)."""

    def __init__(self, flat: FlatGraph, prefix: str, arguments: Mapping[int | str, Reference] | None) -> None:
        self.flat = flat
        self.prefix = prefix
        self.arguments = arguments
        self.outputs: dict[str, Reference] = {}
        self.written: Tied = {}

    def write(self, architecture: Architecture) -> tuple[Reference, dict[str, Reference], Tied]:
        for node in architecture.nodes:
            if node.block == "cell":
                self._call(node)
            elif node.block == "loop" and isinstance(node.params.get("times"), int):
                self._repeat(node)
            elif node.block == "input" and self.arguments is not None:
                self.outputs[node.name] = self._argument(node)
            else:
                self._keep(node)
        for node in architecture.nodes:
            if node.weights is not None and node.name in self.written:
                self._tie(self.written[node.name], self.written.get(node.weights), node.name, node.weights)
        ports = {port: self._read(reference) for port, reference in architecture.ports.items()}
        return self._read(architecture.output), ports, self.written

    def _read(self, reference: str) -> Reference:
        if reference in self.outputs:
            return self.outputs[reference]
        number, port = self.outputs[source_of(reference)]
        if port or source_of(reference) not in self.written or not isinstance(self.written[source_of(reference)], int):
            raise ArchitectureError(f'"{self.prefix}{reference}" reads a port that "{self.prefix}{source_of(reference)}" does not give.')
        return number, port_of(reference)

    def _keep(self, node: Node) -> None:
        number = len(self.flat.nodes)
        inputs = [self._read(reference) for reference in node.inputs]
        self.flat.nodes.append(FlatNode(self.prefix + node.name, node.block, node.params, inputs))
        self.outputs[node.name] = (number, "")
        self.written[node.name] = number

    def _call(self, node: Node) -> None:
        arguments = _arguments(node, [self._read(reference) for reference in node.inputs])
        output, ports, written = _Scope(self.flat, f"{self.prefix}{node.name}/", arguments).write(_body(node))
        self._finish(node, output, ports, written)

    def _repeat(self, node: Node) -> None:
        arguments = _arguments(node, [self._read(reference) for reference in node.inputs])
        ports: dict[str, Reference] = {}
        first: Tied = {}
        for turn in range(node.params["times"]):
            scope = _Scope(self.flat, f"{self.prefix}{node.name}/{turn}/", arguments)
            output, ports, written = scope.write(_body(node))
            arguments = {**arguments, 0: output}
            if turn == 0:
                first = written
            else:
                self._tie(written, first, node.name, node.name)
        self._finish(node, arguments[0], ports, first)

    def _finish(self, node: Node, output: Reference, ports: Mapping[str, Reference], written: Tied) -> None:
        self.outputs[node.name] = output
        self.outputs |= {f"{node.name}:{port}": reference for port, reference in ports.items()}
        self.written[node.name] = written

    def _argument(self, node: Node) -> Reference:
        key = input_key(node.params)
        assert self.arguments is not None
        if key not in self.arguments:
            what = f'the port "{key}"' if isinstance(key, str) else f"input {key}"
            raise ArchitectureError(
                f'The body called by "{self.prefix[:-1]}" reads {what}, which the call does not give; add it to its inputs.'
            )
        return self.arguments[key]

    def _tie(self, mine: Any, theirs: Any, name: str, other: str) -> None:
        if isinstance(mine, int) and isinstance(theirs, int):
            self.flat.ties.append((mine, theirs))
        elif isinstance(mine, dict) and isinstance(theirs, dict) and set(mine) <= set(theirs):
            for key in mine:
                self._tie(mine[key], theirs[key], name, other)
        else:
            raise ArchitectureError(
                f'"{self.prefix}{name}" uses the weights of "{self.prefix}{other}", whose body has other nodes; '
                f"share the weights of a node with the same body."
            )


def input_key(params: Mapping[str, Any]) -> int | str:
    """What tells an ``input`` node from the others: the name of its port, or its index (0 where none is given)."""
    return params["port"] if "port" in params else int(params.get("index", 0))


def _arguments(node: Node, inputs: list[Reference]) -> dict[int | str, Reference]:
    """What a call gives its body: inputs by index, and those named by ``ports`` (the last ones) also by name."""
    if not inputs:
        raise ArchitectureError(f'The {node.block} "{node.name}" reads nothing; give it the inputs of its body.')
    given: dict[int | str, Reference] = dict(enumerate(inputs))
    ports = tuple(node.params.get("ports", ()))
    return given | dict(zip(ports, inputs[len(inputs) - len(ports) :], strict=True))


def _body(node: Node) -> Architecture:
    body = node.params.get("body")
    if not isinstance(body, Architecture):
        raise ArchitectureError(f'The {node.block} "{node.name}" has the body {body!r}; give an Architecture as params["body"].')
    return body
