"""What can be told of a directed acyclic graph without looking at its operations: sizes, degrees, distances, centralities."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import networkx as nx
import numpy as np

from .architecture import Architecture
from .normal_form import normal_graph

MOST_EXACT = 1000
"""Nodes up to which betweenness looks at every source; above, at this many drawn from the seed."""
SAMPLED = 200

FEATURES = (
    "nodes", "edges", "density", "depth", "sources", "sinks",
    "in_degree_mean", "in_degree_variance", "in_degree_max",
    "out_degree_mean", "out_degree_variance", "out_degree_max",
    "degree_mean", "degree_variance", "degree_max",
    "closeness_mean", "closeness_variance", "betweenness_mean", "betweenness_variance",
    "degree_centrality_mean", "degree_centrality_variance",
    "path_length_mean", "diameter", "eccentricity_mean", "clustering", "log_paths",
    "layer_width_mean", "layer_width_variance",
)  # fmt: skip


def structure_features(graph: nx.DiGraph, *, seed: int = 0) -> dict[str, float]:
    """The numbers of :data:`FEATURES` for a directed acyclic graph, the same however its nodes are called.

    Experiments on Properties of Hidden Structures of Sparse Neural Networks (2021, 2107.12917).

    * ``density`` is |E| / (|V| (|V| - 1)), 0 for one node; ``depth`` the edges of the longest path;
    * ``closeness`` is networkx's, over the distances *to* a node; ``betweenness`` and ``degree_centrality`` are normalised;
    * ``path_length_mean``, ``diameter``, ``eccentricity_mean`` and ``clustering`` are those of the largest weakly connected component
      without directions (of several as large, of the one with the most edges, or the mean over such);
    * ``log_paths`` is log(1 + number of paths from a source to a sink);
    * a node's layer is the longest path that leads to it, and ``layer_width`` the number of nodes in a layer.

    Variances are those of a population. Isolated nodes count as sources and as sinks. No node at all gives zeros.

    Args:
        graph: without directed cycles.
        seed: of the sources that stand for all where there are more than 1,000 nodes.

    Raises:
        networkx.NetworkXUnfeasible: the graph has a directed cycle.
    """
    if not len(graph):
        return dict.fromkeys(FEATURES, 0.0)
    order = list(nx.topological_sort(graph))
    layers = _layers(graph, order)
    sizes = {
        "nodes": float(len(graph)),
        "edges": float(graph.number_of_edges()),
        "density": nx.density(graph),
        "depth": float(max(layers.values())),
        "sources": float(sum(not degree for _, degree in graph.in_degree())),
        "sinks": float(sum(not degree for _, degree in graph.out_degree())),
        "log_paths": _log_paths(graph, order),
    }
    width_mean, width_variance = _moments(Counter(layers.values()).values())
    return {**sizes, **_degrees(graph), **_centralities(graph, seed), **_distances(graph)} | {
        "layer_width_mean": width_mean,
        "layer_width_variance": width_variance,
    }


def structure_vector(architecture: Architecture, *, seed: int = 0) -> np.ndarray:
    """The numbers of :data:`FEATURES`, in their order, for :func:`graph_of` an architecture."""
    found = structure_features(graph_of(architecture), seed=seed)
    return np.array([found[name] for name in FEATURES])


def graph_of(architecture: Architecture) -> nx.DiGraph:
    """The normal form's nodes and edges, called cells written out; equal networks have the same graph.

    Cells that a block holds in its parameters stand beside their block: from what it reads through the cell to it.
    """
    graph = nx.DiGraph()
    _write(graph, architecture, ())
    return graph


def _write(graph: nx.DiGraph, architecture: Architecture, before: Sequence[Any]) -> Any:
    """Adds an architecture whose inputs read ``before``; returns its output node."""
    place = graph.number_of_nodes()
    form = normal_graph(architecture, lambda cell: cell.digest)
    names = [(place, number) for number in range(len(form.nodes))]
    graph.add_nodes_from(names)
    for name, node in zip(names, form.nodes, strict=True):
        sources = [names[source] for source, *_ in node.reads] if node.reads else list(before)
        graph.add_edges_from((source, name) for source in sources)
        graph.add_edges_from((_write(graph, cell, sources), name) for cell in _held(node.params))
    return names[form.output[0]]


def _held(value: Any) -> list[Architecture]:
    """The architectures inside a parameter, outermost ones only, in their order."""
    if isinstance(value, Architecture):
        return [value]
    inside: Iterable[Any] = value.values() if hasattr(value, "values") else value if isinstance(value, list | tuple) else ()
    return [cell for item in inside for cell in _held(item)]


def _layers(graph: nx.DiGraph, order: Sequence[Any]) -> dict[Any, int]:
    layers: dict[Any, int] = {}
    for node in order:
        layers[node] = 1 + max((layers[source] for source in graph.predecessors(node)), default=-1)
    return layers


def _log_paths(graph: nx.DiGraph, order: Sequence[Any]) -> float:
    paths: dict[Any, int] = {}
    for node in order:
        paths[node] = sum(paths[source] for source in graph.predecessors(node)) or 1
    return math.log(1 + sum(count for node, count in paths.items() if not graph.out_degree(node)))


def _degrees(graph: nx.DiGraph) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, view in (("in_degree", graph.in_degree), ("out_degree", graph.out_degree), ("degree", graph.degree)):
        values = [degree for _, degree in view()]
        found[f"{name}_mean"], found[f"{name}_variance"] = _moments(values)
        found[f"{name}_max"] = float(max(values))
    return found


def _centralities(graph: nx.DiGraph, seed: int) -> dict[str, float]:
    sources = SAMPLED if len(graph) > MOST_EXACT else None
    each = {
        "closeness": nx.closeness_centrality(graph),
        "betweenness": nx.betweenness_centrality(graph, k=sources, seed=seed),
        "degree_centrality": nx.degree_centrality(graph),
    }
    found: dict[str, float] = {}
    for name, values in each.items():
        found[f"{name}_mean"], found[f"{name}_variance"] = _moments(values.values())
    return found


def _distances(graph: nx.DiGraph) -> dict[str, float]:
    from scipy.sparse.csgraph import shortest_path

    whole = nx.Graph(graph)
    parts = [whole.subgraph(part) for part in nx.connected_components(whole)]
    rank = max((len(part), part.number_of_edges()) for part in parts)
    found = []
    for part in parts:  # several as large and as dense: the mean of them, so that no name decides
        if (len(part), part.number_of_edges()) == rank:
            away = shortest_path(nx.to_scipy_sparse_array(part), unweighted=True)
            pairs = max(1, len(part) * (len(part) - 1))
            found.append((away.sum() / pairs, away.max(), away.max(axis=1).mean(), nx.average_clustering(part)))
    return dict(zip(("path_length_mean", "diameter", "eccentricity_mean", "clustering"), map(float, np.mean(found, axis=0)), strict=True))


def _moments(values: Iterable[float]) -> tuple[float, float]:
    """Mean and population variance."""
    array = np.sort(np.fromiter(values, dtype=float))  # a sum in one order, whatever the order of the nodes
    return float(array.mean()), float(array.var())
