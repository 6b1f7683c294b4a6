"""The evaluator that trains: epochs as units of budget, a checkpoint after each, exact when continued."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..search_space.outcomes import Report
from ..search_space.protocols import Job
from .registry import evaluator
from .training.recipe import KNOBS, Recipe

if TYPE_CHECKING:
    from .tasks import Task
    from .training.files import State

_DEFAULT = Recipe()


@evaluator("train", knobs=KNOBS, paper="Decoupled Weight Decay Regularization (2017, arXiv 1711.05101)")
def train(
    job: Job,
    *,
    optimizer: str = _DEFAULT.optimizer,
    learning_rate: float = _DEFAULT.learning_rate,
    weight_decay: float = _DEFAULT.weight_decay,
    batch_size: int = _DEFAULT.batch_size,
    schedule: str = _DEFAULT.schedule,
    warmup: float = _DEFAULT.warmup,
    momentum: float = _DEFAULT.momentum,
    gradient_clip: float = _DEFAULT.gradient_clip,
    label_smoothing: float = _DEFAULT.label_smoothing,
    average: float = _DEFAULT.average,
    start: str | None = None,
) -> Iterator[Report]:
    """Trains the job's architecture on its task for ``job.budget`` epochs, one report per epoch.

    Reports carry ``train_loss``, ``val_loss`` and the task's metrics on the validation split. The folder holds
    ``checkpoint.pt`` while it trains, ``model.safetensors`` and ``report.json`` when it is done. Started again on the same
    folder it repeats the saved reports after ``job.reported`` and goes on, bit for bit as if it had never ended (on CPU).
    What an architecture's ``training`` holds overrides the parameters given here; see :class:`Recipe`.

    Args:
        start: a safetensors file of initial weights, by default drawn from the seed; a relative path lies in the job's folder. In a
            study it may hold a trained hypernetwork (``archwright.studies.warm_start``), which predicts those of each candidate.

    Raises:
        EvaluationError: a training field is unknown or out of range, the loss is not finite, or the file does not fit the network.
    """
    from ..search_space.architecture import Architecture
    from .tasks import load_task
    from .training.files import taken_up

    recipe = Recipe().updated(
        {
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "batch_size": batch_size,
            "schedule": schedule,
            "warmup": warmup,
            "momentum": momentum,
            "gradient_clip": gradient_clip,
            "label_smoothing": label_smoothing,
            "average": average,
        },
        'The evaluator "train"',
    )
    recipe = recipe.updated(Architecture.from_json(job.architecture).training, "The architecture")
    task = load_task(job.task)
    saved = yield from taken_up(job)
    if not saved.done:
        yield from _trained(job, task, recipe, saved, start)


def _trained(job: Job, task: Task, recipe: Recipe, saved: State, start: str | None) -> Iterator[Report]:
    """Train from ``saved`` (or the beginning) to the end of the budget, leaving no memory behind however it ends."""
    from .training.files import State, job_key, save_checkpoint, save_finished
    from .training.loop import Training
    from .training.start import load_start

    key, folder = job_key(job), Path(job.folder)
    reports = list(saved.reports)
    training = Training(job, task, recipe)
    try:
        if saved.training is not None:
            training.load(saved.training)
        elif start is not None:
            load_start(job, start, training.network, training.kept)
        for epoch in range(len(reports) + 1, job.budget + 1):
            began = time.perf_counter()
            metrics = training.run_epoch(epoch)
            report = Report(epoch, metrics, time.perf_counter() - began, epoch == job.budget)
            reports.append(report)
            if report.last:
                save_finished(folder, key, reports, training.kept.state_dict())
            else:
                save_checkpoint(folder, key, State(reports, training.state()))
            yield report
    finally:
        del training
        if job.device.startswith("cuda"):
            import torch

            gc.collect()
            torch.cuda.empty_cache()


def test_metrics(job: Job) -> dict[str, float]:
    """``test_loss`` and the task's metrics on its test split, with the weights in the job's folder; for winners only.

    Raises:
        EvaluationError: the folder holds no weights.
    """
    from .tasks import load_task
    from .training.files import load_weights
    from .training.loop import evaluate_split

    task = load_task(job.task)
    return evaluate_split(job, task, task.test, load_weights(Path(job.folder)), "test")


test_metrics.__test__ = False  # type: ignore[attr-defined]  # a name that pytest would collect
