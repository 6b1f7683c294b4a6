"""MLflow as a follower of the journal: every evaluated trial is one run nested under the study's run, exactly once.

A background thread writes, so that the search never waits for a database. What a crash cut off is found again at the next
start: finished runs carry their trial's number, unfinished ones are deleted and written anew from the journal.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..search_space.errors import StudyError
from .stopper_audit import read_audit

STUDY, TRIAL, ROLE, STATUS, DIGEST, FOLDER, TESTED = (
    f"archwright.{name}" for name in ("study", "trial", "role", "status", "digest", "folder", "tested")
)
PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
EVALUATED = ("completed", "stopped", "failed")
_RUN_STATUS = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_METRICS_PER_CALL, _PARAMS_PER_CALL = 900, 90


def default_uri(runs: str | os.PathLike[str]) -> str:
    """The SQLite database ``mlflow.db`` in the folder of all studies."""
    return f"sqlite:///{Path(runs).absolute() / 'mlflow.db'}"


def study_key(study: str, identity: str) -> str:
    """What marks every run of one study: its name and creation stamp."""
    return f"{study}@{identity}"


def connect(uri: str) -> Any:
    """An ``MlflowClient`` for ``uri``, without MLflow's chatter and without telemetry.

    Raises:
        StudyError: the store cannot be opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # the default waits for minutes on a wrong address
    import logging

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow.tracking import MlflowClient

    try:
        _try_sqlite(uri)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise StudyError(f'The tracking store "{uri}" cannot be opened ({reason}); check tracking.uri or set tracking off.') from error
    return client


def _try_sqlite(uri: str) -> None:
    """Fail at once where MLflow would try again for minutes."""
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")


