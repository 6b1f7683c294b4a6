"""Beginning a study, and going on with one."""

from __future__ import annotations

import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from ..search_space.errors import ConfigError, StudyError
from ..search_space.files import write_atomically
from .config import StudyConfig, load_config, make_config
from .config_text import parse_yaml
from .engine import Engine
from .journal import Event, Journal, read_journal
from .leaderboard import ranked
from .lock import StudyLock
from .parts import Parts, assemble, plugin_facts
from .result import StudyResult
from .seeding import warm_trials
from .study import Follower, Study, trial_folder

JOURNAL, CONFIG = "journal.jsonl", "study.yaml"
#: Fields that may differ when a study is resumed: they change how it runs, not what it finds.
MACHINE_FIELDS = ("engine", "workers", "gpus", "threads", "time_limit", "ray", "tracking", "top")

#: Makes followers once the folder exists: called with the configuration, the folder and the journal's first event.
MakeFollowers = Callable[[StudyConfig, Path, Mapping[str, Any]], Sequence[Follower]]


def run(
    what: str | os.PathLike[str] | Mapping[str, Any] | StudyConfig, *, followers: Sequence[Follower] | MakeFollowers = (), **overrides: Any
) -> StudyResult:
    """Run a study from beginning to end.

    Args:
        what: a preset's name, a YAML file, a mapping of fields, or a :class:`StudyConfig`.
        followers: hear every event after it is written; a list, or a function that makes them.
        overrides: fields that win over those of ``what``.

    Raises:
        ArchwrightError: the configuration is wrong in some way; nothing was started.
        StudyError: the study's name is taken, or not one candidate could be evaluated.
    """
    config = load_config(what, **overrides)
    parts = assemble(config)
    warm = warm_trials(config, parts)
    folder = _new_folder(config, what)
    config = config.changed(name=folder.name)
    try:
        with StudyLock(folder), closing(Engine(config)) as engine:
            _write_config(folder / CONFIG, config)
            header = _header(config, parts, warm)
            hearing = _followers(followers, config, folder, header)
            study = Study(parts, folder, Journal(folder / JOURNAL), hearing)
            return _carry_out(study, config, engine, lambda: study.begin(header))
    except BaseException:
        if not (folder / JOURNAL).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def resume(
    folder: str | os.PathLike[str],
    trials: int | str | None = None,
    *,
    followers: Sequence[Follower] | MakeFollowers = (),
    plugins: Sequence[str] = (),
    **overrides: Any,
) -> StudyResult:
    """Go on with a study that was cut off, or extend a finished one.

    Args:
        folder: the study's folder.
        trials: a new number of trials in all, or ``"+50"`` for fifty more than planned so far.
        followers: as for :func:`run`; they hear the past events first.
        plugins: new paths of the user's files that moved.
        overrides: fields of the machine only (engine, workers, gpus, threads, time_limit, ray, tracking, top).

    Raises:
        StudyError: there is no study, another process runs it, its journal is damaged, or a file it needs has changed.
    """
    root = Path(folder)
    if not (root / CONFIG).is_file():
        raise StudyError(f'The folder "{folder}" holds no study; give the folder of a study, such as runs/digits.')
    with StudyLock(root):
        header = _first_event(root / JOURNAL)
        config = _machine(_moved(_recorded(root, header), plugins), overrides)
        parts = assemble(config)
        if header is not None:
            _check_plugins(parts, header)
        known = header or _header(config, parts, warm_trials(config, parts))
        study = Study(parts, root, Journal(root / JOURNAL), _followers(followers, config, root, known))
        if header is None:  # killed before the first event was written
            study.begin(known)
        study.feed(read_journal(root / JOURNAL) if header is not None else ())
        wanted = _wanted(trials, study)
        if study.finished and wanted == study.ledger.wanted and study.ledger.ended is not None:
            return _carry_out(study, config, None, lambda: None)
        with closing(Engine(config)) as engine:
            return _carry_out(study, config, engine, lambda: study.go_on(wanted))


def _carry_out(study: Study, config: StudyConfig, engine: Engine | None, begin: Callable[[], None]) -> StudyResult:
    """Begin or go on, search to the end, test the winners; without an engine the search is over and only they are left."""
    folder = study.folder
    assert folder is not None
    try:
        begin()
        if engine is not None:
            engine.run(study)
        study.end()
        _test_winners(study, folder, config.top)
    finally:
        study.close()
    if study.ledger.evaluated == 0 and study.ledger.ended:
        raise StudyError(f"The study {folder} found nothing to evaluate: {study.ledger.ended}.")
    return StudyResult(folder, study.ledger)


