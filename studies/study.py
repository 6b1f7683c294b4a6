"""The driver of one search: it decides what comes next and writes everything down before anyone acts on it.

Live and resumed studies go through the same function: an event is written, read back as a reader would see it, and applied.
``_apply`` alone changes the ledger, the controller and the stopper, so that feeding a journal restores all three exactly.

    ask -> asked (known metrics, twin, broken constraint) -> told at once, or started -> report ... -> stopping? -> told
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ..search_space.architecture import Architecture
from ..search_space.choices import Trace
from ..search_space.errors import ArchwrightError, StudyError
from ..search_space.outcomes import Objective, Outcome, Report
from ..search_space.protocols import Candidate, Job, Proposal, WorkerEvent
from ..search_space.seeds import generator
from .journal import Event, Journal, Memory, read_journal
from .ledger import RANDOM_AFTER, Ledger, Trial
from .parts import Parts, line_in
from .stopper_audit import write_audit
from .warm_start import START

ARCHITECTURE = "architecture.json"


class Follower(Protocol):
    """Hears every event after it is written; one that fails is dropped with a warning and never harms the study.

    A follower may also have ``fed(event)`` for the past events of a resumed study (default: ``heard``).
    """

    def heard(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Study:
    """Driver of one search: ``next_job`` and ``heard`` are called by an engine until ``finished``.

    Args:
        parts: space, controller, stopper and the rest, made ready.
        folder: the study's folder, which exists; None for a search that leaves no files.
        journal: open for appending.
        followers: told of every event after it is written.
    """

    def __init__(self, parts: Parts, folder: Path | None, journal: Journal | Memory, followers: Sequence[Follower] = ()) -> None:
        self.parts = parts
        self.folder = folder
        self.ledger = Ledger()
        self._journal = journal
        self._followers = list(followers)
        self._asked: dict[int, Trace] = {}
        self._restarts: list[Job] = []
        self._last: Event = {}

    # --- beginning and resuming

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the first event of a new journal."""
        self._say({"event": "study", **header})

    def feed(self, events: Iterable[Event]) -> None:
        """Restore everything from past events; nothing is sampled, measured or judged again."""
        for event in events:
            self._apply(event)
            for follower in list(self._followers):
                self._tell_follower(follower, getattr(follower, "fed", follower.heard), event)

    def go_on(self, trials: int | None = None) -> None:
        """Finish what a crash cut off, and make ready the candidates that were running."""
        self._say({"event": "resumed", "running": sorted(self.ledger.running)})
        if trials is not None and trials != self.ledger.wanted:
            self._say({"event": "extended", "trials": trials})
        for trial in [trial for trial in self.ledger.trials.values() if trial.outcome is None]:
            job = self._settled(trial)
            if job is not None:
                self._restarts.append(job)
        self._tell_twins()

    def _settled(self, trial: Trial) -> Job | None:
        """What the dead driver would have done next with a candidate: its job if it is to run on, None if it has ended."""
        n = trial.number
        cut_off = self._last["event"] == "report" and self._last["n"] == n
        if trial.infeasible is not None:
            self._tell(trial, "infeasible", trial.infeasible)
        elif trial.fault is not None:
            self._tell(trial, "failed", trial.fault)
        elif trial.stopping is not None:
            self._tell(trial, "stopped", trial.stopping)
        elif trial.last:
            self._tell(trial, "completed")
        elif not (cut_off and self._judge(trial)):
            return self._restart(trial)
        return None

    def _restart(self, trial: Trial) -> Job:
        architecture = self.parts.space.replay(self._asked[trial.number])
        if architecture.digest != trial.digest:
            raise StudyError(
                f"The space builds another network for candidate {trial.number} than when the study began; "
                f"restore the space's code, or begin a new study."
            )
        return self._start(trial, architecture)

    # --- the driver's three words

    def next_job(self) -> Job | None:
        """The next candidate to evaluate; None when none is left, or the space is exhausted."""
        if self._restarts:
            return self._restarts.pop(0)
        while self.ledger.begun < self.ledger.wanted and not self.ledger.exhausted:
            job = self._ask()
            if job is not None:
                return job
        return None

    def heard(self, event: WorkerEvent) -> bool:
        """Take an executor's event; True when this job is to be stopped."""
        trial = self.ledger.running.get(event.number)
        if trial is None:
            return False
        report = event.report
        if report is None:
            self._tell(trial, "failed", event.reason or "the evaluator failed without a reason")
            return False
        if report.step <= trial.step:
            return False
        fault = _fault(report, trial, self.parts.objectives)
        if fault is not None:
            self._tell(trial, "failed", fault)
            return not report.last
        metrics = {name: float(value) for name, value in report.metrics.items() if math.isfinite(value)}
        self._say({"event": "report", "n": trial.number, **report.to_json(), "metrics": metrics})
        if report.last:
            self._tell(trial, "completed")
            return False
        return self._judge(trial)

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing is left to ask."""
        left = self.ledger.begun < self.ledger.wanted and not self.ledger.exhausted
        return not (left or self.ledger.running or self._restarts)

    # --- asking

    def _ask(self) -> Job | None:
        """Ask for one candidate and write it down; None when it was rejected or cannot be built."""
        n = self.ledger.asks
        proposal = self._proposal(n)
        architecture = self.parts.space.replay(proposal.trace)
        digest = architecture.digest
        event: Event = {"event": "asked", "n": n, "trace": proposal.trace.to_json(), "digest": digest, "note": dict(proposal.note)}
        self._say(event | self._facts(architecture, digest))
        trial = self.ledger.trials.get(n)
        if trial is None:
            self._tell_twins()
        elif trial.infeasible is not None:
            self._tell(trial, "infeasible", trial.infeasible)
        elif trial.fault is not None:
            self._tell(trial, "failed", trial.fault)
        else:
            return self._start(trial, architecture)
        return None

    def _proposal(self, n: int) -> Proposal:
        place = n - len(self.ledger.warm)
        if place < len(self.parts.starts):
            return Proposal(self.parts.starts[place], {"start": place})
        if self.ledger.rejected_in_a_row >= RANDOM_AFTER:
            _, trace = self.parts.space.sample(generator(self.parts.seed, "fallback", n))
            return Proposal(trace, {"random": True})
        try:
            return self.parts.controller.ask(n)
        except (ArchwrightError, MemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}{line_in(error)}"
            raise StudyError(f"Candidate {n} could not be proposed by the controller on this space: {reason}.") from error

    def _facts(self, architecture: Architecture, digest: str) -> dict[str, Any]:
        """What is known of a candidate before training: its twin, its measured cost, the constraint it breaks."""
        twin = self.ledger.twin_of(digest)
        if twin is not None:
            if twin.infeasible is not None:
                return {"known": dict(twin.known), "infeasible": twin.infeasible}
            return {"known": dict(twin.known), "twin": twin.number}
        try:
            known = self.parts.measure(architecture)
        except Exception as error:
            return {"known": {}, "fault": f"the candidate cannot be built: {type(error).__name__}: {str(error).splitlines()[0]}"}
        broken = self.parts.broken_constraint(known)
        return {"known": known} | ({"infeasible": broken} if broken else {})

    def _start(self, trial: Trial, architecture: Architecture) -> Job:
        """The job of a candidate, begun or begun again, with its folder made ready."""
        folder = "" if self.folder is None else str(trial_folder(self.folder, trial.number).absolute())
        job = self.parts.job(trial.number, architecture.to_json(), folder, trial.step)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / ARCHITECTURE).write_text(json.dumps(job.architecture))
            if self.parts.starter is not None and not (Path(folder) / START).exists():
                self.parts.starter(trial.number, architecture, Path(folder) / START)
        if not trial.started:
            self._say({"event": "started", "n": trial.number}, architecture)
        return job

    # --- ending

    def _judge(self, trial: Trial) -> bool:
        """Ask the stopper about a running candidate; True when it was stopped."""
        if self.parts.stopper is None:
            return False
        verdict = self.parts.stopper.verdict(trial.number)
        if not verdict.stop:
            return False
        predicted = {name: asdict(prediction) for name, prediction in verdict.predicted.items()}
        self._say({"event": "stopping", "n": trial.number, "reason": verdict.reason, "predicted": predicted})
        self._tell(trial, "stopped", trial.stopping)
        return True

    def _tell(self, trial: Trial, status: Any, reason: str | None = None) -> None:
        metrics = {**trial.known, **trial.metrics}
        outcome = Outcome(status, metrics, trial.step, round(trial.seconds, 6), trial.predicted, reason)
        self._say({"event": "told", "n": trial.number, "outcome": outcome.to_json()})
        if self.folder is not None:
            write_audit(self.folder, self.parts.stopper)
        self._tell_twins()

    def _tell_twins(self) -> None:
        """Tell every duplicate whose twin has ended."""
        for n, twin in list(self.ledger.waiting.items()):
            outcome = self.ledger.trial(twin).outcome
            if outcome is not None:
                self._say({"event": "told", "n": n, "outcome": outcome.as_duplicate_of(twin).to_json()})

    def record_test(self, n: int, metrics: Mapping[str, float]) -> None:
        """Write down a winner's metrics on the test split."""
        self._say({"event": "tested", "n": n, "metrics": dict(metrics)})

    def end(self) -> None:
        """Write down that the search is over, and why when that was not its budget."""
        if self.ledger.ended is None:
            reason = self.ledger.exhaustion if self.ledger.exhausted and self.ledger.evaluated < self.ledger.wanted else ""
            self._say({"event": "ended", "reason": reason})

    def close(self) -> None:
        self._journal.close()
        for follower in list(self._followers):
            self._tell_follower(follower, follower.close)

    # --- one way in for every event

    def _say(self, event: Mapping[str, Any], architecture: Architecture | None = None) -> None:
        written = self._journal.append(event)
        self._apply(written, architecture)
        for follower in list(self._followers):
            self._tell_follower(follower, follower.heard, written)

    def _apply(self, event: Event, architecture: Architecture | None = None) -> None:
        """Let one event change the ledger, the controller and the stopper."""
        self.ledger.take(event)
        kind, n = event["event"], event.get("n", -1)
        if kind in ("asked", "started", "report", "stopping", "told"):
            self._last = event
        if kind == "study":
            self._hear_warm(event.get("warm", ()))
        elif kind == "asked":
            self._asked[n] = Trace.from_json(event["trace"])
            self.parts.controller.asked(n, self._asked[n], event["note"])
        elif kind == "told":
            self._hear_told(n, Outcome.from_json(event["outcome"]))
        elif self.parts.stopper is not None and kind == "started":
            built = architecture or self.parts.space.replay(self._asked[n])
            self.parts.stopper.started(Candidate(n, self._asked[n], built, self.ledger.trials[n].known))
        elif self.parts.stopper is not None and kind == "report":
            self.parts.stopper.reported(n, Report.from_json(event))

    def _hear_warm(self, trials: Iterable[Mapping[str, Any]]) -> None:
        """Let the controller hear of the trials of other studies, as if they had been the first of this one."""
        for n, trial in enumerate(trials):
            self.parts.controller.asked(n, Trace.from_json(trial["trace"]), {})
            self.parts.controller.told(n, Outcome.from_json(trial["outcome"]))

    def _hear_told(self, n: int, outcome: Outcome) -> None:
        del self._asked[n]
        self.parts.controller.told(n, outcome)
        trial = self.ledger.trials.get(n)
        if self.parts.stopper is not None and trial is not None and trial.started:
            self.parts.stopper.told(n, outcome)

    def _tell_follower(self, follower: Follower, word: Any, *args: Any) -> None:
        try:
            word(*args)
        except Exception as error:
            if follower in self._followers:
                self._followers.remove(follower)
            name = type(follower).__name__
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"{name} failed ({reason}) and is left out; the study goes on.", RuntimeWarning, stacklevel=2)


def trial_folder(folder: Path, n: int) -> Path:
    return folder / "trials" / f"{n:04d}"


def read_ledger(folder: Path) -> Ledger:
    """What the journal of the study in ``folder`` adds up to, without touching anything."""
    ledger = Ledger()
    for event in read_journal(folder / "journal.jsonl"):
        ledger.take(event)
    return ledger


def _fault(report: Report, trial: Trial, objectives: Sequence[Objective]) -> str | None:
    """Why a report cannot stand: an objective that is not finite, or missing at the end."""
    for objective in objectives:
        value = report.metrics.get(objective.metric, trial.known.get(objective.metric))
        if value is None and report.last:
            return f'the evaluator reports no "{objective.metric}"; it reports {", ".join(sorted(report.metrics)) or "nothing"}'
        if value is not None and not math.isfinite(value):
            return f"{objective.metric} became {value} at step {report.step}"
    return None
