"""How much of a sparse recurrent network's accuracy on the Reber grammar its structure tells alone.

Experiments on Properties of Hidden Structures of Sparse Neural Networks (2021, 2107.12917) reports R^2 up to 0.81.

Run: python studies/benchmarks/reber.py [--networks 200] [--steps 200] [--folder DIR]

Random graphs (Watts-Strogatz, Barabasi-Albert, Erdos-Renyi) are made acyclic and become recurrent networks: a unit per node, a weight
per edge, and within a layer of the graph a weight from every unit to every unit one symbol later. Each learns to tell strings of the
Reber grammar from strings with one symbol changed. Accuracies on held-out strings are predicted by 10-fold cross-validation from the
features of :mod:`archwright.predictors.graph_structure`. Networks of like depth are trained 20 at a time; a second start goes on where
the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor

from archwright.predictors.graph_structure_predictor import MODELS, structure_regressor
from archwright.search_space.files import write_atomically
from archwright.search_space.graph_structure import FEATURES, structure_features
from archwright.search_space.seeds import derive_seed, generator
from archwright.studies.benchmarks._results import write

#: state -> the symbols that may follow, each with the state after it
GRAMMAR: Mapping[int, Mapping[str, int]] = {
    0: {"B": 1}, 1: {"T": 2, "P": 3}, 2: {"S": 2, "X": 4}, 3: {"T": 3, "V": 5}, 4: {"X": 3, "S": 6}, 5: {"P": 4, "V": 6}, 6: {"E": 7},
}  # fmt: skip
END = 7
SYMBOLS = "BTPSXVE"
LONGEST, TRAINED, TESTED = 12, 2000, 1000
GROUP, BATCH, RATE = 20, 64, 0.01
FOLDS, REPEATS = 10, 2
PAPER = 0.81


def accepts(string: str) -> bool:
    """Whether the grammar makes this string."""
    state = 0
    for symbol in string:
        if state == END or symbol not in GRAMMAR[state]:
            return False
        state = GRAMMAR[state][symbol]
    return state == END


def positive(rng: random.Random) -> str:
    """A string of the grammar of at most ``LONGEST`` symbols, each symbol drawn evenly among those that may follow."""
    while True:
        state, string = 0, ""
        while state != END:
            symbol = rng.choice(sorted(GRAMMAR[state]))
            string, state = string + symbol, GRAMMAR[state][symbol]
        if len(string) <= LONGEST:
            return string


def negative(rng: random.Random) -> str:
    """A string of the grammar with one symbol changed such that it is none any more."""
    while True:
        string, place = positive(rng), rng.randrange(LONGEST)
        changed = string[:place] + rng.choice(SYMBOLS) + string[place + 1 :]
        if len(changed) == len(string) and not accepts(changed):
            return changed


def strings(count: int, purpose: str) -> tuple[Tensor, Tensor]:
    """One-hot symbols [count, LONGEST, 7], zeros before the start, and whether each string is of the grammar [count]; half are."""
    rng = generator(0, "data", f"reber {purpose}")
    drawn = [positive(rng) if number % 2 else negative(rng) for number in range(count)]
    x = torch.zeros(count, LONGEST, len(SYMBOLS))
    for row, string in enumerate(drawn):
        for place, symbol in enumerate(string, LONGEST - len(string)):
            x[row, place, SYMBOLS.index(symbol)] = 1.0
    return x, torch.arange(count).remainder(2).float()


def random_graph(number: int) -> nx.DiGraph:
    """The ``number``-th random graph, its edges turned from lower to higher nodes."""
    rng = generator(0, "probe", f"reber graph {number}")
    nodes, seed = rng.randint(6, 30), rng.randrange(2**31)
    kind = rng.choice(["small world", "scale free", "even"])
    if kind == "small world":
        graph = nx.watts_strogatz_graph(nodes, rng.randint(2, min(8, nodes - 1)), rng.uniform(0.1, 0.9), seed=seed)
    elif kind == "scale free":
        graph = nx.barabasi_albert_graph(nodes, rng.randint(1, 4), seed=seed)
    else:
        graph = nx.gnp_random_graph(nodes, rng.uniform(0.05, 0.4), seed=seed)
    order = list(range(nodes))
    rng.shuffle(order)
    directed = nx.DiGraph()
    directed.add_nodes_from(range(nodes))
    directed.add_edges_from((min(order[a], order[b]), max(order[a], order[b])) for a, b in graph.edges)
    return directed


@dataclass(frozen=True)
class Sparse:
    """Several recurrent networks side by side, padded to one number of units.

    Args:
        forward, recurrent: masks [networks, units, units] of the weights within a symbol and to the next, entry [v, u] from u to v.
        layers: [layers, networks, units], 1 where a unit belongs to a layer.
        sources, sinks: [networks, units], 1 for units that read symbols, and for those that are read.
    """

    forward: Tensor
    recurrent: Tensor
    layers: Tensor
    sources: Tensor
    sinks: Tensor

    @classmethod
    def of(cls, graphs: Sequence[nx.DiGraph]) -> Sparse:
        units = max(map(len, graphs))
        generations = [list(nx.topological_generations(graph)) for graph in graphs]
        forward, recurrent = torch.zeros(len(graphs), units, units), torch.zeros(len(graphs), units, units)
        layers = torch.zeros(max(map(len, generations)), len(graphs), units)
        sources, sinks = torch.zeros(len(graphs), units), torch.zeros(len(graphs), units)
        for number, graph in enumerate(graphs):
            for a, b in graph.edges:
                forward[number, b, a] = 1.0
            for place, layer in enumerate(generations[number]):
                layers[place, number, layer] = 1.0
                recurrent[number, torch.tensor(layer)[:, None], torch.tensor(layer)[None]] = 1.0
            sources[number] = torch.tensor([float(node in graph and not graph.in_degree(node)) for node in range(units)])
            sinks[number] = torch.tensor([float(node in graph and not graph.out_degree(node)) for node in range(units)])
        return cls(forward, recurrent, layers, sources, sinks)

    def weights(self, numbers: Sequence[int]) -> list[Tensor]:
        """Initial weights, of each network from its own number: in, forward, recurrent, bias, out, bias of the output."""
        count, units = self.sources.shape
        drawn = torch.zeros(count, units, len(SYMBOLS) + 2 * units + 1)
        for place, number in enumerate(numbers):
            seeded = torch.Generator().manual_seed(derive_seed(0, "init", f"reber {number}"))
            drawn[place] = torch.randn(units, drawn.shape[2], generator=seeded)
        reading, forward, recurrent, out = drawn.split([len(SYMBOLS), units, units, 1], dim=2)
        fan = (self.forward + self.recurrent).sum(dim=2, keepdim=True).clamp(min=1)
        out = out[..., 0] / self.sinks.sum(dim=1, keepdim=True).sqrt()
        made = [reading, forward / fan.sqrt(), recurrent / fan.sqrt(), torch.zeros(count, units), out, torch.zeros(count)]
        return [weight.clone().requires_grad_() for weight in made]

    def __call__(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """Logits [networks, n] that strings x [n, length, 7] are of the grammar."""
        reading, forward, recurrent, bias, out, last = weights
        inputs = (x @ (reading * self.sources[..., None]).mT[:, None]) + bias[:, None, None]  # [networks, n, length, units]
        forward, recurrent = (forward * self.forward).mT, (recurrent * self.recurrent).mT
        h = torch.zeros(len(bias), len(x), bias.shape[1])
        for place in range(x.shape[1]):
            driven, now = inputs[:, :, place] + h @ recurrent, torch.zeros_like(h)
            for layer in self.layers:
                now = now + torch.tanh(driven + now @ forward) * layer[:, None]
            h = now
        return (h @ (out * self.sinks)[..., None])[..., 0] + last[:, None]


def accuracies(numbers: Sequence[int], steps: int) -> list[float]:
    """Accuracy on held-out strings of the networks of these numbers after ``steps`` of Adam on the same batches."""
    networks = Sparse.of([random_graph(number) for number in numbers])
    weights = networks.weights(numbers)
    (x, y), (tested, truth) = strings(TRAINED, "train"), strings(TESTED, "test")
    order = torch.Generator().manual_seed(derive_seed(0, "train", "reber"))
    optimizer = torch.optim.Adam(weights, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), generator=order)
        optimizer.zero_grad()
        logits = networks(weights, x[rows])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[rows].expand_as(logits), reduction="none")
        loss.mean(dim=1).sum().backward()
        squares = [weight.grad.flatten(1 if weight.dim() > 1 else 0).square() for weight in weights]
        norms = sum(square.sum(dim=1) if square.dim() > 1 else square for square in squares).sqrt().clamp(min=1.0)  # of each network alone
        for weight in weights:
            weight.grad /= norms.reshape(-1, *[1] * (weight.dim() - 1))
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = (networks(weights, tested) > 0) == (truth > 0.5)
    return right.double().mean(dim=1).tolist()


def trained(count: int, steps: int, folder: Path) -> list[float]:
    """Accuracies of the first ``count`` networks; those that are in the folder already are read from it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{steps}-steps.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    missing = [number for number in range(count) if str(number) not in known]
    missing.sort(key=lambda number: (nx.dag_longest_path_length(random_graph(number)), number))
    for first in range(0, len(missing), GROUP):
        numbers = missing[first : first + GROUP]
        known |= dict(zip(map(str, numbers), accuracies(numbers, steps), strict=True))
        write_atomically(path, json.dumps(known))
        print(f"{min(first + GROUP, len(missing))} of {len(missing)} networks are trained", flush=True)
    return [known[str(number)] for number in range(count)]


