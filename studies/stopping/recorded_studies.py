"""The learning curves that studies recorded, as :class:`~.recorded.RecordedCurves`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...predictors.features import CHOICE, candidate_features
from ...search_space.choices import Trace
from ...search_space.errors import ConfigError, did_you_mean
from ...search_space.protocols import Candidate
from ..journal import read_journal
from .recorded import NOTHING, RecordedCurves, direction_of


@dataclass
class _Training:
    """One candidate: what was known of it, and its metrics after each step."""

    features: dict[str, float]
    reports: list[Mapping[str, float]] = field(default_factory=list)
    status: str = ""


def curves_of_studies(folders: Sequence[Path], metric: str | None = None, direction: str | None = None) -> RecordedCurves:
    """The curves of every candidate that was trained in some studies, which must not have stopped any.

    Features are what a stopper knows of a candidate (:func:`~archwright.predictors.features.candidate_features`). A candidate that
    failed has a curve that ends early.

    Args:
        folders: of the studies; all of the same budget.
        metric: one that candidates report; by default the first objective of the first study.
        direction: ``max`` or ``min``; by default as in the study's objectives, or by the metric's name.

    Raises:
        StudyError: a journal is missing or damaged.
        ConfigError: the studies differ in their budget, stopped candidates, or have no such metric.
    """
    heads: list[Mapping[str, Any]] = []
    trained: list[_Training] = []
    for folder in folders:
        head, found = _read(folder)
        heads.append(head)
        trained += found
    budget = _budget(folders, heads)
    objectives = {item["metric"]: item["direction"] for head in heads for item in head["objectives"]}
    chosen = metric or next(iter(objectives))
    reported = {name for training in trained for report in training.reports for name in report}
    if chosen not in reported:
        raise ConfigError(f'No candidate of "{folders[0]}" reported a metric "{chosen}"; {did_you_mean(chosen, sorted(reported))}')
    values = np.full((len(trained), budget), np.nan)
    for row, training in zip(values, trained, strict=True):
        seen = [report.get(chosen) for report in training.reports[:budget]]
        row[: len(seen)] = [math.nan if value is None or not math.isfinite(value) else value for value in seen]
    name = folders[0].name if len(folders) == 1 else f"{folders[0].name} and {len(folders) - 1} more"
    toward = direction_of(chosen, direction or objectives.get(chosen))
    return RecordedCurves.of(name, chosen, toward, values, _whole([training.features for training in trained]))


def _read(folder: Path) -> tuple[Mapping[str, Any], list[_Training]]:
    """The first event of a study, and its candidates that were trained, by number."""
    head: Mapping[str, Any] = {}
    found: dict[int, _Training] = {}
    for event in read_journal(folder / "journal.jsonl"):
        kind, number = event["event"], event.get("n", -1)
        if kind == "study":
            head = event
        elif kind == "asked" and "twin" not in event and "infeasible" not in event:
            candidate = Candidate(number, Trace.from_json(event["trace"]), NOTHING, event["known"])
            found[number] = _Training(candidate_features(candidate))
        elif kind == "report" and event["step"] == len(found[number].reports) + 1:
            found[number].reports.append(event["metrics"])
        elif kind == "told" and number in found:
            found[number].status = event["outcome"]["status"]
    stopped = sum(training.status == "stopped" for training in found.values())
    if stopped:
        raise ConfigError(
            f'The study "{folder}" stopped {stopped} of its candidates, whose curves have no end; '
            "give one that was run without a stopper (--set stopper=null)."
        )
    return head, [training for training in found.values() if training.status in ("completed", "failed") and training.reports]


def _budget(folders: Sequence[Path], heads: Sequence[Mapping[str, Any]]) -> int:
    budgets = [int(head["config"]["epochs"]) for head in heads]
    for folder, budget in zip(folders, budgets, strict=True):
        if budget != budgets[0]:
            raise ConfigError(
                f'The candidates of "{folder}" were trained for {budget} epochs, those of "{folders[0]}" for {budgets[0]}; '
                "give studies of the same budget."
            )
    return budgets[0]


def _whole(features: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """An option that was never chosen counts as chosen 0 times; what is the same for all is left out."""
    names = sorted({name for known in features for name in known})
    filled = [{**dict.fromkeys((n for n in names if n.startswith(CHOICE) and "=" in n), 0.0), **known} for known in features]
    telling = [name for name in names if len({known.get(name) for known in filled}) > 1]
    return [{name: known[name] for name in telling if name in known} for known in filled]
