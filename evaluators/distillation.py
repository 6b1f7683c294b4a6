"""Distillation from a trained teacher: its logits kept in a file, its weights where they fit, the loss that matches its logits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..search_space.architecture import Architecture
from ..search_space.build import build
from ..search_space.cost import Cost, latency
from ..search_space.cost import cost as counted_cost
from ..search_space.errors import ArchwrightError
from ..search_space.facts import BLOCKS
from ..search_space.files import write_atomically
from ..search_space.protocols import Job
from .errors import EvaluationError
from .tasks import load_task
from .tasks.definition import Split, Task
from .training.batches import DeviceSplit
from .training.loop import Training, evaluate, make_loss
from .training.recipe import Recipe

LOGITS = "logits"
_ROWS = 1024
_BETWEEN = ("op", "mixer", "channel", "norm")


@dataclass(frozen=True, eq=False)
class TrainedTeacher:
    """A trained network and what students are measured against.

    Args:
        architecture: its graph.
        weights: its state dict.
        task: what it was trained on.
        logits: of the samples of the splits ``train`` and ``val`` (N, K), in evaluation mode.
        accuracy: its value of ``metric``.
        metric: the task's objective, measured on the validation split.
        counted: its parameters and operations.
        device: where its latency is measured.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    task: Task
    logits: Mapping[str, Tensor]
    accuracy: float
    metric: str
    counted: Cost
    device: str

    def cost(self, name: str) -> float:
        return self.latency if name == "latency" else float(getattr(self.counted, name))

    @cached_property
    def latency(self) -> float:
        """Seconds of a forward pass of one sample."""
        network = build(self.architecture, self.task.input, self.task.output)
        return latency(network, self.task.input, device=self.device)


def trained_teacher(folder: str, job: Job) -> TrainedTeacher:
    """The teacher in ``folder`` for the job's task; its logits are computed once and kept there.

    Raises:
        EvaluationError: the folder holds no exported network, it does not fit the task, or the task has no accuracy to be made large.
    """
    task = load_task(job.task)
    where = Path(folder)
    try:
        state = (where / "model.safetensors").stat().st_mtime_ns
    except OSError:
        raise EvaluationError(f'There is no teacher in "{folder}"; give the folder of an exported network (archwright export).') from None
    return _loaded(where, state, json.dumps(job.task, sort_keys=True), task, job.device)


@lru_cache(maxsize=2)
def _loaded(where: Path, state: int, spec: str, task: Task, device: str) -> TrainedTeacher:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if task.output.kind != "classes" or task.objective.direction != "max" or task.objective.metric == "val_loss":
        raise EvaluationError(f'The task "{task.name}" has no accuracy to be made large, which "n2n-reward" divides by the teacher\'s.')
    try:
        architecture = Architecture.from_json((where / "architecture.json").read_text())
        weights = load_file(where / "model.safetensors")
        network = build(architecture, task.input, task.output)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError, ArchwrightError) as error:
        reason = str(error).splitlines()[0]
        raise EvaluationError(f'The folder "{where}" holds no teacher for the task "{task.name}" ({reason}).') from None
    network.to(torch.device(device))
    found = evaluate(network, task, DeviceSplit(task, task.val, torch.device(device)), make_loss(task), "val")
    key = hashlib.sha256(f"{spec} {_digest(where / 'model.safetensors')} {architecture.to_text()}".encode()).hexdigest()[:16]
    logits = _kept_logits(where / f"{LOGITS}-{key}.safetensors", network, task)
    counted = counted_cost(architecture, task.input, task.output)
    metric = task.objective.metric
    return TrainedTeacher(architecture, weights, task, logits, found[metric], metric, counted, device)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _kept_logits(path: Path, network: nn.Module, task: Task) -> dict[str, Tensor]:
    """The logits in ``path``, which is written if it is not there or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    try:
        return load_file(path)
    except (OSError, SafetensorError):
        found = {name: logits_of(network, task, split) for name, split in (("train", task.train), ("val", task.val))}
        write_atomically(path, save(found))
        return found


def logits_of(network: nn.Module, task: Task, split: Split) -> Tensor:
    """The outputs of ``network`` in evaluation mode for every sample of a split (N, K), on the CPU."""
    device = next(network.parameters()).device
    data = DeviceSplit(task, split, device)
    network.eval()
    with torch.no_grad():
        parts = [network(data.at(slice(start, start + _ROWS))[0]).cpu() for start in range(0, len(data), _ROWS)]
    return torch.cat(parts)


def measured(job: Job, teacher: TrainedTeacher, names: set[str]) -> dict[str, float] | None:
    """What the student costs, by name; None if there is no layer left between stem and head.

    Raises:
        BuildError: it cannot be built.
    """
    architecture, task = Architecture.from_json(job.architecture), teacher.task
    if not any(_is_layer(node.block) for node in architecture.nodes):
        return None
    counted = counted_cost(architecture, task.input, task.output)
    found = {name: float(getattr(counted, name)) for name in names if name != "latency"}
    if "latency" in names:
        found["latency"] = latency(build(architecture, task.input, task.output), task.input, device=job.device)
    return found


def _is_layer(block: str) -> bool:
    facts = BLOCKS[block].facts
    return block == "layer" or (facts.kind in _BETWEEN and facts.parameters)


def inherit(network: nn.Module, weights: Mapping[str, Tensor]) -> float:
    """Copy every tensor of ``weights`` that has a name and a shape of the network's; the share of its numbers that were copied."""
    copied = total = 0
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            total += tensor.numel()
            if name in weights and weights[name].shape == tensor.shape:
                tensor.copy_(weights[name])
                copied += tensor.numel()
    return copied / max(1, total)


def distillation_loss(classes: int, lambda_hard: float) -> Callable[[Tensor, Tensor], Tensor]:
    """L(f, t) = mean_i ||f_i - z_i||^2 + lambda_hard CE(f_i, y_i), with targets t_i = [z_i, y_i] of ``classes`` + 1 numbers."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        matched = (outputs - targets[:, :classes]).square().sum(1).mean()
        if lambda_hard == 0:
            return matched
        return matched + lambda_hard * nn.functional.cross_entropy(outputs, targets[:, classes].long())

    return loss


def prepared(job: Job, teacher: TrainedTeacher, lambda_hard: float, recipe: Mapping[str, Any], epochs: int) -> Training:
    """The student ready to be trained by :func:`distillation_loss` for ``epochs``, begun from the teacher's weights where they fit.

    Raises:
        EvaluationError: a field of the recipe is unknown or out of range.
    """
    architecture = Architecture.from_json(job.architecture)
    plan = Recipe().updated(recipe, 'The evaluator "n2n-reward"').updated(architecture.training, "The architecture")
    training = Training(replace(job, budget=epochs), _with_logits(teacher, lambda_hard), plan)
    inherit(training.network, teacher.weights)
    return training


def _with_logits(teacher: TrainedTeacher, lambda_hard: float) -> Task:
    """The teacher's task with its logits beside the labels; metrics look at the labels alone."""
    task = teacher.task

    def joined(name: str, split: Split) -> Split:
        return Split(split.x, np.concatenate([teacher.logits[name].numpy(), split.y[:, None].astype(np.float32)], 1))

    metrics = {name: _on_labels(metric) for name, metric in task.metrics.items()}
    return replace(
        task,
        train=joined("train", task.train),
        val=joined("val", task.val),
        loss=distillation_loss(task.output.size, lambda_hard),
        metrics=metrics,
        augment=None,
    )


def _on_labels(metric: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda outputs, targets: metric(outputs, targets[:, -1].astype(np.int64))
