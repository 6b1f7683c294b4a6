"""What a trained hypernetwork says of one architecture: its weights, its loss at them, its embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...search_space.architecture import Architecture
from ...search_space.build import build
from ...search_space.errors import ConfigError
from ...search_space.seeds import derive_seed
from ...search_space.specs import OutputSpec, TensorSpec
from .functional import loss_of, run, with_batch_statistics
from .graph import graph_of, graph_with
from .model import Hypernetwork, Pool, Weights


def predicted_weights(
    model: Hypernetwork,
    architecture: Architecture,
    input: TensorSpec | None = None,
    output: OutputSpec | None = None,
    *,
    noise: float = 0.0,
    seed: int = 0,
) -> Weights:
    """Every learnable tensor of the network of ``architecture``, by its name in the state dict.

    Args:
        input, output: of the task; by default those the hypernetwork was trained for.
        noise: standard deviation of normal noise added to matrices, as a share of each one's own deviation. Tensors larger than
            the largest decoded one repeat it, and units that are equal stay equal in training; noise tells them apart.
        seed: of the noise.

    Raises:
        ConfigError: the hypernetwork was trained for another task, or for none and none is given.
        BuildError: the architecture cannot be built.
    """
    found_input, found_output = _task(model, input, output)
    with torch.no_grad():
        weights = model([graph_of(architecture, found_input, found_output)])[0]
    if noise == 0.0:
        return weights
    generator = torch.Generator().manual_seed(derive_seed(seed, "init", "noise"))
    return {name: _noisy(weights[name], noise, generator) for name in sorted(weights)}


def score(
    model: Hypernetwork, architecture: Architecture, x: Tensor, y: Tensor, *, loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> dict[str, float]:
    """What a network achieves on samples at its predicted weights, without any training: ``loss`` and, for classes, ``accuracy``.

    Batch norms use the statistics of the batch, so give some hundred samples.

    Raises:
        ConfigError: the hypernetwork was not trained for a task.
        BuildError: the architecture cannot be built.
    """
    input, output = _task(model, None, None)
    network = build(architecture, input, output)
    with torch.no_grad():
        weights = model([graph_with(architecture, network, output)])[0]
        outputs = run(with_batch_statistics(network), weights, x)
        found = {"loss": float((loss or loss_of(output))(outputs, y))}
    return found if output.kind == "values" else found | {"accuracy": float((outputs.argmax(-1) == y).float().mean())}


def embedding(model: Hypernetwork, architectures: Sequence[Architecture], pool: Pool = "mean") -> Any:
    """``z(a)`` of each architecture as an array [len(architectures), p], float64; neither built nor run.

    Each is embedded by itself, so that its numbers do not depend on the company it is in.
    """
    import numpy as np

    with torch.no_grad():
        rows = [model.embed([graph_of(architecture)], pool)[0].double().numpy() for architecture in architectures]
    return np.array(rows)


def _task(model: Hypernetwork, input: TensorSpec | None, output: OutputSpec | None) -> tuple[TensorSpec, OutputSpec]:
    input, output = input or model.input, output or model.output
    if input is None or output is None:
        raise ConfigError("The hypernetwork was not trained for a task; give the input and output of the networks.")
    if model.output is not None and model.output != output:
        raise ConfigError(f"The hypernetwork predicts networks for {model.output.size} {model.output.kind}, the task wants {output}.")
    return input, output


def _noisy(w: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    return w + noise * w.std() * torch.randn(w.shape, generator=generator) if w.dim() > 1 and w.numel() > 1 else w
