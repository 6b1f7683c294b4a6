"""Three views of an architecture: a networkx graph, text for a terminal, an SVG drawing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .architecture import Architecture, Node, port_of, source_of
from .outline import Run, chain_of, folded, nested, words

if TYPE_CHECKING:
    import networkx


def to_networkx(architecture: Architecture) -> networkx.MultiDiGraph:
    """The graph as a networkx multigraph.

    Nodes are keyed by name and carry ``block``, ``params`` and ``weights``; an edge carries the ``position`` of the input and the
    ``port`` it reads ("" for the main output). The graph carries ``output``, ``ports`` and ``training``.
    """
    import networkx

    graph = networkx.MultiDiGraph(output=architecture.output, ports=dict(architecture.ports), training=dict(architecture.training))
    for node in architecture.nodes:
        graph.add_node(node.name, block=node.block, params=dict(node.params), weights=node.weights)
    for node in architecture.nodes:
        for position, reference in enumerate(node.inputs):
            graph.add_edge(source_of(reference), node.name, position=position, port=port_of(reference))
    return graph


def to_text(architecture: Architecture) -> str:
    """One line per node: name, block with parameters, inputs; cells indented; a run of equal layers folded into one line.

    >>> nodes = (Node("x", "input"), Node("a", "conv", ("x",), {"size": 3}), Node("s", "sum", ("x", "a")))
    >>> print(to_text(Architecture(nodes, "s")))
    x       input
    a       conv(size=3)  ← x
    s       sum           ← x, a
    output                ← s
    """
    rows = list(_rows(architecture, ""))
    first = max(len(name) for name, _, _ in rows)
    second = max(len(what) for name, what, inputs in rows if inputs and len(what) <= 60)
    lines = (f"{name:<{first}}  {what:<{second if inputs else 0}}{f'  ← {inputs}' if inputs else ''}" for name, what, inputs in rows)
    return "\n".join(line.rstrip() for line in lines)


def to_svg(architecture: Architecture) -> str:
    """The drawing as a standalone SVG document: inputs at the top, boxes coloured by the kind of block."""
    from .svg import document

    return document(architecture)


def _rows(architecture: Architecture, indent: str) -> Iterator[tuple[str, str, str]]:
    last = {run.nodes[-1].name: run.name for run in folded(architecture)}

    def spell(reference: str) -> str:
        name, colon, port = reference.partition(":")
        return last.get(name, name) + colon + port

    for run in folded(architecture):
        yield indent + run.name, _described(run), ", ".join(spell(reference) for reference in run.first.inputs)
        for label, cell in nested(run.first.params):
            yield from _cell_rows(label, cell, indent + "  ")
    yield indent + "output", "", spell(architecture.output)
    for port, reference in architecture.ports.items():
        yield f"{indent}port {port}", "", spell(reference)
    if architecture.training:
        yield f"{indent}training", ", ".join(words(architecture.training)), ""


def _cell_rows(label: str, cell: Architecture, indent: str) -> Iterator[tuple[str, str, str]]:
    chain = chain_of(cell)
    simple = chain is not None and not cell.ports and not any(True for node in chain for _ in nested(node.params))
    if chain is not None and simple:
        yield indent + label, " → ".join(_called(node) for node in chain) or "(its input)", ""
    else:
        yield f"{indent}{label}:", "", ""
        yield from _rows(cell, indent + "  ")


def _described(run: Run) -> str:
    times = f" ×{run.count}" if run.count > 1 else ""
    weights = f", weights of {run.first.weights}" if run.first.weights is not None else ""
    return _called(run.first) + times + weights


def _called(node: Node) -> str:
    inside = ", ".join(words(node.params))
    return f"{node.block}({inside})" if inside else node.block
