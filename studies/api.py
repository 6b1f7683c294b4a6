"""The Python face of studies: ``archwright.run``, ``resume``, ``best``, ``load``, and what the command line calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.errors import StudyError
from . import launch
from .config import StudyConfig
from .export import export_network, load_network
from .query import TrialRow, best_trials
from .records import chosen_trial, find_study
from .result import StudyResult
from .study import read_ledger, trial_folder
from .tracking import MlflowTracker, default_uri

if TYPE_CHECKING:
    from torch import nn

What = str | os.PathLike[str] | Mapping[str, Any] | StudyConfig


def run(what: What, *, progress: bool = True, **overrides: Any) -> StudyResult:
    """Run a study from beginning to end and return what it found.

    Args:
        what: a preset's name (``"digits"``), a YAML file, a mapping of the same fields, or a :class:`StudyConfig`.
        progress: show a live display.
        overrides: single fields that win over those of ``what``, e.g. ``trials=20, engine="ray"``.

    Raises:
        ArchwrightError: the configuration is wrong in some way; nothing was started.
    """
    return launch.run(what, followers=_followers(progress), **overrides)


def resume(
    study: str | os.PathLike[str],
    trials: int | str | None = None,
    *,
    progress: bool = True,
    plugins: Sequence[str] = (),
    runs: str | os.PathLike[str] = "runs",
    **overrides: Any,
) -> StudyResult:
    """Go on with a study that was cut off, or extend a finished one (``trials="+50"``).

    Args:
        study: its folder, or its name in ``runs``.
        trials: a new number of trials in all, or ``"+50"`` for fifty more.
        progress: show a live display.
        plugins: files of the user that have moved since.
        runs: the folder of all studies.
        overrides: fields of the machine (engine, workers, gpus, threads, time_limit, ray, tracking, top).
    """
    return launch.resume(find_study(os.fspath(study), runs), trials, followers=_followers(progress), plugins=plugins, **overrides)


def best(
    study: str | None = None,
    top: int = 5,
    where: str | None = None,
    *,
    uri: str | None = None,
    runs: str | os.PathLike[str] = "runs",
) -> list[TrialRow]:
    """The best completed trials of a study, answered from MLflow.

    Args:
        study: name or folder; by default the study touched last.
        top: how many.
        where: conditions on metrics and choices, e.g. ``"params < 5e4 and val_accuracy > 0.97"``.
        uri: tracking URI, when it is not the one the study was run with.
        runs: the folder of all studies.
    """
    return best_of(study, top=top, where=where, uri=uri, runs=runs)[0]


def best_of(
    study: str | None, *, top: int, where: str | None, uri: str | None, runs: str | os.PathLike[str]
) -> tuple[list[TrialRow], list[tuple[str, str]]]:
    """:func:`best` with the (metric, direction) pairs it is sorted by."""
    folder = find_study(study, runs)
    ledger = read_ledger(folder)
    tracking = ledger.header["config"]["tracking"]
    if tracking["off"] and uri is None:
        raise StudyError(f'The study "{folder.name}" was run with tracking off, so MLflow does not know it; see archwright status.')
    order = [(objective.metric, str(objective.direction)) for objective in ledger.objectives]
    store = uri or tracking["uri"] or default_uri(folder.parent)
    identity = ledger.header["created"]
    return best_trials(folder.name, order, identity=identity, top=top, where=where, uri=store), order


def load(folder: str | os.PathLike[str], *, plugins: Sequence[str | os.PathLike[str]] = ()) -> nn.Module:
    """The network exported to ``folder``, with its weights, in evaluation mode.

    Args:
        folder: what ``archwright export`` wrote.
        plugins: files or modules that define blocks of the network; only those you name are imported.
    """
    return load_network(folder, plugins=plugins)


def export_trial(
    study: str | None = None,
    trial: int | None = None,
    *,
    target: str | os.PathLike[str] | None = None,
    onnx: bool = False,
    runs: str | os.PathLike[str] = "runs",
) -> Path:
    """Export a trained candidate (the best by default) to a folder; see :func:`archwright.studies.export.export_network`.

    Raises:
        StudyError: the candidate has no weights (it was not trained to its end), or the folder is not empty.
    """
    from safetensors.torch import load_file

    from ..evaluators.tasks import load_task
    from .config import make_config
    from .parts import assemble

    folder = find_study(study, runs)
    ledger = read_ledger(folder)
    chosen = chosen_trial(ledger, trial, folder.name)
    result = StudyResult(folder, ledger)
    weights = trial_folder(folder, chosen.number) / "model.safetensors"
    if not weights.exists():
        if ledger.header["config"]["task"] is None:
            raise StudyError(f'The candidates of "{folder.name}" were looked up, not trained; there are no weights to export.')
        status = chosen.outcome.status if chosen.outcome else "running"
        raise StudyError(f'Trial {chosen.number} of "{folder.name}" is {status} and left no final weights; export a completed one.')
    config = ledger.header["config"]
    template = assemble(make_config(config)).template
    task = load_task(template["task"])
    facts: dict[str, Any] = {
        "digest": chosen.digest,
        "study": folder.name,
        "trial": chosen.number,
        "task": config["task"],
        "metrics": {**(chosen.outcome.metrics if chosen.outcome else {}), **(chosen.tested or {})},
        "classes": list(task.classes),
    }
    if task.input_scaling is not None:
        facts["input_scaling"] = {"mean": task.input_scaling.mean.tolist(), "std": task.input_scaling.std.tolist()}
    samples = task.val.x[:8] if task.input_scaling is None else task.input_scaling.apply(task.val.x[:8])
    return export_network(
        target or f"{folder.name}-{chosen.number:04d}",
        result.architecture(chosen.number),
        task.input,
        task.output,
        load_file(weights),
        samples,
        facts=facts,
        plugins=template["plugins"],
        onnx=onnx,
    )


def run_study(what: What, *, quiet: bool = False, **fields: Any) -> StudyResult:
    """:func:`run` for the command line."""
    return launch.run(what, followers=_followers(not quiet), **fields)


def resume_study(folder: Path, *, trials: str | None, plugins: Sequence[str], quiet: bool) -> StudyResult:
    """:func:`resume` for the command line."""
    return launch.resume(folder, trials, followers=_followers(not quiet), plugins=plugins)


def _followers(progress: bool) -> launch.MakeFollowers:
    def make(config: StudyConfig, folder: Path, header: Mapping[str, Any]) -> list[Any]:
        followers: list[Any] = []
        if not config.tracking.off:
            own = config.tracking.uri is None
            uri = config.tracking.uri or default_uri(folder.parent)
            artifacts = folder.parent / "artifacts" / folder.name if own else None
            followers.append(MlflowTracker(folder.name, header["created"], folder, uri, artifacts, config.to_json()))
        if progress:
            from .progress import Progress

            followers.append(Progress(config, folder))
        return followers

    return make