def _test_winners(study: Study, root: Path, top: int) -> None:
    """Evaluate the best completed candidates on the test split, each once in the life of a study."""
    if study.parts.test is None:
        return
    for trial in ranked(study.ledger.trials.values(), study.parts.objectives)[:top]:
        if trial.tested is not None:
            continue
        folder = trial_folder(root, trial.number)
        architecture = StudyResult(root, study.ledger).architecture(trial.number)
        job = study.parts.job(trial.number, architecture.to_json(), str(folder.absolute()), trial.step)
        try:
            metrics = study.parts.test(replace(job, device=_device_here(job.device)))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"Candidate {trial.number} could not be tested ({reason}).", RuntimeWarning, stacklevel=2)
            continue
        study.record_test(trial.number, {name: float(value) for name, value in metrics.items()})


def _device_here(device: str) -> str:
    """The driver of a cluster may have no GPU of its own."""
    if device == "cpu":
        return device
    import torch

    return device if torch.cuda.is_available() else "cpu"


# --- folders


def _new_folder(config: StudyConfig, what: Any) -> Path:
    """Make the study's folder: exactly ``config.name``, or a free name made from what is run."""
    root = Path(config.folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name in [config.name] if config.name else _names(_base(config, what)):
            try:
                (root / name).mkdir()
                return root / name
            except FileExistsError:
                continue
    except OSError as error:
        raise ConfigError(f'The folder "{root}" cannot be written ({error.strerror}); set "folder" to one you can write.') from None
    taken = config.name
    raise StudyError(f'The study name "{taken}" is taken in "{root}"; choose another name, or go on with it: archwright resume {taken}.')


def _names(base: str) -> Iterator[str]:
    yield base
    for number in count(2):
        yield f"{base}-{number}"


def _base(config: StudyConfig, what: Any) -> str:
    if isinstance(what, str | os.PathLike):
        return Path(what).stem
    space = config.space.name.rpartition(":")[2].replace("_", "-")
    return f"{space}-{config.task.name.rpartition(':')[2]}" if config.task else space


def _write_config(path: Path, config: StudyConfig) -> None:
    write_atomically(path, yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True))


def _header(config: StudyConfig, parts: Parts, warm: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    header = {
        "format": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S") + f".{time.time_ns() % 1_000_000:06d}",
        "config": config.to_json(),
        "objectives": [{"metric": objective.metric, "direction": objective.direction} for objective in parts.objectives],
        "plugins": plugin_facts(parts),
        "versions": {"python": platform.python_version(), "torch": metadata.version("torch")},
    }
    return {**header, "warm": list(warm)} if warm else header


# --- what a resumed study keeps


def _first_event(journal: Path) -> Event | None:
    """The journal's first event; None when a kill left no whole one."""
    if not journal.exists():
        return None
    with closing(read_journal(journal)) as events:
        return next(events, None)


def _recorded(root: Path, header: Mapping[str, Any] | None) -> StudyConfig:
    return make_config(header["config"] if header is not None else parse_yaml(root / CONFIG)[0])


def _machine(config: StudyConfig, overrides: Mapping[str, Any]) -> StudyConfig:
    for field in overrides:
        if field not in MACHINE_FIELDS:
            raise ConfigError(f'The field "{field}" cannot change when a study is resumed; only {", ".join(MACHINE_FIELDS)} can.')
    return config.changed(**overrides) if overrides else config


def _moved(config: StudyConfig, plugins: Sequence[str]) -> StudyConfig:
    """The configuration with the paths of files that are gone replaced by those of the same name in ``plugins``."""
    new = {Path(path).name: str(Path(path).absolute()) for path in plugins}

    def found(reference: str) -> str:
        path, colon, name = reference.rpartition(":") if ".py:" in reference else (reference, "", "")
        return f"{new[Path(path).name]}{colon}{name}" if Path(path).name in new else reference

    def renamed(named: Any) -> Any:
        return named and {"name": found(named.name), "params": named.params}

    if not new:
        return config
    fields = {field: renamed(getattr(config, field)) for field in ("space", "task", "controller", "evaluator", "stopper", "predictor")}
    return config.changed(plugins=[found(plugin) for plugin in config.plugins], **fields)


def _check_plugins(parts: Parts, header: Mapping[str, Any]) -> None:
    known = {plugin["sha256"] for plugin in header.get("plugins", ()) if "sha256" in plugin}
    for plugin in plugin_facts(parts):
        if "sha256" in plugin and plugin["sha256"] not in known:
            raise StudyError(f'The file "{plugin["path"]}" has changed since the study began; restore it, or begin a new study.')


def _wanted(trials: int | str | None, study: Study) -> int:
    """The number of trials in all that a resumed study is to reach."""
    planned = study.ledger.wanted
    if trials is None:
        return planned
    text = str(trials)
    if not text.lstrip("+").isdigit() or text.startswith("++"):
        raise ConfigError(f'The number of trials is "{trials}"; give a whole number, or "+50" for fifty more.')
    wanted = planned + int(text) if text.startswith("+") else int(text)
    if wanted < study.ledger.begun:
        raise ConfigError(f"The study has begun {study.ledger.begun} trials already; it cannot be resumed with {wanted}.")
    return wanted


def _followers(given: Any, config: StudyConfig, folder: Path, header: Mapping[str, Any]) -> Sequence[Follower]:
    return given(config, folder, header) if callable(given) else given
