"""One place in the pool of Ray workers: the actor, the job it has, and the answers still due."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ...search_space.errors import ArchwrightError
from ...search_space.protocols import Job, WorkerEvent
from .failures import died_twice_reason, time_limit_reason
from .ray_worker import Worker, event_from_text

_AHEAD = 2  # pulls under way per worker, so that it never waits for the driver between two units
_STARTS = 3  # attempts to start a worker before giving up
_READY = 0  # the ticket of getting ready; jobs count from 1

#: slot, generation of its actor, ticket, what the actor answered
Answer = tuple["Slot", int, int, "Future[Any]"]


class Slot:
    """Gives one job at a time to an actor and replaces the actor when it dies or overruns the time limit.

    Args:
        options: resources of the actor, for ``ray.remote``.
        threads: CPU threads of the worker.
        time_limit: seconds of wall clock per candidate, or None.
        answers: where the actor's answers arrive, from Ray's threads.

    ``due`` counts pulls of the running job under way, ``waiting`` all other answers still to come (getting ready, the unit that an
    ended job was in): while there are some the worker has not begun the job, so that neither time nor a death is its.
    """

    def __init__(self, options: Mapping[str, Any], threads: int, time_limit: float | None, answers: queue.SimpleQueue[Answer]) -> None:
        self.job: Job | None = None
        self._early: dict[int, WorkerEvent] = {}  # events that overtook an earlier one, by place
        self.deadline: float | None = None
        self._options, self._threads, self._time_limit, self._answers = options, threads, time_limit, answers
        self._generation = self._ticket = self._heard = self._due = self._waiting = self._deaths = self._failed_starts = 0
        self.actor = self._new_actor()

    def begin(self, job: Job) -> None:
        """Start a new job."""
        self._deaths = 0
        self._begin(job)

    def stop(self) -> None:
        """End the job; its evaluator is closed after the unit under way, before anything else is begun."""
        self.actor.stop.options(concurrency_group="control").remote(self._ticket)
        self._release()
        self._ask(self.actor.finish.remote(self._ticket), self._ticket)

    def hear(self, generation: int, ticket: int, answer: Future[Any]) -> list[WorkerEvent]:
        """Take in an answer; the events it means for the study."""
        if generation != self._generation:
            return []
        running = self.job is not None and ticket == self._ticket
        error = answer.exception()
        if error is not None:
            failed = self._trouble(error, ticket, running)
            return [failed] if failed is not None else []
        if not running:
            self._waiting -= 1
            self._failed_starts = 0
            self._set_clock()
            return []
        self._due -= 1
        return [] if answer.result() is None else self._take(*event_from_text(answer.result()))

    def expire(self, now: float) -> WorkerEvent | None:
        """Kill the worker if its time is up; the failure of its job, unless that had not begun."""
        if self.deadline is None or now < self.deadline:
            return None
        job = self.job
        if job is not None and self._begun:
            self._release()
            self._replace()
            return WorkerEvent(job.number, "failed", reason=time_limit_reason(self._time_limit or 0.0, job.reported))
        self._replace()
        return None

    @property
    def _begun(self) -> bool:
        return self._waiting == 0

    def _begin(self, job: Job) -> None:
        self._release()
        self.job = job
        self._ticket += 1
        self._heard, self._early = 0, {}
        self._pull(json.dumps(job.to_json()))
        while self._due < _AHEAD:
            self._pull()
        self._set_clock()

    def _take(self, place: int, event: WorkerEvent) -> list[WorkerEvent]:
        """The events that are next in the job's order, now that this one is here; asks for more of the job, or lets it go."""
        self._early[place] = event
        events = []
        while self.job is not None and self._heard + 1 in self._early:
            self._heard += 1
            event = self._early.pop(self._heard)
            events.append(event)
            if event.report is None or event.report.last:
                self._release()
            else:
                self.job = replace(self.job, reported=event.report.step)
        while self.job is not None and self._due < _AHEAD:
            self._pull()
        return events

    def _trouble(self, error: BaseException, ticket: int, running: bool) -> WorkerEvent | None:
        from ray.exceptions import RayTaskError

        job = self.job
        if ticket == _READY:
            self._count_failed_start(error)
        elif running and job is not None and isinstance(error, RayTaskError):
            self.stop()
            return WorkerEvent(job.number, "failed", reason=f"the worker could not take the job ({str(error.cause).splitlines()[0]})")
        self._deaths += self._begun
        if job is not None and self._deaths > 1:
            self._release()
            self._replace()
            memory = "running low on memory" in str(error)  # what Ray's memory monitor says
            return WorkerEvent(job.number, "failed", reason=died_twice_reason(job.reported, memory))
        self._replace()
        return None

    def _count_failed_start(self, error: BaseException) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _STARTS:
            why = str(error).strip().splitlines()[-1]
            raise ArchwrightError(f"Ray workers cannot start ({why}); archwright must be importable on every node of the cluster.")

    def _replace(self) -> None:
        """A new actor in place of this one, which takes up the job, if there is one, where its reports ended."""
        import ray

        ray.kill(self.actor)
        self._generation += 1
        self._due = self._waiting = 0
        self.deadline = None
        self.actor = self._new_actor()
        if self.job is not None:
            self._begin(self.job)

    def _new_actor(self) -> Any:
        import ray

        remote = ray.remote(**self._options, max_restarts=0, concurrency_groups={"control": 1})(Worker)
        actor = remote.remote(self._threads)
        self._waiting += 1
        self._ask(actor.ready.remote(), _READY, counted=True)
        return actor

    def _release(self) -> None:
        self.job = None
        self._waiting, self._due = self._waiting + self._due, 0
        self._set_clock()

    def _set_clock(self) -> None:
        """A candidate's time begins when its worker has nothing else to do first; until then the clock of what that is runs on."""
        if self._begun:
            limited = self.job is not None and self._time_limit is not None
            self.deadline = time.monotonic() + (self._time_limit or 0.0) if limited else None

    def _pull(self, job: str | None = None) -> None:
        self._due += 1
        self._ask(self.actor.pull.remote(self._ticket, job), self._ticket, counted=True)

    def _ask(self, answer: Any, ticket: int, counted: bool = False) -> None:
        """Let the answer be put in the queue as soon as it is there."""
        if not counted:
            self._waiting += 1
        generation = self._generation
        answer.future().add_done_callback(lambda future: self._answers.put((self, generation, ticket, future)))