class MlflowTracker:
    """Writes a study's events to MLflow.

    Args:
        study: the study's name, used for the experiment and the parent run.
        identity: what tells this study from an earlier one of the same name (its creation stamp).
        folder: the study's folder; winners' artifacts are read from its ``trials``.
        uri: tracking URI.
        artifacts: where the experiment's artifacts go, for a store of our own; None leaves it to the server.
        config: the study's configuration, logged as parameters of the parent run.
    """

    def __init__(
        self, study: str, identity: str, folder: Path, uri: str, artifacts: Path | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        self._key = study_key(study, identity)
        self._folder = folder
        self._client = connect(uri)
        self._experiment = _experiment(self._client, study, artifacts)
        self._done: dict[int, str] = {}
        self._tested: set[int] = set()
        self._parent = self._adopt(study, config or {})
        self._open: dict[int, dict[str, Any]] = {}
        self._queue: queue.Queue[tuple[str, int, Mapping[str, Any]] | None] = queue.Queue(maxsize=10_000)
        self._error: str | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._write, name="archwright-mlflow", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Trials that wait to be written."""
        return self._queue.qsize()

    @property
    def error(self) -> str | None:
        """Why writing ceased, if it did; the search goes on and the next start catches up from the journal."""
        return self._error

    def heard(self, event: Mapping[str, Any]) -> None:
        """One event of the journal, in its order; those already in MLflow are passed over."""
        kind, n = event.get("event"), event.get("n", -1)
        if kind == "asked" and n not in self._done:
            self._open[n] = {"asked": event, "reports": []}
        elif kind == "report" and n in self._open:
            self._open[n]["reports"].append(event)
        elif kind == "told":
            trial = self._open.pop(n, None)
            if trial is not None and event["outcome"]["status"] in EVALUATED:
                self._put(("trial", n, {**trial, "outcome": event["outcome"], "time": event.get("time")}))
        elif kind == "tested" and n not in self._tested:
            self._put(("tested", n, event))
        elif kind in ("ended", "extended"):
            self._ended = kind == "ended"

    def close(self) -> None:
        """Write what waits, then mark the study's run: finished, or killed when the study has not ended."""
        self._put(None)
        self._thread.join()
        if self._error is None:
            audit = [(f"stopping.{name}", value, 0) for name, value in read_audit(self._folder).items()]
            _log(self._client, self._parent, metrics=audit)
            self._client.set_terminated(self._parent, "FINISHED" if self._ended else "KILLED")

    def _put(self, item: tuple[str, int, Mapping[str, Any]] | None) -> None:
        while self._error is None:
            try:
                return self._queue.put(item, timeout=1.0)
            except queue.Full:
                continue

    def _write(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                what, n, data = item
                if what == "trial":
                    self._write_trial(n, data)
                else:
                    self._write_test(n, data)
        except Exception as error:  # the search must not suffer; the journal keeps everything
            self._error = f"{type(error).__name__}: {str(error).splitlines()[0]}"

    def _write_trial(self, n: int, trial: Mapping[str, Any]) -> None:
        if n in self._done:
            return
        asked, outcome = trial["asked"], trial["outcome"]
        tags = {STUDY: self._key, TRIAL: str(n), ROLE: "trial", PARENT: self._parent, NAME: f"{n:04d}", STATUS: outcome["status"]}
        tags |= {DIGEST: str(asked.get("digest", "")), FOLDER: str(self._folder / "trials" / f"{n:04d}")}
        if outcome.get("reason"):
            tags["archwright.reason"] = str(outcome["reason"])[:5000]
        run = self._client.create_run(self._experiment, tags=tags).info.run_id
        _log(self._client, run, params={item["path"]: item["value"] for item in asked["trace"]}, metrics=_points(trial))
        self._client.set_terminated(run, _RUN_STATUS[outcome["status"]])
        self._done[n] = run

    def _write_test(self, n: int, event: Mapping[str, Any]) -> None:
        run = self._done.get(n)
        if run is None or n in self._tested:
            return
        _log(self._client, run, metrics=[(name, value, 0) for name, value in event["metrics"].items()])
        trial = self._folder / "trials" / f"{n:04d}"
        for name in ("architecture.json", "architecture.svg", "model.safetensors"):
            if (trial / name).exists():
                self._client.log_artifact(run, str(trial / name))
        self._client.set_tag(run, TESTED, "true")
        self._tested.add(n)

    def _adopt(self, study: str, config: Mapping[str, Any]) -> str:
        """Find what an earlier process wrote of this study; return the parent run."""
        parent = None
        for run in runs_of(self._client, [self._experiment], f"tags.`{STUDY}` = '{self._key}'"):
            tags = run.data.tags
            if tags.get(ROLE) == "study":
                parent = run.info.run_id
            elif run.info.status == "RUNNING":
                self._client.delete_run(run.info.run_id)
            else:
                self._done[int(tags[TRIAL])] = run.info.run_id
                self._tested |= {int(tags[TRIAL])} if tags.get(TESTED) else set()
        if parent is None:
            tags = {STUDY: self._key, ROLE: "study", NAME: study, FOLDER: str(self._folder)}
            parent = self._client.create_run(self._experiment, tags=tags).info.run_id
            _log(self._client, parent, params=dict(_flat(config)))
        else:
            self._client.update_run(parent, status="RUNNING")
        return parent


def runs_of(client: Any, experiments: Sequence[str], condition: str, order: Sequence[str] = (), limit: int | None = None) -> Iterator[Any]:
    """All runs that fulfil an MLflow filter, page by page."""
    token, found = None, 0
    while True:
        page = client.search_runs(list(experiments), condition, order_by=list(order), max_results=min(limit or 500, 500), page_token=token)
        for run in page:
            yield run
            found += 1
            if limit is not None and found >= limit:
                return
        token = page.token
        if not token:
            return


def _experiment(client: Any, name: str, artifacts: Path | None) -> str:
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        return existing.experiment_id
    return client.create_experiment(name, artifact_location=None if artifacts is None else artifacts.absolute().as_uri())


def _points(trial: Mapping[str, Any]) -> Iterable[tuple[str, float, int]]:
    """Metric name, value and step of everything a trial measured; predicted finals are marked by their name."""
    outcome = trial["outcome"]
    seen: set[str] = set()
    for event in trial["reports"]:
        report = event.get("report", event)
        seen |= set(report["metrics"])
        yield from ((name, value, report["step"]) for name, value in report["metrics"].items())
    yield from ((name, value, 0) for name, value in outcome.get("metrics", {}).items() if name not in seen)
    for name, prediction in outcome.get("predicted", {}).items():
        yield f"predicted_{name}", prediction["mean"], outcome.get("steps", 0)
        yield f"predicted_{name}_spread", prediction["spread"], outcome.get("steps", 0)
    yield "epochs", outcome.get("steps", 0), 0
    yield "seconds", outcome.get("seconds", 0.0), 0


def _log(client: Any, run: str, params: Mapping[str, Any] | None = None, metrics: Iterable[tuple[str, float, int]] = ()) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    for some in _chunks([Param(key, str(value)[:5000]) for key, value in (params or {}).items()], _PARAMS_PER_CALL):
        client.log_batch(run, params=some)
    numbers = [Metric(name, float(value), now, int(step)) for name, value, step in metrics if _finite(value)]
    for some in _chunks(numbers, _METRICS_PER_CALL):
        client.log_batch(run, metrics=some)


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
