"""The evaluator of compression: a student distilled from a trained teacher, and one number for its size and its accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.choices import Integer, OneOf, Real
from ..search_space.outcomes import Report
from ..search_space.protocols import Job
from .errors import EvaluationError
from .registry import evaluator
from .trainer import test_metrics

if TYPE_CHECKING:
    from .distillation import TrainedTeacher
    from .training.files import State

INVALID = -1.0
COSTS = ("params", "flops", "latency")
LIMITED = (*COSTS, "activation_bytes")


def compression_reward(accuracy: float, teacher_accuracy: float, cost: float, teacher_cost: float) -> float:
    """R = C (2 - C) accuracy / teacher_accuracy with C = 1 - cost / teacher_cost.

    The first savings count most: C (2 - C) is concave, 0 for the teacher itself and 3/4 at half its cost. A plain function, for
    objectives of one's own (in Optuna, say).

    >>> compression_reward(0.9, 0.9, 50, 100), compression_reward(0.9, 0.9, 100, 100)
    (0.75, 0.0)
    """
    saved = 1.0 - cost / teacher_cost
    return saved * (2.0 - saved) * accuracy / teacher_accuracy


@evaluator(
    "n2n-reward",
    knobs={"cost": OneOf(COSTS), "lambda_hard": Real(0.0, 1.0), "distill_epochs": Integer(1, 20)},
    paper="N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning (2018, arXiv 1709.06030)",
)
def n2n_reward(
    job: Job,
    *,
    teacher: str,
    cost: str = "params",
    lambda_hard: float = 0.1,
    distill_epochs: int | None = None,
    limits: Mapping[str, float] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Distils the job's architecture from a trained teacher, one report per epoch.

    The metric ``reward`` is ``C (2 - C) a / a_teacher`` with a the accuracy on the validation split and C = 1 - cost(student) /
    cost(teacher); -1, without training, for a student that cannot be built, has no layer left between stem and head, or breaks a limit.
    Beside it ``compression`` (C) and what training reports. A tensor starts from the teacher's of that name where the shapes
    agree, else afresh. With the teacher's logits z, computed once and kept beside it::

        L = 1/N sum_i ||f(x_i) - z_i||^2 + lambda_hard CE(f(x_i), y_i)

    Training images are not augmented, since the logits are those of the images as they are.

    Args:
        teacher: the folder of an exported network (``archwright export``) for the job's task.
        cost: what C is made of.
        lambda_hard: weight of the labels.
        distill_epochs: by default the job's budget.
        limits: largest permitted ``params``, ``flops``, ``latency`` (seconds) and ``activation_bytes``.
        recipe: changes to the training recipe (``{learning_rate: 0.001}``).

    Raises:
        EvaluationError: the folder holds no trained teacher for this task, a parameter is unknown, or the loss is not finite.
    """
    from ..search_space.errors import BuildError
    from .distillation import measured, prepared, trained_teacher
    from .training.files import job_key, save_finished, taken_up

    _check(cost, limits or {})
    saved = yield from taken_up(job)
    if saved.done:
        return
    known = trained_teacher(teacher, job)
    try:
        costs = measured(job, known, {cost, *(limits or {})})
    except BuildError:
        costs = None
    if costs is None or any(costs[name] > most for name, most in (limits or {}).items()):
        report = Report(1, {"reward": INVALID}, 0.0, True)
        save_finished(Path(job.folder), job_key(job), [report], {})
        yield report
        return
    training = prepared(job, known, lambda_hard, recipe or {}, distill_epochs or job.budget)
    yield from _distilled(job, training, known, costs[cost], cost, saved)


n2n_reward.test_metrics = test_metrics  # type: ignore[attr-defined]


def _distilled(job: Job, training: Any, known: TrainedTeacher, spent: float, cost: str, saved: State) -> Iterator[Report]:
    from .training.files import State, job_key, save_checkpoint, save_finished

    key, folder = job_key(job), Path(job.folder)
    reports = list(saved.reports)
    if saved.training is not None:
        training.load(saved.training)
    epochs: int = training.job.budget
    for epoch in range(len(reports) + 1, epochs + 1):
        began = time.perf_counter()
        metrics = training.run_epoch(epoch)
        whole = known.cost(cost)
        metrics["compression"] = 1.0 - spent / whole
        metrics["reward"] = compression_reward(metrics[known.metric], known.accuracy, spent, whole)
        reports.append(Report(epoch, metrics, time.perf_counter() - began, epoch == epochs))
        if epoch == epochs:
            save_finished(folder, key, reports, training.kept.state_dict())
        else:
            save_checkpoint(folder, key, State(reports, training.state()))
        yield reports[-1]


def _check(cost: str, limits: Mapping[str, float]) -> None:
    if cost not in COSTS:
        raise EvaluationError(f'The cost of "n2n-reward" is {cost!r}; expected one of {", ".join(COSTS)}.')
    for name, most in limits.items():
        if name not in LIMITED or not math.isfinite(most):
            raise EvaluationError(f'"n2n-reward" limits "{name}" to {most}; expected a number for {", ".join(LIMITED)}.')
