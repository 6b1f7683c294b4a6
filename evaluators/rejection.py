"""The evaluator that tests a candidate cheaply before it trains: does it learn anything, and do its gradients stay bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.choices import Integer, Real
from ..search_space.files import write_atomically
from ..search_space.outcomes import Report
from ..search_space.protocols import Job
from .errors import EvaluationError
from .registry import evaluator
from .trainer import test_metrics, train

if TYPE_CHECKING:
    from ..search_space.architecture import Architecture
    from .tasks import Task
    from .training.recipe import Recipe

VERDICT = "rejection.json"


@dataclass(frozen=True)
class Verdict:
    """What the tests of a candidate found.

    Args:
        key: the job it is about.
        steps: steps of training and of ascent that were spent.
        passed_quality, passed_stability: None where the test was not reached.
        ratio: the smallest ratio over chance of any anchor.
        gradient_norm: the largest seen; None where none was, or it was not finite.
        reason: the sentence of a rejection.
    """

    key: str
    steps: int
    passed_quality: bool
    ratio: float
    passed_stability: bool | None = None
    gradient_norm: float | None = None
    reason: str | None = None


@evaluator(
    "rejection-protocol",
    knobs={
        "steps": Integer(20, 200),
        "min_ratio_over_chance": Real(1.2, 4.0),
        "max_grad_norm": Real(1e4, 1e9, log=True),
        "ascent_rate": Real(1e-4, 1.0, log=True),
    },
    paper="Evolving Normalization-Activation Layers (2020, arXiv 2004.02967)",
)
def rejection_protocol(
    job: Job,
    *,
    steps: int = 100,
    min_ratio_over_chance: float = 2.0,
    max_grad_norm: float = 1e8,
    ascent_rate: float = 0.002,
    recipe: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Two short tests, then the training of ``train`` for those who pass; a rejected candidate fails with the reason.

    Quality: after ``steps`` steps of training the network must be ``min_ratio_over_chance`` times better than chance on the
    validation split (accuracy against 1 / classes; of values, the loss of a constant against the network's). Stability: from the
    initial weights theta, ``steps`` steps of ascent on ``G = ||d loss / d theta||`` on one batch, each of length ``ascent_rate
    ||theta||``, must find no G above ``max_grad_norm`` and nothing that is not finite.

    Where the network's output is a sum of heads, each head with what it needs is an anchor: the quality test is passed on
    every one of them, the stability test by their sum. A candidate spends at most ``steps`` steps per anchor and test. Its
    folder holds ``rejection.json``. Metrics beside those of ``train``:

    =========================== ===========================================================================================
    ``rejection_steps``         steps that the tests took
    ``ratio_over_chance``       of the worst anchor
    ``gradient_norm``           the largest that the ascent found
    ``quality_pass_rate``       share of the study's tested candidates that passed the quality test, as of this one's tests
    ``stability_pass_rate``     share of those that also passed the stability test
    =========================== ===========================================================================================

    Args:
        recipe: changes to the training recipe of the tests and of the training (``{learning_rate: 0.001}``).

    Raises:
        EvaluationError: the candidate is rejected, a field of the recipe is unknown, or no accuracy could reach the ratio.
    """
    from ..search_space.architecture import Architecture
    from .tasks import load_task
    from .training.files import job_key
    from .training.recipe import Recipe

    architecture = Architecture.from_json(job.architecture)
    changed = Recipe().updated(recipe or {}, 'The evaluator "rejection-protocol"').updated(architecture.training, "The architecture")
    folder, key, began = Path(job.folder), job_key(job), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    held = _held(folder, key)
    if held is None:
        task = load_task(job.task)
        _check_reachable(task, min_ratio_over_chance)
        tested = _tested(job, task, changed, architecture, steps, min_ratio_over_chance, max_grad_norm, ascent_rate)
        held = _keep(folder, replace(tested, key=key))
    verdict, facts = held
    if verdict.reason is not None:
        raise EvaluationError(verdict.reason)
    spent = time.perf_counter() - began
    with closing(train(job, **(recipe or {}))) as training:
        for report in training:
            yield replace(report, metrics={**report.metrics, **facts}, seconds=report.seconds + (spent if report.step == 1 else 0.0))


