"""An evaluator as a Tune Trainable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from ...search_space.protocols import Job
from ..executors.ray_worker import event_text
from ..executors.running import Run, set_threads

EVENT = "archwright_event"


class EvaluatorTrainable(Trainable):
    """Each ``step`` is one report of an evaluator; actors may be reused (``reuse_actors=True``).

    A failed evaluator raises, and the trial is an error to Tune, with the reason as its message. The checkpoints are the
    evaluator's own, in the trial's folder, from which a restarted trial continues.

    Config:
        number, architecture: what :class:`TuneSearcher` suggests (architecture as JSON text).
        task, evaluator: ``{"name", "params"}`` each.
        budget, folder: units per trial; the folder that holds the trials' folders, shared by all workers.
        seed, plugins, device, threads, time_limit: optional, as in a study.
        job: instead of all this, a whole job as JSON text; then failures too are results, under ``archwright_event``.
    """

    def setup(self, config: dict[str, Any]) -> None:
        if config.get("threads"):
            set_threads(config["threads"])
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Close the old evaluator before the new one is opened."""
        self.cleanup()
        self._open(new_config)
        return True

    def step(self) -> dict[str, Any]:
        event = self._run.pull()
        if event.report is not None:
            report = event.report
            return {**report.metrics, "step": report.step, "seconds": report.seconds, "done": report.last, EVENT: event_text(event)}
        if not self._whole_job:
            raise RuntimeError(event.reason)
        return {"done": True, EVENT: event_text(event)}

    def cleanup(self) -> None:
        self._run.close()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing to add to the checkpoint in the trial's folder."""
        return {"step": self._run.step}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The evaluator resumes by itself; steps before the checkpoint are not reported again."""
        if checkpoint:
            self._run.step = checkpoint["step"]

    def _open(self, config: Mapping[str, Any]) -> None:
        self._whole_job = "job" in config
        self._run = Run(job_of(config), config.get("time_limit"))


def job_of(config: Mapping[str, Any]) -> Job:
    """The job that a trial's config describes."""
    if "job" in config:
        return Job.from_json(json.loads(config["job"]))
    number = int(config["number"])
    return Job(
        number=number,
        architecture=json.loads(config["architecture"]),
        task={"params": {}, **config["task"]},
        evaluator={"params": {}, **config["evaluator"]},
        seed=config.get("seed", 0),
        budget=config["budget"],
        folder=str(Path(config["folder"], f"{number:04d}")),
        plugins=config.get("plugins", ()),
        threads=config.get("threads") or 1,
        device=config.get("device", "cpu"),
    )
