"""The files of a trial: a checkpoint while it trains; weights and a report when it is done.

Nothing is unpickled: tensors are read with ``weights_only=True`` or as safetensors, the rest is JSON. Writing is atomic (a
temporary file, renamed), so a killed process leaves the previous state or the next one.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...search_space.files import write_atomically
from ...search_space.outcomes import Report
from ...search_space.protocols import Job
from ..errors import EvaluationError

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
REPORT = "report.json"


@dataclass(frozen=True)
class State:
    """Where a training stands: its reports so far, and the state of the training itself (None when finished)."""

    reports: list[Report] = field(default_factory=list)
    training: Mapping[str, Any] | None = None

    @property
    def done(self) -> bool:
        return bool(self.reports) and self.reports[-1].last


def job_key(job: Job) -> str:
    """Equal for two jobs exactly when they train the same thing: all of a job but its folder, device, threads and progress."""
    data = job.to_json()
    same = {name: data[name] for name in ("number", "architecture", "task", "evaluator", "seed", "budget")}
    same["plugins"] = [plugin.get("sha256") or plugin.get("module") for plugin in job.plugins]
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def save_checkpoint(folder: Path, key: str, state: State) -> None:
    """Write ``checkpoint.pt``."""
    buffer = io.BytesIO()
    reports = [json.dumps(report.to_json()) for report in state.reports]
    torch.save({"key": key, "reports": reports, "training": state.training}, buffer)
    write_atomically(folder / CHECKPOINT, buffer.getvalue())


def save_finished(folder: Path, key: str, reports: Sequence[Report], weights: Mapping[str, torch.Tensor]) -> None:
    """Write ``model.safetensors``, then ``report.json``; only then is the checkpoint of no more use."""
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    write_atomically(folder / WEIGHTS, save(tensors))
    content = {"key": key, "metrics": dict(reports[-1].metrics), "reports": [report.to_json() for report in reports]}
    write_atomically(folder / REPORT, json.dumps(content, indent=1))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def load_state(folder: Path, key: str) -> State | None:
    """What ``folder`` holds of the job with this key; None if nothing, or only what is damaged or another job's."""
    try:
        finished = json.loads((folder / REPORT).read_text())
        if finished["key"] == key and (folder / WEIGHTS).exists():
            return State([Report.from_json(report) for report in finished["reports"]])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        saved = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        if saved["key"] == key:
            return State([Report.from_json(json.loads(report)) for report in saved["reports"]], saved["training"])
    except Exception:  # damaged bytes can raise anything; whatever it is, the training starts over
        pass
    return None


def taken_up(job: Job) -> Generator[Report, None, State]:
    """Make the job's folder; repeat the reports it holds after ``job.reported``; return where the job stands there.

    Used as ``saved = yield from taken_up(job)``; an evaluator ends when ``saved.done``.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    saved = load_state(folder, job_key(job)) or State()
    for report in saved.reports:
        if report.step > job.reported:
            yield report
    return saved


def load_weights(folder: Path, device: str = "cpu") -> dict[str, torch.Tensor]:
    """The trained weights in ``folder``; those of the checkpoint if training was stopped.

    Raises:
        EvaluationError: there are none, or they are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if (folder / WEIGHTS).exists():
            return load_file(folder / WEIGHTS, device=device)
        training = torch.load(folder / CHECKPOINT, map_location=device, weights_only=True)["training"]
        mean = training.get("average", {})
        kept = {name.removeprefix("module."): value for name, value in mean.items() if name.startswith("module.")}
        return kept or training["model"]
    except (OSError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise EvaluationError(
            f'The folder "{folder}" holds no readable weights ({type(error).__name__}); train the candidate again.'
        ) from None