rejection_protocol.test_metrics = test_metrics  # type: ignore[attr-defined]


def anchors_of(architecture: Architecture) -> list[Architecture]:
    """The terms of a sum of heads at the output, each with the nodes it needs; else the architecture alone."""
    from ..search_space.architecture import Architecture, source_of
    from ..search_space.facts import BLOCKS

    end = architecture.node(source_of(architecture.output))
    heads = [architecture.node(source_of(reference)) for reference in end.inputs]
    if end.block != "sum" or any(head.block == "input" or BLOCKS[head.block].facts.kind != "head" for head in heads):
        return [architecture]
    found = []
    for head in heads:
        needed, waiting = set(), [head.name]
        while waiting:
            node = architecture.node(waiting.pop())
            if node.name not in needed:
                needed.add(node.name)
                waiting += [source_of(reference) for reference in node.inputs] + ([node.weights] if node.weights else [])
        nodes = tuple(node for node in architecture.nodes if node.name in needed)
        found.append(Architecture(nodes, head.name, training=architecture.training))
    return found


def _tested(
    job: Job, task: Task, recipe: Recipe, architecture: Architecture, steps: int, ratio: float, limit: float, rate: float
) -> Verdict:
    """Both tests, the second only after the first is passed."""
    from .training.quality import Probe

    probe, spent, worst = Probe(job, task, recipe), 0, float("inf")
    for anchor in anchors_of(architecture):
        found = probe.quality(anchor, steps)
        spent, worst = spent + found.steps, min(worst, found.value)
        if not found.value >= ratio:
            reason = (
                f"rejected by the quality test: after {found.steps} steps of training it is {found.value:.3g} times better than chance, "
                f"and {ratio:g} are needed"
            )
            return Verdict("", spent, False, worst, reason=reason)
    found = probe.stability(architecture, steps, limit, rate)
    spent += found.steps
    if found.value > limit:
        reason = (
            f"rejected by the stability test: after {found.steps} steps of ascent the norm of its gradient is {found.value:.3g}, "
            f"and {limit:g} is the limit"
        )
        finite = found.value if found.value != float("inf") else None
        return Verdict("", spent, True, worst, False, finite, reason)
    return Verdict("", spent, True, worst, True, found.value)


def _check_reachable(task: Task, ratio: float) -> None:
    classes = task.output.size
    if task.output.kind == "classes" and ratio >= classes:
        raise EvaluationError(
            f'No accuracy on the task "{task.name}" is {ratio:g} times better than chance, which is 1/{classes}; '
            f"set min_ratio_over_chance below {classes}."
        )


def _keep(folder: Path, verdict: Verdict) -> tuple[Verdict, dict[str, float]]:
    """Write the verdict to the candidate's folder, with what it says as metrics and the pass rates of the study by then."""
    facts = {"rejection_steps": float(verdict.steps), "ratio_over_chance": verdict.ratio, "gradient_norm": verdict.gradient_norm or 0.0}
    facts |= _rates([*_siblings(folder), verdict])
    write_atomically(folder / VERDICT, json.dumps({"verdict": asdict(verdict), "facts": facts}, indent=1))
    return verdict, facts


def _held(folder: Path, key: str | None) -> tuple[Verdict, dict[str, float]] | None:
    """What the folder holds of the job with this key (None: of any); None where there is nothing, or it is damaged."""
    try:
        data = json.loads((folder / VERDICT).read_text())
        verdict = Verdict(**data["verdict"])
        return (verdict, dict(data["facts"])) if key in (None, verdict.key) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _siblings(folder: Path) -> list[Verdict]:
    """The verdicts on the other candidates of the study; a job outside a study has none."""
    if folder.parent.name != "trials":
        return []
    held = [_held(other, None) for other in sorted(folder.parent.iterdir()) if other.name != folder.name]
    return [found[0] for found in held if found is not None]


def _rates(verdicts: list[Verdict]) -> dict[str, float]:
    passed = [verdict for verdict in verdicts if verdict.passed_quality]
    stable = [verdict for verdict in passed if verdict.passed_stability]
    return {"quality_pass_rate": len(passed) / len(verdicts), "stability_pass_rate": len(stable) / len(passed) if passed else 0.0}
