"""Depth over width, susceptibilities and fluctuations, against the theory of perceptrons."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from archwright.evaluators.proxies import Batch, batch_of, proxy_metrics
from archwright.evaluators.proxies.aspect_ratio import LINEAR, RELU, SMOOTH, aspect_ratio, aspect_ratio_match, leaky_vertex, shape_of
from archwright.evaluators.proxies.susceptibility import empirical_vertex, susceptibilities
from archwright.evaluators.tasks import load_task
from archwright.search_space.build import build
from archwright.search_space.seeds import generator
from archwright.search_space.space import SPACES

NAMES = ("aspect-ratio", "aspect-ratio-match", "chi-parallel", "chi-perpendicular", "four-point-vertex")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perceptron(depth: int, width: int, gate: nn.Module | None = None, *, gain: float = 2.0, seed: int = 0) -> nn.Sequential:
    """``depth`` hidden layers and an output of two values, weights of variance ``gain / fan_in``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b, bias=False) for a, b in pairwise([6, *[width] * depth, 2])]
        for layer in layers:
            nn.init.normal_(layer.weight, std=math.sqrt(gain / layer.in_features))
        parts = [part for layer in layers for part in (layer, gate or nn.ReLU())]
    return nn.Sequential(*parts[:-1])


class Residual(nn.Module):
    def __init__(self, blocks: int, width: int, scale: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(perceptron(1, width, seed=seed) for seed in range(blocks))
        for branch in self.branches:
            branch[0], branch[2] = nn.Linear(width, width), nn.Linear(width, width)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branch in self.branches:
            x = x + self.scale * branch(x)
        return x


# --- the ratio


@pytest.mark.parametrize(("depth", "width"), [(1, 16), (3, 16), (7, 40), (12, 64)])
def test_a_perceptron_has_its_depth_over_its_width(depth, width):
    shape = shape_of(perceptron(depth, width), normal(4, 6))
    assert shape.ratio == pytest.approx(depth / width, abs=1e-12)
    assert shape.depth == depth + 1
    assert shape.outputs == 2
    assert shape.distance == pytest.approx(math.log(depth / width * (20 + 3 * 2) * 5 / 4))


def test_a_residual_network_without_branches_has_none():
    x = normal(4, 16)
    assert shape_of(Residual(5, 16, 0.0), x).ratio == 0.0
    assert aspect_ratio(Residual(5, 16, 0.0), Batch(x)) == 0.0
    ratios = [shape_of(Residual(5, 16, scale), x).ratio for scale in (0.1, 0.5, 3.0)]
    assert 0 < ratios[0] < ratios[1] < ratios[2] < 5 * 2 / 16


def test_it_rises_with_depth_and_falls_with_width():
    by_depth = [shape_of(perceptron(depth, 24), normal(2, 6)).ratio for depth in range(1, 9)]
    by_width = [shape_of(perceptron(4, width), normal(2, 6)).ratio for width in (8, 16, 64)]
    assert all(a < b for a, b in pairwise(by_depth))
    assert all(a > b for a, b in pairwise(by_width))


def test_parallel_branches_count_once_along_the_longest_path():
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.short = nn.Linear(6, 10), nn.Linear(10, 10)
            self.long, self.head = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 10)), nn.Linear(20, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head(torch.cat([self.short(x), self.long(x)], dim=1))

    shape = shape_of(Parallel(), normal(4, 6))
    assert shape.ratio == pytest.approx(2 / 10 + 1 / 20)
    assert shape.depth == 4


def test_a_weight_used_again_counts_once_and_convolutions_count_channels():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.turn = nn.Linear(3, 12), nn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.zeros(len(x), 12)
            for step in range(x.shape[1]):
                h = torch.tanh(self.turn(h) + self.read(x[:, step]))
            return h

    one, many = (shape_of(Recurrent(), normal(4, steps, 3)) for steps in (2, 30))
    assert 1e-3 < one.ratio <= 1 / 12
    assert 1e-3 < many.ratio <= 1 / 12
    assert one.vertex == SMOOTH
    convolutions = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 4))
    assert shape_of(convolutions, normal(2, 1, 8, 8)).ratio == pytest.approx(1 / 8 + 1 / 256)


