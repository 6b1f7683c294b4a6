"""Inheritance between compatible candidates alone: a store of trained tensors keyed by what must match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...search_space.choices import OneOf
from ...search_space.outcomes import Report
from ...search_space.protocols import Job
from ..errors import EvaluationError
from ..registry import evaluator
from ..trainer import test_metrics

MODES = ("constrained", "shape-only", "none")
INHERITED = "inherited.safetensors"


@evaluator(
    "constrained-sharing",
    knobs={"mode": OneOf(MODES)},
    paper="Auto-GNN: Neural Architecture Search of Graph Neural Networks (2019, arXiv 1909.03184)",
)
def constrained_sharing(job: Job, *, mode: str = "constrained", recipe: Mapping[str, Any] | None = None) -> Iterator[Report]:
    """Trains a candidate for a short budget from the tensors of earlier candidates that fit it, then hands its own on.

    A node inherits all its tensors, or none: iff the store holds some under its key (node name, block, shapes of all its tensors
    and, unless the mode is ``shape-only``, its ``heads``, ``attention`` and ``activation``). Norms and their statistics, and the
    weights of residual rules, are never inherited. After training, a node's tensors are stored if the key was empty or the
    score beats that of their owner. What a candidate inherits is written to its folder first, so that it can be continued
    exactly. The metric ``inherited`` is the share of its parameters. Which candidate inherits what depends on the order in which
    they end: with several workers on the machine's timing, as the journal records it.

    A block may say itself what must match: a function ``share_key(params) -> JSON value`` as an attribute.

    Args:
        mode: ``constrained``, ``shape-only`` (any node of the name with equal shapes), or ``none`` (plain training).
        recipe: changes to the training recipe (``{learning_rate: 0.001}``).

    Raises:
        EvaluationError: the mode or a field of the recipe is unknown, or the loss is not finite.
    """
    from ...search_space.architecture import Architecture
    from ..tasks import load_task
    from ..training.files import taken_up
    from ..training.recipe import Recipe

    if mode not in MODES:
        raise EvaluationError(f'The mode of "constrained-sharing" is {mode!r}; expected one of {", ".join(MODES)}.')
    saved = yield from taken_up(job)
    if saved.done:
        return
    architecture = Architecture.from_json(job.architecture)
    changed = Recipe().updated(recipe or {}, 'The evaluator "constrained-sharing"').updated(architecture.training, "The architecture")
    yield from _trained(job, mode, load_task(job.task), changed, architecture, saved)


constrained_sharing.test_metrics = test_metrics  # type: ignore[attr-defined]


def _trained(job: Job, mode: str, task: Any, recipe: Any, architecture: Any, saved: Any) -> Iterator[Report]:
    import time

    from ..training.files import State, job_key, save_checkpoint, save_finished
    from ..training.loop import Training
    from .home import home_of
    from .store import Store, groups_of, keep_inherited

    key, folder = job_key(job), Path(job.folder)
    reports = list(saved.reports)
    training = Training(job, task, recipe)
    groups = groups_of(training.network, architecture, mode)
    store = Store(home_of(job).parent / "inherited")
    share = keep_inherited(training, groups, store, folder / INHERITED, key)
    if saved.training is not None:
        training.load(saved.training)
    for epoch in range(len(reports) + 1, job.budget + 1):
        began = time.perf_counter()
        metrics = {**training.run_epoch(epoch), "inherited": share}
        reports.append(Report(epoch, metrics, time.perf_counter() - began, epoch == job.budget))
        if epoch == job.budget:
            store.offer(groups, training.kept, task.objective.gain(metrics[task.objective.metric]))
            save_finished(folder, key, reports, training.kept.state_dict())
        else:
            save_checkpoint(folder, key, State(reports, training.state()))
        yield reports[-1]
