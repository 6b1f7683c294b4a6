"""What runs in a Ray actor: the worker's side of the Ray executor."""

from __future__ import annotations

import gc
import json
import os
import socket
from typing import Any

from ...search_space.outcomes import Report
from ...search_space.protocols import Job, WorkerEvent
from .running import Run, set_threads


class Worker:
    """Evaluates the jobs it is given, one after the other; jobs come and events go as JSON text.

    Every job has a *ticket*, a number that grows, so that a late pull or stop for an earlier job does nothing. Ray promises no
    order between calls that are under way together, so every event carries its place among those of its job.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._run: Run | None = None
        self._ticket = 0
        self._place = 0
        self._stopped = 0

    def ready(self) -> dict[str, Any]:
        """Import what every job needs, so that no candidate's time pays for it; tell who this is."""
        set_threads(self._threads)
        gc.freeze()  # the imported libraries need no more looking through between candidates
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def pull(self, ticket: int, job: str | None) -> str | None:
        """The next event of the job with this ticket; None when it has ended or was stopped. The first pull carries the job."""
        if job is not None and ticket > self._ticket:
            self._close()
            self._ticket, self._place, self._run = ticket, 0, Run(Job.from_json(json.loads(job)))
        if self._run is None or ticket != self._ticket:
            return None
        if ticket <= self._stopped:
            self._close()
            return None
        event = self._run.pull()
        if self._run.ended:
            self._run = None
        self._place += 1
        return event_text(event, self._place)

    def stop(self, ticket: int) -> None:
        """Let no pull of this ticket (or an earlier one) work any more; runs beside a pull."""
        self._stopped = max(self._stopped, ticket)

    def finish(self, ticket: int) -> None:
        """Close the job with this ticket, if it still runs, after the pull that is under way."""
        if ticket >= self._ticket:
            self._close()

    def _close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.close()


def event_text(event: WorkerEvent, place: int = 1) -> str:
    """An event as JSON text, with its place among the events of its job."""
    report = event.report and event.report.to_json()
    return json.dumps({"place": place, "number": event.number, "kind": event.kind, "report": report, "reason": event.reason})


def event_from_text(text: str) -> tuple[int, WorkerEvent]:
    """Place and event: the inverse of :func:`event_text`."""
    data = json.loads(text)
    report = data["report"] and Report.from_json(data["report"])
    return data["place"], WorkerEvent(data["number"], data["kind"], report, data["reason"])
