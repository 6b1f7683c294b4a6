"""The benchmark on the Reber grammar: its strings, its networks, and what it reads off them."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from archwright.search_space.graph_structure import FEATURES, structure_features
from archwright.search_space.seeds import generator
from archwright.studies.benchmarks import reber


def test_the_grammar_makes_what_it_accepts_and_rejects_what_was_changed():
    rng = generator(0, "probe", "reber")
    made = [reber.positive(rng) for _ in range(200)]
    assert all(reber.accepts(string) for string in made)
    assert all(5 <= len(string) <= reber.LONGEST for string in made)
    assert not any(reber.accepts(reber.negative(rng)) for _ in range(200))
    assert reber.accepts("BTXSE")
    assert reber.accepts("BPVVE")
    assert not reber.accepts("BTXS")
    assert not reber.accepts("BTXSEE")
    assert len(set(made)) > 20


def test_half_the_strings_are_of_the_grammar_and_stand_at_the_end():
    x, y = reber.strings(60, "test")
    assert y.mean() == 0.5
    symbols = x.sum(dim=2)
    assert (symbols[:, -1] == 1).all()
    assert (symbols.diff(dim=1) >= 0).all()


def test_a_unit_sees_its_sources_at_once_and_its_layer_one_symbol_later():
    graph = nx.DiGraph([(0, 2), (1, 2)])
    networks = reber.Sparse.of([graph, nx.path_graph(4, create_using=nx.DiGraph)])
    assert networks.forward[0, 2].tolist() == [1, 1, 0, 0]
    assert networks.recurrent[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert networks.sources.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert networks.sinks.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    reading, forward, recurrent, bias, out, last = (weight.detach() for weight in networks.weights([0, 1]))
    x = torch.eye(7)[torch.tensor([[0, 3]])]
    h = torch.zeros(3)
    for symbol in x[0]:
        first = torch.tanh(reading[0, :2] @ symbol + recurrent[0, :2, :2] @ h[:2])
        h = torch.cat([first, torch.tanh(forward[0, 2, :2] @ first + recurrent[0, 2, 2] * h[2]).reshape(1)])
    logits = networks([reading, forward, recurrent, bias, out, last], x)
    assert float(logits[0, 0]) == pytest.approx(float(out[0, 2] * h[2] + last[0]), abs=1e-6)


def test_a_network_learns_the_same_in_any_company_and_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(reber, "GROUP", 2)
    monkeypatch.setattr(reber, "TRAINED", 200)
    monkeypatch.setattr(reber, "TESTED", 100)
    whole = reber.trained(4, 3, tmp_path / "whole")
    first = reber.trained(2, 3, tmp_path / "parts")
    made = []
    accuracies = reber.accuracies
    monkeypatch.setattr(reber, "accuracies", lambda numbers, steps: made.extend(numbers) or accuracies(numbers, steps))
    assert reber.trained(4, 3, tmp_path / "parts") == pytest.approx(whole, abs=0.011)
    assert sorted(made) == [2, 3]
    assert first == pytest.approx(whole[:2], abs=0.011)


def test_what_structure_tells_is_found_and_noise_is_not():
    rows = [structure_features(reber.random_graph(number)) for number in range(60)]
    features = np.array([[row[name] for name in FEATURES] for row in rows])
    told = reber.explained(features, 0.5 + 0.01 * features[:, FEATURES.index("nodes")], "ridge")
    assert told["r2"] > 0.95
    assert told["kendall"] > 0.9
    assert reber.explained(features, np.random.default_rng(0).standard_normal(60), "ridge")["r2"] < 0.1


def test_a_few_training_steps_teach_something(monkeypatch):
    monkeypatch.setattr(reber, "TRAINED", 400)
    monkeypatch.setattr(reber, "TESTED", 200)
    reached = reber.accuracies([0, 1, 2], 60)
    assert max(reached) > 0.6
    assert all(0.3 < one <= 1 for one in reached)