@pytest.mark.parametrize(
    ("gate", "vertex"),
    [(nn.ReLU(), RELU), (nn.GELU(), RELU), (nn.Tanh(), SMOOTH), (nn.Identity(), LINEAR), (nn.LeakyReLU(0.2), leaky_vertex(0.2))],
)
def test_the_activation_names_the_strength_of_fluctuations(gate, vertex):
    assert shape_of(perceptron(3, 8, gate), normal(2, 6)).vertex == pytest.approx(vertex)
    assert leaky_vertex(0.0) == RELU
    assert leaky_vertex(1.0) == LINEAR


def test_the_match_is_best_at_the_optimum():
    x = normal(2, 6)
    best = shape_of(perceptron(1, 8), x).optimum
    scores = {width: aspect_ratio_match(perceptron(1, width), Batch(x)) for width in (2, 8, round(1 / best), 200)}
    assert max(scores, key=scores.get) == round(1 / best)
    assert scores[round(1 / best)] == pytest.approx(0.0, abs=0.05)
    assert proxy_metrics(nn.Linear(6, 3), Batch(x), ["aspect-ratio-match"]) == {}


# --- susceptibilities


@pytest.mark.parametrize(("gain", "expected"), [(2.0, 1.0), (1.0, 0.5), (4.0, 2.0)])
def test_a_rectifier_network_passes_changes_on_as_its_weights_are_drawn(gain, expected):
    drawn = [susceptibilities(perceptron(4, 400, gain=gain, seed=seed), normal(64, 6)) for seed in range(3)]
    # the last of the five weights has no rectifier behind it, which doubles what it passes on
    scale = expected * 2 ** (1 / 5)
    assert sum(one[0] for one in drawn) / 3 == pytest.approx(scale, rel=0.1)
    assert sum(one[1] for one in drawn) / 3 == pytest.approx(scale, rel=0.1)


def test_a_batch_norm_forgets_the_length():
    network = nn.Sequential(nn.Linear(6, 50, bias=False), nn.BatchNorm1d(50, eps=1e-12), nn.ReLU(), nn.Linear(50, 4))
    along, across = susceptibilities(network.train(), normal(32, 6))
    assert along < 0.01 < across


def test_codes_have_no_neighbours():
    assert all(math.isnan(one) for one in susceptibilities(nn.Sequential(nn.Embedding(5, 8), nn.Flatten()), torch.zeros(2, 3).long()))
    assert all(math.isnan(one) for one in susceptibilities(nn.ReLU(), normal(2, 3)))


# --- fluctuations


@pytest.mark.parametrize("layer", [2, 4, 7])
def test_fluctuations_over_initialisations_are_those_of_the_theory(layer):
    width = 100
    network = nn.Sequential(*perceptron(layer, width)[:-2])
    assert network[-1].out_features == width
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = empirical_vertex(network, normal(1, 6), draws=2500)
    assert found == pytest.approx(RELU * (layer - 1) / width, rel=0.25)


def test_drawing_leaves_the_weights_as_they_were():
    network = perceptron(2, 8)
    before = [weight.clone() for weight in network.parameters()]
    empirical_vertex(network, normal(2, 6), draws=3)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("space", ["conv-cells", "token-mixers", "resnet"])
def test_networks_of_the_spaces_have_them_all(space):
    task = load_task({"name": "digits", "params": {}})
    architecture, _ = SPACES[space].obj.for_input(task.input).sample(generator(0, "probe", 1))
    network, batch = build(architecture, task.input, task.output, seed=0), batch_of(task, 8)
    found = proxy_metrics(network, batch, NAMES, seed=1)
    assert set(found) == set(NAMES)
    assert 0 < found["aspect-ratio"] < 10
    assert found == proxy_metrics(network, batch, NAMES, seed=1)
