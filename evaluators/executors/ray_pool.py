"""The Ray executor: a set of persistent actors, on this machine or a cluster, on whole or shared GPUs."""

from __future__ import annotations

import queue
import time
from collections import deque

from ...search_space.errors import ConfigError
from ...search_space.protocols import Job, WorkerEvent
from .ray_session import check_capacity, connect, cores, disconnect, nodes, threads_per_worker
from .ray_slot import Answer, Slot
from .registry import EXECUTORS

_GRACE = 2.0  # seconds that closing gives evaluators to clean up


class RayExecutor:
    """Runs ``workers`` candidates side by side in persistent Ray actors.

    Jobs travel as JSON text and events come back as JSON text, in the order of their arrival. The trial folders must lie on a
    file system that all workers share (on one machine they do): an evaluator whose worker dies is continued from its folder
    by a new worker, once; a second death is the candidate's failure.

    Args:
        workers: how many candidates run side by side.
        gpus: GPUs per worker; a fraction shares one.
        threads: CPU threads per worker; None is an equal share of the cores.
        time_limit: seconds of wall clock per candidate, from its beginning on a ready worker (anew after a worker's death). A
            worker that overruns it is killed and replaced.
        address: a running cluster; None starts Ray on this machine, loopback only, without dashboard, and ends it on close.

    Raises:
        ConfigError: no cluster at the address, or resources that it does not have.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        gpus: float = 0.0,
        threads: int | None = None,
        time_limit: float | None = None,
        address: str | None = None,
    ) -> None:
        if workers < 1 or gpus < 0:
            raise ConfigError(f"The ray executor was given workers: {workers} and gpus: {gpus:g}; give at least 1 worker and 0 gpus.")
        self.slots = workers
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._events: deque[WorkerEvent] = deque()
        self._pool: list[Slot] = []
        self._ours = connect(address, cpus=max(cores(), workers * (threads or 1)))
        try:
            self.threads = threads or threads_per_worker(nodes(), workers)
            check_capacity(nodes(), workers=workers, gpus=gpus, threads=self.threads)
            options = {"num_cpus": self.threads, "num_gpus": gpus}
            self._pool += [Slot(options, self.threads, time_limit, self._answers) for _ in range(workers)]
        except BaseException:
            self.close()
            raise

    def start(self, job: Job) -> None:
        """Hand ``job`` to a free worker."""
        free = [slot for slot in self._pool if slot.job is None]
        if not free:
            raise RuntimeError(f"all {self.slots} workers are busy; hear an event before starting another job")
        free[0].begin(job)

    def next_event(self) -> WorkerEvent:
        """The next event of any running job; blocks until there is one."""
        while True:
            self._hear_all()
            self._expire()
            if self._events:
                return self._events.popleft()
            if not any(slot.job for slot in self._pool):
                raise RuntimeError("nothing runs, so no event can follow; start a job first")
            self._wait()

    def stop(self, number: int) -> None:
        """End a job; its evaluator is closed when the unit under way is done, and its worker is free for the next job."""
        self._events = deque(event for event in self._events if event.number != number)
        for slot in self._pool:
            if slot.job is not None and slot.job.number == number:
                slot.stop()

    def close(self) -> None:
        """Stop all jobs, give their evaluators a moment to clean up, end the workers, and Ray if it was started here."""
        pool, self._pool = self._pool, []
        self._events.clear()
        disconnect([slot.actor for slot in pool], grace=_GRACE, shutdown=self._ours)
        self._ours = False

    def _hear_all(self) -> None:
        """Take in every answer that has arrived, before any deadline is looked at: a slow driver is no candidate's fault."""
        while not self._answers.empty():
            self._hear(self._answers.get())

    def _wait(self) -> None:
        """Block until a worker answers or a deadline passes."""
        deadlines = [slot.deadline for slot in self._pool if slot.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        try:
            self._hear(self._answers.get(timeout=patience))
        except queue.Empty:
            return

    def _hear(self, answer: Answer) -> None:
        slot, generation, ticket, future = answer
        self._events += slot.hear(generation, ticket, future)

    def _expire(self) -> None:
        now = time.monotonic()
        self._events.extend(event for slot in self._pool if (event := slot.expire(now)) is not None)


EXECUTORS.register("ray", RayExecutor)
