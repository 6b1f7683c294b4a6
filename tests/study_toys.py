"""Fakes to drive a study with: a tiny space, a greedy controller, a median stopper, executors that simulate workers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from archwright.search_space.choices import Choices, Trace
from archwright.search_space.outcomes import Objective, Outcome, Prediction, Report, gains
from archwright.search_space.protocols import Candidate, Job, Proposal, Verdict, WorkerEvent
from archwright.search_space.seeds import generator
from archwright.search_space.space import NoNeighbour, Space
from archwright.studies.engine import drive
from archwright.studies.journal import Journal, read_journal
from archwright.studies.parts import Parts
from archwright.studies.study import Study
from archwright.testing.toys import toy_architecture

BUDGET = 4
OBJECTIVES = (Objective("score"),)
HEADER = {"objectives": [{"metric": "score", "direction": "max"}]}


def _function(choose: Choices) -> Any:
    return toy_architecture(a=choose.integer("a", 0, 9), b=choose.integer("b", 0, 9))


SPACE = Space("toy", _function)
TINY = Space("tiny", lambda choose: toy_architecture(a=choose.integer("a", 0, 2)))


class Greedy:
    """Mutates the best candidate heard of; a random draw while nothing was heard."""

    def __init__(self, space: Space = SPACE, objectives: tuple[Objective, ...] = OBJECTIVES, seed: int = 0) -> None:
        self.space, self.objectives, self.seed = space, objectives, seed
        self.traces: dict[int, Trace] = {}
        self.best: tuple[Any, Trace] | None = None
        self.heard: list[Any] = []

    def ask(self, n: int) -> Proposal:
        rng = generator(self.seed, "ask", n)
        if self.best is None or rng.random() < 0.3:
            return Proposal(self.space.sample(rng)[1], {"heard": len(self.heard)})
        try:
            return Proposal(self.space.mutate(self.best[1], rng)[1], {"pair": (1, 2)})
        except NoNeighbour:
            return Proposal(self.space.sample(rng)[1])

    def asked(self, n: int, trace: Trace, note: Any) -> None:
        self.heard.append(("asked", n, trace, note))
        self.traces[n] = trace

    def told(self, n: int, outcome: Outcome) -> None:
        self.heard.append(("told", n, outcome.status, dict(outcome.metrics), outcome.twin, outcome.predicted))
        score = gains(outcome, self.objectives)
        if score is not None and (self.best is None or score > self.best[0]):
            self.best = (score, self.traces[n])


class Median:
    """Stops a candidate that is below the median of all others at its step; keeps everything it heard."""

    def __init__(self) -> None:
        self.curves: dict[int, dict[int, float]] = {}
        self.heard: list[Any] = []

    def started(self, candidate: Candidate) -> None:
        self.heard.append(("started", candidate.number, candidate.architecture.digest, dict(candidate.known)))
        self.curves[candidate.number] = {}

    def reported(self, n: int, report: Report) -> None:
        self.heard.append(("reported", n, report.step, dict(report.metrics)))
        self.curves[n][report.step] = report.metrics.get("score", 1.0)

    def verdict(self, n: int) -> Verdict:
        step, value = max(self.curves[n].items())
        others = sorted(curve[step] for m, curve in self.curves.items() if m != n and step in curve)
        low = len(others) >= 3 and value < others[len(others) // 2]
        return Verdict(low, {"score": Prediction(value, 0.1)} if low else {}, "below the median" if low else "")

    def told(self, n: int, outcome: Outcome) -> None:
        self.heard.append(("told", n, outcome.status))


def score_of(job: Job, step: int) -> float:
    """A fixed score in [0, 1) of an architecture that grows with the step."""
    text = str(sorted(job.architecture["training"].items())).encode()
    return round(int.from_bytes(hashlib.sha256(text).digest()[:4], "big") / 2**32 * step / BUDGET, 6)


def curve(job: Job) -> Iterator[Report]:
    for step in range(job.reported + 1, job.budget + 1):
        yield Report(step, {"score": score_of(job, step), "loss": 1.0 / step}, 0.5, step == job.budget)


class Killed(BaseException):
    """The driver dies here."""


class Workers:
    """Simulates ``slots`` workers: the one to speak next is drawn from a seeded generator; may die before the n-th event."""

    def __init__(
        self,
        slots: int = 1,
        seed: int = 0,
        evaluate: Callable[[Job], Iterator[Report | str]] = curve,
        dies_after: int | None = None,
    ) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self.stopped: list[int] = []
        self._rng = random.Random(seed)
        self._evaluate = evaluate
        self._running: dict[int, Iterator[Report | str]] = {}
        self._left = dies_after

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        self._running[job.number] = self._evaluate(job)

    def next_event(self) -> WorkerEvent:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        n = self._rng.choice(sorted(self._running))
        said = next(self._running[n])
        if isinstance(said, str):
            del self._running[n]
            return WorkerEvent(n, "failed", reason=said)
        if said.last:
            del self._running[n]
        return WorkerEvent(n, "report", said)

    def stop(self, number: int) -> None:
        self.stopped.append(number)
        del self._running[number]

    def close(self) -> None:
        self._running.clear()


def parts(space: Space = SPACE, **more: Any) -> Parts:
    fields: dict[str, Any] = {
        "space": space,
        "objectives": OBJECTIVES,
        "controller": Greedy(space),
        "template": {"task": {}, "evaluator": {"name": "toy", "params": {}}, "budget": BUDGET},
    }
    return Parts(**{**fields, **more})


def header(trials: int, **more: Any) -> dict[str, Any]:
    return {**HEADER, "config": {"trials": trials, "epochs": BUDGET}, **more}


def begun(folder: Path, made: Parts, trials: int, **more: Any) -> Study:
    folder.mkdir(exist_ok=True)
    study = Study(made, folder, Journal(folder / "journal.jsonl"), more.pop("followers", ()))
    study.begin(header(trials, **more))
    return study


def resumed(folder: Path, made: Parts, trials: int | None = None, followers: Any = ()) -> Study:
    study = Study(made, folder, Journal(folder / "journal.jsonl"), followers)
    study.feed(read_journal(folder / "journal.jsonl"))
    study.go_on(trials)
    return study


def completed(study: Study, executor: Workers | None = None) -> Study:
    drive(study, executor or Workers())
    study.end()
    study.close()
    return study


def story(folder: Path) -> list[dict[str, Any]]:
    """The events of a journal without what a crash adds and without clocks."""
    events = [event for event in read_journal(folder / "journal.jsonl") if event["event"] not in ("resumed", "extended")]
    return [{key: value for key, value in event.items() if key != "time"} for event in events]
