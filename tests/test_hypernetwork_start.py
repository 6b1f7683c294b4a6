"""Predicted weights as the start of a training: the file, the trainer, the study."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import archwright
from archwright.evaluators.errors import EvaluationError
from archwright.evaluators.tasks import load_task
from archwright.evaluators.trainer import train
from archwright.predictors.hypernetwork.candidates import predicted_weights
from archwright.predictors.hypernetwork.files import load_hypernetwork, save_hypernetwork
from archwright.predictors.hypernetwork.graph import graph_of
from archwright.predictors.hypernetwork.model import Hypernetwork, Options
from archwright.predictors.hypernetwork.training import Plan
from archwright.predictors.hypernetwork.vocabulary import Vocabulary
from archwright.search_space.architecture import Architecture
from archwright.search_space.choices import Choices
from archwright.search_space.compose import part, pooled_head
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Job
from archwright.search_space.space import Space, space
from archwright.search_space.specs import OutputSpec
from archwright.studies.warm_start import START, different, starter, train_over
from archwright.testing import check_evaluator

DIGITS = {"name": "digits", "params": {"shift": 0.0, "degrees": 0.0, "scale": 0.0}}


@space("test-hypernetwork-stacks", task="image")
def stacks(choose: Choices) -> Architecture:
    """A stem and up to two more convolutions of 4 or 8 channels."""
    width = choose.one_of("width", [4, 8])
    nodes = [part("input", name="input"), part("conv-stem", "input", name="stem", width=width)]
    for here in choose.repeat("layer", 0, 2):
        nodes.append(part(here.one_of("op", ["conv-1x1", "conv-3x3"]), nodes[-1].name, name=here.path))
    nodes += [part("norm-relu", nodes[-1].name, name="norm"), replace(pooled_head(), inputs=("norm",))]
    return Architecture(tuple(nodes), "head")


STACKS: Space = archwright.SPACES["test-hypernetwork-stacks"].obj


@pytest.fixture(scope="module")
def hyper(tmp_path_factory):
    """The file of a hypernetwork trained for a few steps."""
    path = tmp_path_factory.mktemp("hyper") / "hyper.safetensors"
    train_over(STACKS, DIGITS, path, architectures=6, plan=Plan(steps=3, meta_batch=2, batch_size=16), options=Options(d=8))
    return path


def job(folder, architecture, budget=2, **params):
    return Job(3, architecture.to_json(), DIGITS, {"name": "train", "params": params}, 5, budget, str(folder))


def test_training_is_a_function_of_its_arguments(hyper, tmp_path):
    said = []
    plan = Plan(steps=3, meta_batch=2, batch_size=16)
    options = {"architectures": 6, "plan": plan, "options": Options(d=8)}
    train_over(STACKS, DIGITS, tmp_path / "again", **options, progress=lambda step, loss: said.append((step, loss)))
    train_over(STACKS, DIGITS, tmp_path / "other", **options, seed=1)
    assert (tmp_path / "again").read_bytes() == hyper.read_bytes()
    assert (tmp_path / "other").read_bytes() != hyper.read_bytes()
    assert [step for step, _ in said] == [1, 2, 3]
    assert all(0 < loss < 20 for _, loss in said)


def test_different_networks_of_a_small_space_are_all_there_is():
    bound = STACKS.for_input(load_task(DIGITS).input)
    assert len({architecture.digest for architecture in different(bound, 100, 0)}) == len(different(bound, 100, 0)) == 14


def test_the_trainer_starts_from_the_weights_of_a_file(hyper, tmp_path):
    model = load_hypernetwork(hyper)
    architecture = different(STACKS.for_input(model.input), 3, 1)[2]
    weights = predicted_weights(model, architecture)
    save_file(weights, tmp_path / "weights.safetensors")
    still = {"learning_rate": 1e-7, "weight_decay": 0.0, "average": 0.0}
    (tmp_path / "trial").mkdir()
    list(train(job(tmp_path / "trial", architecture, 1), start=str(tmp_path / "weights.safetensors"), **still))
    kept = load_file(tmp_path / "trial" / "model.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=1e-4)
    list(train(job(tmp_path / "plain", architecture, 1), **still))
    assert (load_file(tmp_path / "plain" / "model.safetensors")["stem.conv.weight"] - weights["stem.conv.weight"]).abs().max() > 0.01


def test_the_trainer_keeps_its_contract_with_a_file(hyper, tmp_path):
    architecture = different(STACKS.for_input(load_task(DIGITS).input), 1, 1)[0]
    save_file(predicted_weights(load_hypernetwork(hyper), architecture), tmp_path / "weights.safetensors")
    check_evaluator("train", job(tmp_path, architecture, start=str(tmp_path / "weights.safetensors")))


def test_weights_of_another_network_are_refused(hyper, tmp_path):
    one, other = different(STACKS.for_input(load_task(DIGITS).input), 2, 1)
    save_file(predicted_weights(load_hypernetwork(hyper), one), tmp_path / "weights.safetensors")
    with pytest.raises(EvaluationError, match=r"give the weights of this very network\."):
        list(train(job(tmp_path / "trial", other), start=str(tmp_path / "weights.safetensors")))
    with pytest.raises(EvaluationError, match="cannot be read"):
        list(train(job(tmp_path / "trial", other), start="nothing.safetensors"))


@pytest.mark.parametrize("name", ["train", "ghn2-warm-start"])
def test_a_study_predicts_the_start_of_every_candidate(hyper, tmp_path, name):
    fields = {
        "space": "test-hypernetwork-stacks",
        "task": DIGITS,
        "evaluator": {"name": name, "start": str(hyper), **({"batch_size": 256} if name == "train" else {"recipe": {"batch_size": 256}})},
        "controller": "random",
        "trials": 2,
        "epochs": 1,
        "stopper": None,
        "tracking": "off",
        "folder": str(tmp_path / "runs"),
    }
    result = archwright.run(fields, progress=False)
    model = load_hypernetwork(hyper)
    trials = sorted((result.folder / "trials").iterdir())
    assert all(trial.outcome.status == "completed" for trial in result.ledger.trials.values())
    assert len(trials) == 2
    for trial in trials:
        architecture = Architecture.from_json(json.loads((trial / "architecture.json").read_text()))
        start, plain = load_file(trial / START), predicted_weights(model, architecture)
        assert start.keys() == plain.keys()
        matrix = start["stem.conv.weight"] - plain["stem.conv.weight"]
        assert 0.02 < float(matrix.std() / plain["stem.conv.weight"].std()) < 0.1
        assert torch.equal(start["head.out.bias"], plain["head.out.bias"])


def test_a_file_of_plain_weights_needs_no_hypernetwork_and_another_task_is_refused(hyper, tmp_path):
    task = load_task(DIGITS)
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    assert starter(str(tmp_path / "weights.safetensors"), task, 0) is None
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        starter(str(tmp_path / "missing"), task, 0)
    known = [graph_of(different(STACKS.for_input(task.input), 1, 1)[0], task.input, OutputSpec("classes", 3))]
    other = Hypernetwork(Vocabulary.of(known), Options(d=8), input=task.input, output=OutputSpec("classes", 3))
    save_hypernetwork(other, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="train one for this task"):
        starter(str(tmp_path / "other.safetensors"), task, 0)
