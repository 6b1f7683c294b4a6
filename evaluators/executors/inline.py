"""The inline executor: one candidate after the other in this process, the same numbers every time."""

from __future__ import annotations

from ...search_space.errors import ConfigError
from ...search_space.protocols import Job, WorkerEvent
from .registry import EXECUTORS
from .running import Run, set_threads


class InlineExecutor:
    """Evaluates in this process, one job at a time.

    Args:
        workers: 1; more needs the ``ray`` executor.
        gpus: above 0 asks that this process sees a GPU.
        threads: CPU threads for PyTorch while this executor is open; None leaves its own choice.
        time_limit: seconds a candidate's evaluator may work; what the study does between reports does not count.
        address: not used; there is no cluster.

    Raises:
        ConfigError: more than one worker, or a GPU on a machine without one.
    """

    slots = 1

    def __init__(
        self,
        *,
        workers: int = 1,
        gpus: float = 0.0,
        threads: int | None = None,
        time_limit: float | None = None,
        address: str | None = None,
    ) -> None:
        if workers != 1:
            raise ConfigError(f"The inline executor runs 1 worker, but workers is {workers}; set workers: 1, or engine: ray.")
        if gpus > 0:
            _check_gpu_here(gpus)
        self.time_limit = time_limit
        self._run: Run | None = None
        self._threads_before = None if threads is None else set_threads(threads)

    def start(self, job: Job) -> None:
        """Make ``job`` the running one; its work begins with the next event asked for."""
        if self._run is not None:
            raise RuntimeError(f"candidate {self._run.job.number} still runs; the inline executor has one slot")
        self._run = Run(job, self.time_limit)

    def next_event(self) -> WorkerEvent:
        """Work until the running job has something to say."""
        if self._run is None:
            raise RuntimeError("nothing runs, so no event can follow; start a job first")
        event = self._run.pull()
        if self._run.ended:
            self._run = None
        return event

    def stop(self, number: int) -> None:
        """Close the evaluator of candidate ``number`` if it is the one that runs."""
        if self._run is not None and self._run.job.number == number:
            run, self._run = self._run, None
            run.close()

    def close(self) -> None:
        """Stop the running job and give PyTorch its threads back."""
        if self._run is not None:
            self.stop(self._run.job.number)
        if self._threads_before is not None:
            set_threads(self._threads_before)
            self._threads_before = None


def _check_gpu_here(gpus: float) -> None:
    import torch

    if gpus > torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"gpus: {gpus:g} was asked for, but this machine has {found} that PyTorch can use; set gpus: 0.")


EXECUTORS.register("inline", InlineExecutor)
