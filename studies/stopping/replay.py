"""One study over recorded curves, in virtual time, under a stopper that knows nothing of it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ...search_space.choices import Choice, Real, Trace, round_real
from ...search_space.outcomes import Outcome, Report
from ...search_space.protocols import Candidate, Stopper
from ...search_space.seeds import generator
from .recorded import NOTHING, RecordedCurves

DRAWN = 0.8
"""The share of the recorded trainings that a study draws, so that the best differs from study to study."""


@dataclass(frozen=True)
class Replay:
    """What one study cost and lost.

    Args:
        epochs: steps trained.
        full: steps of the same study without a stopper.
        loss: by how much the final of the reported winner is worse than that of the best candidate, in units of the metric.
        best_stopped: the candidate with the best final was stopped.
        completed: candidates that ran to the end.
        audit: what the stopper says of itself, where it does.
    """

    epochs: int
    full: int
    loss: float
    best_stopped: bool
    completed: int
    audit: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def drawn(curves: RecordedCurves, seed: int, share: float = DRAWN) -> list[int]:
    """The rows of a study in the order they are tried: a random share of the file, in random order."""
    rows = list(range(len(curves)))
    return generator(seed, "probe", "replay").sample(rows, max(1, round(share * len(rows))))


def candidates(curves: RecordedCurves) -> list[tuple[Trace, tuple[Report, ...]]]:
    """Of each training its features as a trace and its reports; those after the last finite value are left out."""
    domain = Real(-1e12, 1e12)
    found = []
    for features, values in zip(curves.features, curves.values.tolist(), strict=True):
        trace = Trace(Choice(name, domain, round_real(value)) for name, value in sorted(features.items()))
        length = max((step for step, value in enumerate(values, 1) if math.isfinite(value)), default=0)
        reports = (Report(step, {curves.metric: value}, 1.0, step == len(values)) for step, value in enumerate(values[:length], 1))
        found.append((trace, tuple(reports)))
    return found


def replay(
    curves: RecordedCurves,
    rows: Sequence[int],
    stopper: Stopper | None,
    *,
    workers: int = 1,
    known: Sequence[tuple[Trace, tuple[Report, ...]]] | None = None,
) -> Replay:
    """Run one study: the candidates ``rows`` in this order, ``workers`` side by side, a step taking one unit of time.

    A training that ends before the budget has failed. The reported winner is the best of those that ran to the end.

    Args:
        curves: the recorded trainings.
        rows: the candidates.
        stopper: a fresh one, for this objective, budget and number of candidates; None for no stopping.
        workers: candidates trained side by side; those that start together report in the order of their numbers.
        known: :func:`candidates` of the curves, for a caller that replays many studies.
    """
    study = _Run(curves, rows, stopper, candidates(curves) if known is None else known)
    ready: list[tuple[int, int]] = []
    waiting = iter(range(len(rows)))
    for number in waiting:
        study.start(number)
        heapq.heappush(ready, (1, number))
        if len(ready) == workers:
            break
    while ready:
        now, number = heapq.heappop(ready)
        if study.goes_on(number):
            heapq.heappush(ready, (now + 1, number))
        elif (following := next(waiting, None)) is not None:
            study.start(following)
            heapq.heappush(ready, (now + 1, following))
    return study.result()


class _Run:
    """The state of one replayed study."""

    def __init__(self, curves: RecordedCurves, rows: Sequence[int], stopper: Stopper | None, known: Sequence[Any]) -> None:
        self.curves, self.rows, self.stopper, self.known = curves, rows, stopper, known
        self.steps = [0] * len(rows)
        self.completed: list[int] = []

    def start(self, number: int) -> None:
        if self.stopper is not None:
            self.stopper.started(Candidate(number, self.known[self.rows[number]][0], NOTHING))

    def goes_on(self, number: int) -> bool:
        """Take the next step of a candidate; False when it has ended."""
        reports = self.known[self.rows[number]][1]
        if self.steps[number] == len(reports):
            self._tell(number, Outcome("failed", reason="its recorded curve ends here", steps=self.steps[number]))
            return False
        report = reports[self.steps[number]]
        self.steps[number] += 1
        if self.stopper is not None:
            self.stopper.reported(number, report)
        if report.last:
            self.completed.append(number)
            self._tell(number, Outcome("completed", report.metrics, report.step))
            return False
        if self.stopper is None:
            return True
        verdict = self.stopper.verdict(number)
        if verdict.stop:
            self._tell(number, Outcome("stopped", report.metrics, report.step, predicted=verdict.predicted, reason=verdict.reason))
        return not verdict.stop

    def _tell(self, number: int, outcome: Outcome) -> None:
        if self.stopper is not None:
            self.stopper.told(number, outcome)

    def result(self) -> Replay:
        finals = self.curves.values[list(self.rows), -1]
        gains = [-math.inf if math.isnan(value) else self.curves.objective.gain(value) for value in finals.tolist()]
        best = max(range(len(gains)), key=gains.__getitem__)
        won = max((gains[number] for number in self.completed), default=-math.inf)
        full = sum(len(self.known[row][1]) for row in self.rows)
        lost = gains[best] not in {gains[number] for number in self.completed}
        audit = getattr(self.stopper, "audit", None)
        return Replay(sum(self.steps), full, gains[best] - won, lost, len(self.completed), dict(audit()) if audit else {})


def made_for(curves: RecordedCurves, trials: int, make: Callable[..., Stopper], seed: int) -> Stopper:
    """A fresh stopper for a study of ``trials`` of these candidates; ``make(objectives, seed=, budget=, trials=)``."""
    return make((curves.objective,), seed=seed, budget=curves.budget, trials=trials)
