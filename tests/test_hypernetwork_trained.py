"""A hypernetwork trained on small networks of two kinds: what its weights are worth on networks it never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archwright.evaluators.tasks import Task, load_task
from archwright.predictors.hypernetwork.candidates import predicted_weights, score
from archwright.predictors.hypernetwork.functional import with_batch_statistics
from archwright.predictors.hypernetwork.model import Hypernetwork
from archwright.predictors.hypernetwork.training import Plan, trained_hypernetwork
from archwright.search_space.architecture import Architecture
from archwright.search_space.build import build
from archwright.search_space.choices import Choices
from archwright.search_space.compose import chain, layer, part, pooled_head, tokens
from archwright.search_space.space import Space
from archwright.studies.warm_start import different, examples_of

TRAINED, UNSEEN, TARGET = 60, 6, 0.8


def _small(choose: Choices) -> Architecture:
    """One to four convolutions and poolings, or one to three channel mixers on patches."""
    if choose.one_of("kind", ["cnn", "mlp"]) == "mlp":
        stem = tokens(choose.one_of("mlp-width", [16, 24, 32]), patch=choose.one_of("patch", [4, 8]))
        layers = [layer(None, here.one_of("channel", ["mlp", "swiglu"])) for here in choose.repeat("mixer", 1, 3)]
        return chain(stem, layers, pooled_head())
    nodes = [part("input", name="input"), part("conv-stem", "input", name="stem", width=choose.one_of("width", [8, 12, 16]))]
    for here in choose.repeat("layer", 1, 4):
        nodes.append(part(here.one_of("op", ["conv-1x1", "conv-3x3", "avg-pool-3x3"]), nodes[-1].name, name=here.path))
    nodes += [part("norm-relu", nodes[-1].name, name="norm"), replace(pooled_head(), inputs=("norm",))]
    return Architecture(tuple(nodes), "head")


@pytest.fixture(scope="module")
def digits() -> Task:
    return load_task({"name": "digits", "params": {"shift": 0.0, "degrees": 0.0, "scale": 0.0}})


@pytest.fixture(scope="module")
def networks(digits) -> list[Architecture]:
    return different(Space("test-small", _small).for_input(digits.input), TRAINED + UNSEEN, 0)


@pytest.fixture(scope="module")
def hypernetwork(digits, networks) -> Hypernetwork:
    plan = Plan(steps=200, meta_batch=4, batch_size=64, learning_rate=3e-3)
    return trained_hypernetwork(networks[:TRAINED], examples_of(digits), digits.input, digits.output, plan=plan, seed=0)


def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((with_batch_statistics(network)(x).argmax(-1) == y).float().mean())


def steps_to(network: nn.Module, digits: Task, target: float, most: int = 120) -> int:
    """Optimizer steps, counted in fives, until the validation accuracy is ``target``."""
    x, y = torch.as_tensor(digits.train.x), torch.as_tensor(digits.train.y)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(0)
    for step in range(most):
        if step % 5 == 0 and accuracy(network, torch.as_tensor(digits.val.x), torch.as_tensor(digits.val.y)) >= target:
            return step
        rows = torch.randint(len(x), (64,), generator=order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train()(x[rows]), y[rows]).backward()
        optimizer.step()
    return most


@pytest.mark.slow
def test_predicted_weights_of_unseen_networks_beat_drawn_ones_and_train_faster(digits, networks, hypernetwork):
    x, y = torch.as_tensor(digits.val.x), torch.as_tensor(digits.val.y)
    predicted, drawn, steps = [], [], []
    for architecture in networks[TRAINED:]:
        warm, cold = (build(architecture, digits.input, digits.output, seed=1) for _ in range(2))
        warm.load_state_dict(predicted_weights(hypernetwork, architecture), strict=False)
        predicted.append(score(hypernetwork, architecture, x, y)["accuracy"])
        assert accuracy(warm, x, y) == pytest.approx(predicted[-1], abs=0.01)
        drawn.append(accuracy(cold, x, y))
        steps.append((steps_to(warm, digits, TARGET), steps_to(cold, digits, TARGET)))
    assert np.mean(predicted) > np.mean(drawn) + 0.35
    assert min(np.subtract(predicted, drawn)) > 0.1
    warm_steps, cold_steps = np.mean(steps, axis=0)
    assert warm_steps < 0.8 * cold_steps
