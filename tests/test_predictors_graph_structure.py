"""What is told of a graph, by hand on known ones; and the predictor that sees nothing else."""

from __future__ import annotations

import math
import random

import networkx as nx
import numpy as np
import pytest

from archwright.predictors.graph_structure_predictor import MODELS, GraphStructurePredictor
from archwright.search_space import graph_structure
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Choices, Trace
from archwright.search_space.errors import ConfigError
from archwright.search_space.graph_structure import FEATURES, graph_of, structure_features, structure_vector
from archwright.search_space.protocols import Observation
from archwright.search_space.seeds import generator
from archwright.search_space.space import Space
from archwright.testing import check_surrogate


def random_dag(nodes: int, chance: float, seed: int) -> nx.DiGraph:
    rng = random.Random(seed)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from((a, b) for a in range(nodes) for b in range(a + 1, nodes) if rng.random() < chance)
    return graph


# --- features


def test_a_path_by_hand():
    found = structure_features(nx.path_graph(5, create_using=nx.DiGraph))
    expected = {
        "nodes": 5, "edges": 4, "density": 4 / 20, "depth": 4, "sources": 1, "sinks": 1,
        "in_degree_mean": 0.8, "in_degree_variance": 0.16, "in_degree_max": 1, "out_degree_max": 1,
        "degree_mean": 1.6, "degree_variance": 0.24, "degree_max": 2,
        # distances to node i are 1..i, scaled by the share of nodes that reach it: (i / (i (i + 1) / 2)) (i / 4)
        "closeness_mean": (0 + 1 / 4 + (2 / 3) * (2 / 4) + (1 / 2) * (3 / 4) + 2 / 5) / 5,
        "betweenness_mean": (0 + 3 + 4 + 3 + 0) / 12 / 5, "degree_centrality_mean": 1.6 / 4,
        "path_length_mean": 2.0, "diameter": 4, "eccentricity_mean": (4 + 3 + 2 + 3 + 4) / 5, "clustering": 0,
        "log_paths": math.log(2), "layer_width_mean": 1, "layer_width_variance": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_star_by_hand():
    graph = nx.DiGraph([("centre", f"leaf {number}") for number in range(4)])
    expected = {
        "nodes": 5, "edges": 4, "depth": 1, "sources": 1, "sinks": 4, "out_degree_max": 4, "out_degree_variance": 4**2 / 5 - 0.8**2,
        "closeness_mean": 4 * (1 / 4) / 5, "betweenness_mean": 0, "path_length_mean": 1.6, "diameter": 2,
        "eccentricity_mean": (1 + 4 * 2) / 5, "log_paths": math.log(5), "layer_width_mean": 2.5, "layer_width_variance": 2.25,
    }  # fmt: skip
    found = structure_features(graph)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 6, 9])
