"""Training a hypernetwork: predict the weights of a few random networks, and lower their mean loss on a batch of data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...search_space.architecture import Architecture
from ...search_space.build import build
from ...search_space.errors import ConfigError
from ...search_space.seeds import derive_seed, generator
from ...search_space.specs import OutputSpec, TensorSpec
from .functional import loss_of, run
from .graph import ParameterGraph, graph_with
from .model import Hypernetwork, Options
from .vocabulary import Vocabulary

Augment = Callable[[Tensor, torch.Generator], Tensor]
UNSIZED = 0.5  # share of the graphs read without the sizes of their tensors, so that they can be embedded without them


@dataclass(frozen=True, eq=False)
class Examples:
    """What the predicted networks are trained on.

    Args:
        x: (N, ...) samples as the networks read them, float32.
        y: (N,) classes as int64, or (N, K) values as float32.
        augment: a function ``(x, generator) -> x`` for training batches.
        loss: ``(outputs, y) -> scalar``; by default cross-entropy for classes, mean squared error for values.
    """

    x: Tensor
    y: Tensor
    augment: Augment | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Plan:
    """How a hypernetwork is trained.

    Args:
        steps: of the optimizer.
        meta_batch: networks per step (b_m).
        batch_size: samples per step, the same for its networks.
        learning_rate: of Adam at the start; it falls to zero as a cosine.
        gradient_clip: largest norm of the gradient.
    """

    steps: int = 1000
    meta_batch: int = 8
    batch_size: int = 64
    learning_rate: float = 2e-3
    gradient_clip: float = 5.0

    def __post_init__(self) -> None:
        for name in ("steps", "meta_batch", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f'The plan of a hypernetwork has "{name}" {getattr(self, name)}; expected 1 or more.')


def trained_hypernetwork(
    architectures: Sequence[Architecture],
    examples: Examples,
    input: TensorSpec,
    output: OutputSpec,
    *,
    plan: Plan | None = None,
    options: Options | None = None,
    seed: int = 0,
    progress: Callable[[int, float], Any] | None = None,
) -> Hypernetwork:
    """A hypernetwork for networks like ``architectures``, trained on their mean loss at predicted weights.

    ``min_theta mean_a L(f_a(x; GHN_theta(a)), y)`` over random batches of data and of architectures; batch norms use the
    statistics of the batch. A network whose loss is not finite is left out of its step. The result depends on the arguments alone.

    Args:
        architectures: to learn from, 100 or more of a space; each is built once.
        progress: called with the number of steps done and the mean loss of the last one.

    Raises:
        ConfigError: there is nothing to learn from.
        BuildError: an architecture cannot be built for this input and output.
    """
    plan = plan or Plan()
    if not architectures or len(examples.x) == 0:
        raise ConfigError(f"A hypernetwork was given {len(architectures)} architectures and {len(examples.x)} samples; give some of both.")
    trainees = [_Trainee.of(architecture, input, output) for architecture in architectures]
    model = Hypernetwork(Vocabulary.of(one.graph for one in trainees), options, input=input, output=output, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate)
    loss = examples.loss or loss_of(output)
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / plan.steps))
        mean = _step(model, trainees, examples, loss, plan, seed, step)
        optimizer.zero_grad(set_to_none=True)
        if mean is not None:
            mean.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), plan.gradient_clip)
            if bool(torch.isfinite(norm)):
                optimizer.step()
        if progress is not None:
            progress(step + 1, math.nan if mean is None else mean.item())
    return model.eval()


@dataclass(frozen=True, eq=False)
class _Trainee:
    graph: ParameterGraph
    network: nn.Module

    @classmethod
    def of(cls, architecture: Architecture, input: TensorSpec, output: OutputSpec) -> _Trainee:
        network = build(architecture, input, output)
        return cls(graph_with(architecture, network, output), network.train())


def _step(
    model: Hypernetwork, trainees: Sequence[_Trainee], examples: Examples, loss: Any, plan: Plan, seed: int, step: int
) -> Tensor | None:
    """The mean loss of this step's networks on this step's batch; None where none is finite."""
    rng = generator(seed, "train", f"hypernetwork {step}")
    drawn = rng.sample(trainees, min(plan.meta_batch, len(trainees)))
    sized = torch.tensor([float(rng.random() >= UNSIZED) for _ in drawn])
    rows = torch.tensor(rng.sample(range(len(examples.x)), min(plan.batch_size, len(examples.x))))
    x, y = examples.x[rows], examples.y[rows]
    if examples.augment is not None:
        x = examples.augment(x, torch.Generator().manual_seed(derive_seed(seed, "data", f"hypernetwork {step}")))
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "train", f"dropout {step}"))
        for trainee, weights in zip(drawn, model([trainee.graph for trainee in drawn], sized), strict=True):
            losses.append(loss(run(trainee.network, weights, x), y))
    finite = [one for one in losses if bool(torch.isfinite(one))]
    return torch.stack(finite).mean() if finite else None
