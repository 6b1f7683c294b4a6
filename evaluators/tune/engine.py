"""``engine: tune``: a study carried out by Ray Tune, for those who want its cluster features."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any

from ...search_space.errors import ConfigError
from ..executors.driver import Driver
from ..executors.ray_session import check_capacity, connect, cores, disconnect, nodes, threads_per_worker

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the study has its own journal, progress and tracking
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class TuneEngine:
    """Lets Tune own the loop: its searcher asks the driver for jobs, its scheduler hands it every event.

    A worker that dies is replaced and its candidate continued once; a second death is its failure. A time limit interrupts
    the evaluator on the worker as soon as it returns to Python. Tune keeps every trial, so the driver's memory grows with them.

    Args:
        driver: the study.
        workers, gpus, threads, time_limit, address: as for the Ray executor.
        storage: a folder for Tune's own files, shared by the nodes of a cluster; by default a temporary one.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        workers: int = 1,
        gpus: float = 0.0,
        threads: int | None = None,
        time_limit: float | None = None,
        address: str | None = None,
        storage: str | None = None,
    ) -> None:
        if workers < 1 or gpus < 0:
            raise ConfigError(f"engine: tune was given workers: {workers} and gpus: {gpus:g}; give at least 1 worker and 0 gpus.")
        self._driver = driver
        self._workers, self._gpus, self._threads = workers, gpus, threads
        self._time_limit, self._address, self._storage = time_limit, address, storage

    def run(self) -> None:
        """Carry out the study; an error raised by the driver ends it and is raised here.

        Raises:
            ConfigError: no cluster at the address, or resources that it does not have.
        """
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        ours = connect(self._address, cpus=max(cores(), self._workers * (self._threads or 1)))
        try:
            threads = self._threads or threads_per_worker(nodes(), self._workers)
            check_capacity(nodes(), workers=self._workers, gpus=self._gpus, threads=threads)
            with tempfile.TemporaryDirectory(prefix="archwright-tune-") as temporary:
                self._fit(threads, self._storage or temporary)
        finally:
            disconnect([], grace=0.0, shutdown=ours)

    def _fit(self, threads: int, storage: str) -> None:
        from ray import tune

        from .driving import Conversation, DriverScheduler, DriverSearcher, Ended
        from .trainable import EvaluatorTrainable

        conversation = Conversation(self._driver)
        tuner = tune.Tuner(
            tune.with_resources(EvaluatorTrainable, {"cpu": threads, "gpu": self._gpus}),
            param_space={"threads": threads, "time_limit": self._time_limit},
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(conversation, self._workers),
                scheduler=DriverScheduler(conversation),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="study",
                storage_path=storage,
                stop=Ended(conversation),
                failure_config=tune.FailureConfig(max_failures=1),
                verbose=0,
            ),
        )
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        failure = None
        try:
            tuner.fit()
        except Exception as error:
            failure = error
        if conversation.error is not None:
            raise conversation.error
        if failure is not None:
            raise failure


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)