def test_a_complete_graph_by_hand(count):
    found = structure_features(random_dag(count, 2.0, 0))
    expected = {
        "edges": count * (count - 1) / 2, "density": 0.5, "depth": count - 1, "in_degree_max": count - 1,
        "degree_mean": count - 1, "degree_variance": 0, "betweenness_mean": 0, "path_length_mean": 1, "diameter": 1,
        "clustering": float(count > 2), "log_paths": math.log(1 + 2 ** (count - 2)), "layer_width_mean": 1,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_features_do_not_depend_on_names_or_on_the_order_of_nodes(seed):
    graph = random_dag(14, [0.05, 0.15, 0.4][seed % 3], seed)
    names = [f"layer {number}" for number in range(14)]
    random.Random(seed).shuffle(names)
    renamed = nx.DiGraph()
    renamed.add_nodes_from(sorted(names))
    renamed.add_edges_from((names[a], names[b]) for a, b in reversed(list(graph.edges)))
    assert structure_features(renamed) == pytest.approx(structure_features(graph), rel=1e-12, abs=1e-12)


def test_isolated_and_disconnected_graphs_have_features():
    empty = nx.DiGraph()
    assert set(structure_features(empty).values()) == {0.0}
    empty.add_nodes_from("abc")
    apart = structure_features(empty)
    assert (apart["nodes"], apart["sources"], apart["sinks"], apart["depth"], apart["diameter"]) == (3, 3, 3, 0, 0)
    two = nx.DiGraph([(0, 1), (1, 2), (5, 6)])
    two.add_node("alone")
    found = structure_features(two)
    assert (found["diameter"], found["sources"], found["sinks"]) == (2, 3, 3)
    assert all(math.isfinite(value) for value in [*apart.values(), *found.values()])
    assert tuple(sorted(found)) == tuple(sorted(FEATURES))


def test_a_cycle_is_refused():
    with pytest.raises(nx.NetworkXUnfeasible):
        structure_features(nx.DiGraph([(0, 1), (1, 0)]))


def test_sampled_betweenness_is_a_function_of_the_seed(monkeypatch):
    monkeypatch.setattr(graph_structure, "MOST_EXACT", 40)
    monkeypatch.setattr(graph_structure, "SAMPLED", 5)
    graph = nx.path_graph(41, create_using=nx.DiGraph)
    first, again, other = (structure_features(graph, seed=seed)["betweenness_variance"] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_equal_networks_have_equal_features_and_held_cells_are_looked_into():
    nodes = [Node("in", "input"), Node("a", "relu", ("in",)), Node("b", "gelu", ("in",)), Node("s", "sum", ("a", "b"))]
    one = Architecture(tuple(nodes), "s")
    other = Architecture((nodes[0], nodes[2], nodes[1], Node("t", "sum", ("b", "a"))), "t")
    np.testing.assert_array_equal(structure_vector(one), structure_vector(other))
    assert structure_features(graph_of(one))["log_paths"] == pytest.approx(math.log(3))
    cell = Architecture((Node("x", "input"), Node("y", "relu", ("x",)), Node("z", "relu", ("y",))), "z")
    held = Architecture((Node("in", "input"), Node("a", "layer", ("in",), {"branches": [{"body": cell}]})), "a")
    assert sorted(graph_of(held).edges) == [((0, 0), (0, 1)), ((0, 0), (2, 0)), ((2, 0), (2, 1)), ((2, 1), (2, 2)), ((2, 2), (0, 1))]


# --- the predictor


def _random_graph(choose: Choices) -> Architecture:
    """Up to seven layers in a row, each reading the one before it and perhaps the input."""
    nodes, last = [Node("in", "input")], "in"
    for number, here in enumerate(choose.repeat("layer", 1, 7)):
        skips = here.one_of("skip", [False, True]) and number > 0
        inputs = (last, "in") if skips else (last,)
        nodes += [Node(f"sum {number}", "sum", inputs)] if skips else []
        nodes.append(Node(f"layer {number}", here.one_of("block", ["relu", "gelu"]), (f"sum {number}" if skips else last,)))
        last = f"layer {number}"
    return Architecture(tuple(nodes), last)


def _score(trace: Trace) -> float:
    values = trace.values_by_path()
    depth = values["layer"]
    return depth - 0.1 * depth**2 + 0.3 * sum(bool(values[f"layer/{number}/skip"]) for number in range(1, depth))


GRAPHS = Space("test-graphs", _random_graph)


def drawn(count: int, seed: int, noise: float = 0.0) -> list[Observation]:
    pairs = [GRAPHS.sample(generator(seed, "probe", number)) for number in range(count)]
    rng = random.Random(seed)
    return [Observation((), {}, _score(trace) + noise * rng.gauss(0, 1), trace, made) for made, trace in pairs]


@pytest.mark.parametrize("model", ["forest", "ridge"])
def test_the_predictor_keeps_the_contract(model):
    check_surrogate("graph-structure-predictor", spaces=[(GRAPHS, _score)], model=model)


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_from_structure_alone_and_its_spread_covers(model):
    history, asked = drawn(80, 0, 0.2), drawn(100, 1, 0.2)
    predictor = GraphStructurePredictor(seed=0, model=model)
    predictor.fit(history)
    told = predictor.predict_many(asked)
    truth = np.array([seen.final for seen in asked])
    away = np.abs([one.mean for one in told] - truth)
    assert np.square(away).mean() < 0.4 * truth.var()
    assert 0.5 < np.mean(away < [one.spread for one in told]) < 0.9
    assert predictor.embed(asked).shape == (100, 28)


def test_operations_and_choices_are_not_seen():
    history = drawn(40, 2)
    predictor = GraphStructurePredictor(seed=0, n_features=5)
    predictor.fit(history)
    one = Architecture((Node("x", "input"), Node("y", "relu", ("x",)), Node("z", "relu", ("y",))), "z")
    other = Architecture((Node("x", "input"), Node("y", "gelu", ("x",)), Node("z", "relu", ("y",))), "z")
    assert predictor.predict(Observation((), {}, None, None, one)) == predictor.predict(Observation((), {}, None, history[0].trace, other))
    assert predictor.predict(Observation((), {}, None, history[0].trace)) is None
    assert predictor.embed(history).shape == (40, 5)
    assert predictor.predict_many([]) == []


def test_a_knob_outside_its_domain_is_refused():
    with pytest.raises(ConfigError, match="model"):
        GraphStructurePredictor(seed=0, model="svm")
