"""Who hands out jobs and hears their events, whatever engine owns the loop."""

from __future__ import annotations

from typing import Protocol

from ...search_space.protocols import Job, WorkerEvent


class Driver(Protocol):
    """A study as an engine sees it.

    An engine asks for jobs while it has a free slot, and passes on every event in the order it arrives; both calls are made
    from one thread. A driver that is neither finished nor waiting for a running job must have a next job.
    """

    @property
    def finished(self) -> bool:
        """True when no job will ever follow; jobs that still run are heard to their end."""
        ...

    def next_job(self) -> Job | None:
        """The next job; None when nothing can start now (finished, or waiting for a result)."""
        ...

    def heard(self, event: WorkerEvent) -> bool:
        """Take in an event; True asks the engine to stop this job. A failure or a last report has ended it anyway."""
        ...
