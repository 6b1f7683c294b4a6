"""A study's folder, read back: what ``status``, ``show`` and ``export`` speak about."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..search_space.architecture import Architecture
from ..search_space.choices import Trace
from ..search_space.errors import StudyError, did_you_mean
from ..search_space.outcomes import Outcome, Report


@dataclass
class TrialRecord:
    """One ask of a study: its trace, what was known, its learning curve and how it ended (None while it runs)."""

    number: int
    trace: Trace
    digest: str = ""
    known: Mapping[str, float] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    outcome: Outcome | None = None
    tested: Mapping[str, float] = field(default_factory=dict)

    def curve(self, metric: str) -> list[float]:
        return [report.metrics[metric] for report in self.reports if metric in report.metrics]


@dataclass
class StudyRecord:
    """Everything a study's folder says, in the order of its journal."""

    folder: Path
    config: dict[str, Any]
    trials: dict[int, TrialRecord]

    @property
    def name(self) -> str:
        return str(self.config.get("name", self.folder.name))

    def counts(self) -> Counter[str]:
        """Trials by status; those without an outcome count as ``running``."""
        return Counter(trial.outcome.status if trial.outcome else "running" for trial in self.trials.values())

    def evaluated(self) -> list[TrialRecord]:
        """Trials that cost something: completed, stopped or failed."""
        return [t for t in self.trials.values() if t.outcome and t.outcome.status in ("completed", "stopped", "failed")]

    def trial(self, number: int) -> TrialRecord:
        if number not in self.trials:
            raise StudyError(f'The study "{self.name}" has no trial {number}; it has trials 0 to {max(self.trials, default=-1)}.')
        return self.trials[number]

    def architecture(self, number: int) -> Architecture:
        """The architecture of a trial, from its folder."""
        path = self.folder / "trials" / f"{number:04d}" / "architecture.json"
        try:
            return Architecture.from_json(path.read_text())
        except OSError:
            status = getattr(self.trial(number).outcome, "status", "running")
            raise StudyError(f'Trial {number} of "{self.name}" left no architecture in "{path}"; it is {status}.') from None


def read_study(folder: Path) -> StudyRecord:
    """Read ``study.yaml`` and ``journal.jsonl``; a line cut short by a crash at the very end is passed over."""
    try:
        config = yaml.safe_load((folder / "study.yaml").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f'The folder "{folder}" holds no study ({error}); give a folder that `archwright run` made.') from None
    record = StudyRecord(folder, config, {})
    for event in events_of(folder / "journal.jsonl"):
        _hear(record.trials, event)
    return record


def events_of(journal: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal, one by one, for reading only."""
    try:
        with journal.open("rb") as lines:
            yield from _parsed(lines, journal)
    except FileNotFoundError:
        return


def _parsed(lines: Iterable[bytes], journal: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        try:
            yield json.loads(line)
        except ValueError:
            raise StudyError(f'Line {number} of "{journal}" is damaged; restore the file from a copy, or start the study anew.') from None


def _hear(trials: dict[int, TrialRecord], event: Mapping[str, Any]) -> None:
    kind, n = event.get("event"), event.get("n")
    if kind == "asked" and n is not None:
        trials[n] = TrialRecord(n, Trace.from_json(event["trace"]), event.get("digest", ""), event.get("known", {}))
    elif kind == "report" and n in trials:
        trials[n].reports.append(Report.from_json(event.get("report", event)))
    elif kind == "told" and n in trials:
        trials[n].outcome = Outcome.from_json(event["outcome"])
    elif kind == "tested" and n in trials:
        trials[n].tested = event["metrics"]


def find_study(name: str | None, runs: str | os.PathLike[str] = "runs") -> Path:
    """The folder of a study by its name or path; without a name the one touched last.

    Raises:
        StudyError: there is none; the message suggests the nearest name.
    """
    root = Path(runs)
    folders = sorted((p.parent for p in root.glob("*/study.yaml")), key=lambda p: _touched(p))
    if name is None:
        if not folders:
            raise StudyError(f'There is no study in "{root}"; start one with `archwright run digits`.')
        return folders[-1]
    for folder in (Path(name), root / name):
        if (folder / "study.yaml").exists():
            return folder
    raise StudyError(f'No study "{name}" in "{root}"; {did_you_mean(name, [folder.name for folder in folders])}')


def _touched(folder: Path) -> float:
    journal = folder / "journal.jsonl"
    return (journal if journal.exists() else folder / "study.yaml").stat().st_mtime
