"""Candidates that start from predicted weights: a hypernetwork trained over a study's own space, and its part in a study.

>>> from archwright.studies.warm_start import train_over
>>> train_over("conv-cells", {"name": "digits"}, "hyper.safetensors", architectures=200)  # doctest: +SKIP

A study with ``evaluator: {name: train, start: hyper.safetensors}`` then begins each training at the weights that the
hypernetwork predicts for it. They travel as a file in the trial's folder, so that workers need no hypernetwork.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.architecture import Architecture
from ..search_space.errors import ConfigError
from ..search_space.files import write_atomically
from ..search_space.seeds import derive_seed, generator
from ..search_space.space import SPACES, Space

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluators.tasks import Task
    from ..predictors.hypernetwork.model import Hypernetwork, Options
    from ..predictors.hypernetwork.training import Examples, Plan

START = "start.safetensors"
NOISE = 0.05  # of each matrix's deviation: tells apart the units that a repeated tensor makes equal

Starter = Callable[[int, Architecture, Path], None]


def train_over(
    space: str | Space,
    task: str | Mapping[str, Any],
    file: str | Path,
    *,
    architectures: int = 200,
    plan: Plan | None = None,
    options: Options | None = None,
    seed: int = 0,
    progress: Callable[[int, float], Any] | None = None,
) -> Hypernetwork:
    """Train a hypernetwork on random networks of a space and the training split of a task, and write it to ``file``.

    Args:
        space: its registered name, or the space itself.
        task: registered name, or ``{"name": ..., "params": {...}}``.
        file: a safetensors file, for ``start`` of the evaluator ``train`` and ``hypernetwork`` of ``ghn-embedding``.
        architectures: different networks to learn from.
        plan, options: how it is trained, and its shape.
        progress: called with the number of steps done and the mean loss of the last one.

    Raises:
        ArchwrightError: the space or task is unknown, or does not fit the other.
    """
    from ..evaluators.tasks import load_task
    from ..predictors.hypernetwork.files import save_hypernetwork
    from ..predictors.hypernetwork.training import trained_hypernetwork

    loaded = load_task({"params": {}, **({"name": task} if isinstance(task, str) else task)})
    bound = (SPACES[space].obj if isinstance(space, str) else space).for_input(loaded.input)
    drawn = different(bound, architectures, seed)
    model = trained_hypernetwork(
        drawn, examples_of(loaded), loaded.input, loaded.output, plan=plan, options=options, seed=seed, progress=progress
    )
    save_hypernetwork(model, file)
    return model


def different(space: Space, count: int, seed: int) -> list[Architecture]:
    """Up to ``count`` different networks of a space, drawn at random from ``seed``; fewer where the space is soon exhausted."""
    found: dict[str, Architecture] = {}
    for number in range(4 * count):
        architecture, _ = space.sample(generator(seed, "probe", f"hypernetwork {number}"))
        found.setdefault(architecture.digest, architecture)
        if len(found) == count:
            break
    return list(found.values())


def examples_of(task: Task) -> Examples:
    """The training split of a task."""
    import torch

    from ..predictors.hypernetwork.training import Examples

    loss = task.loss if callable(task.loss) else None
    return Examples(scaled(task, task.train.x), torch.as_tensor(task.train.y), task.augment, loss)


def scaled(task: Task, x: Any) -> Tensor:
    """Samples of a task's split as its networks read them."""
    import torch

    samples = torch.as_tensor(x).float()
    if task.input_scaling is None:
        return samples
    return (samples - torch.as_tensor(task.input_scaling.mean)) / torch.as_tensor(task.input_scaling.std)


def starter(file: str, task: Task, seed: int) -> Starter | None:
    """A function ``(number, architecture, path)`` that writes predicted weights; None where ``file`` holds plain weights.

    Raises:
        ConfigError: the file cannot be read, or its hypernetwork was trained for another task.
    """
    from ..predictors.hypernetwork.files import is_hypernetwork, load_hypernetwork

    if not is_hypernetwork(file):
        return None
    model = load_hypernetwork(file)
    if (model.input, model.output) != (task.input, task.output):
        raise ConfigError(
            f'The hypernetwork "{file}" was trained for {model.input} and {model.output}, but the task has {task.input} and {task.output}; '
            f"train one for this task."
        )

    def write(number: int, architecture: Architecture, path: Path) -> None:
        from safetensors.torch import save

        from ..predictors.hypernetwork.candidates import predicted_weights

        weights = predicted_weights(model, architecture, noise=NOISE, seed=derive_seed(seed, "init", number))
        write_atomically(path, save({name: value.contiguous() for name, value in weights.items()}))

    return write


def progress_line(steps: int) -> Callable[[int, float], None]:
    """A ``progress`` that prints a line at every tenth of the steps."""

    def say(step: int, loss: float) -> None:
        if step % max(1, steps // 10) == 0:
            print(f"step {step} of {steps}: loss {'not finite' if math.isnan(loss) else f'{loss:.3f}'}", flush=True)

    return say