def explained(features: Any, scores: Any, model: str, n_features: int = len(FEATURES)) -> dict[str, float]:
    """R^2 and rank correlations of cross-validated predictions, means over ``REPEATS`` divisions into folds."""
    from scipy.stats import kendalltau, spearmanr
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict

    found = []
    for repeat in range(REPEATS):
        folds = KFold(FOLDS, shuffle=True, random_state=repeat)
        told = cross_val_predict(structure_regressor(model, n_features, repeat), features, scores, cv=folds)
        found.append((r2_score(scores, told), spearmanr(scores, told).statistic, kendalltau(scores, told).statistic))
    return dict(zip(("r2", "spearman", "kendall"), map(float, np.mean(found, axis=0)), strict=True))


def main(networks: int, steps: int, folder: Path) -> None:
    scores = np.array(trained(networks, steps, folder))
    rows = [structure_features(random_graph(number)) for number in range(networks)]
    features = np.array([[row[name] for name in FEATURES] for row in rows])
    figures: dict[str, Any] = {model: explained(features, scores, model) for model in MODELS}
    figures["nodes and edges, forest"] = explained(features[:, :2], scores, "forest", 2)
    grid = Grid("model", "R^2", "Spearman", "Kendall", title=f"{networks} sparse recurrent networks on the Reber grammar")
    for name, one in figures.items():
        grid.add_row(name, *(f"{value:.3f}" for value in one.values()))
    grid.add_row("the paper, at best", f"{PAPER:.2f}", "", "")
    Console().print(grid)
    low, middle, high = (float(value) for value in np.quantile(scores, [0.1, 0.5, 0.9]))
    print(f"accuracies: {low:.3f} {middle:.3f} {high:.3f} (10 %, 50 %, 90 %)")
    spread = {"accuracy_10": low, "accuracy_50": middle, "accuracy_90": high}
    rounded = {name: {key: round(value, 4) for key, value in one.items()} for name, one in figures.items()}
    write("reber", {"networks": networks, "steps": steps, "paper_r2": PAPER, "models": rounded, **spread})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/reber"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    main(given.networks, given.steps, given.folder)
