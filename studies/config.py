"""The one configuration of a study: the same fields in YAML and in Python, validated whole before anything starts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..search_space.choices import value_name
from ..search_space.errors import ConfigError
from ..search_space.outcomes import Objective
from .config_text import Source, parse_yaml, sentence_for

PRESETS = Path(__file__).parent / "presets"
_REFERENCES = ("plugins", "space", "task", "controller", "evaluator", "stopper", "predictor")
#: Evaluators that train one candidate over epochs.
TRAINERS = ("train", "ghn2-warm-start")
_SCORES_AT_ONCE = ("weight-sharing", "sortednet", "multi-arch-supernet", "proxy")  # further epochs train copies, or draw anew
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BOUND = re.compile(r"\s*(<=|>=)\s*(\S+)\s*")

Count = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, gt=0)]
Scalar = str | int | float | bool | None
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(_Strict):
    """A registered name with its parameters: ``digits``, ``{name: evolution, population: 20}`` or ``{name: .., params: {..}}``."""

    name: Annotated[str, Field(strict=True, min_length=1)]
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and "name" in given:
            extra = {key: value for key, value in given.items() if key not in ("name", "params")}
            params = given.get("params") or {}
            return {"name": given["name"], "params": {**params, **extra} if isinstance(params, Mapping) else params}
        return given


class Bounds(_Strict):
    """The permitted range of a metric: ``{max: 1e5}``, ``{min: 10, max: 20}`` or ``"<= 1e5"``."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _sign(cls, given: Any) -> Any:
        if isinstance(given, str) and (match := _BOUND.fullmatch(given)):
            return {"max" if match[1] == "<=" else "min": match[2]}
        if isinstance(given, str | int | float):
            raise ValueError('a bound like "<= 1e5" or {max: 1e5}')
        return given

    @model_validator(mode="after")
    def _some(self) -> Bounds:
        if self.min is None and self.max is None:
            raise ValueError('a bound like "<= 1e5" or {max: 1e5}')
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"a range that is not empty (min {self.min:g} is above max {self.max:g})")
        return self

    def broken_by(self, metric: str, value: float) -> str | None:
        """The sentence for a value outside the range, else None."""
        if self.max is not None and not value <= self.max:
            return f"{metric} {value:g} is above {self.max:g}"
        if self.min is not None and not value >= self.min:
            return f"{metric} {value:g} is below {self.min:g}"
        return None

    def excess(self, value: float) -> float:
        """How far ``value`` is outside the range, relative to the bound it breaks (absolute where the bound is 0)."""
        above = value - self.max if self.max is not None else 0.0
        below = self.min - value if self.min is not None else 0.0
        bound = self.max if above > 0 else self.min
        return max(above, below, 0.0) / abs(bound or 1.0)


class ObjectiveConfig(_Strict):
    """A metric and its direction: ``{metric: val_rmse, direction: min}``, or ``"val_accuracy"`` and ``"-val_rmse"``."""

    metric: Annotated[str, Field(strict=True, min_length=1)]
    direction: Literal["max", "min"] = "max"

    @model_validator(mode="before")
    @classmethod
    def _sign(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"metric": given.lstrip("+-"), "direction": "min" if given.startswith("-") else "max"}
        return given

    def objective(self) -> Objective:
        return Objective(self.metric, self.direction)


class RayConfig(_Strict):
    """``address`` of a running cluster; None starts one on this machine."""

    address: str | None = None


class TrackingConfig(_Strict):
    """``uri`` of an MLflow server or store (default: ``mlflow.db`` beside the studies); ``off`` turns tracking off."""

    uri: str | None = None
    off: bool = False

    @model_validator(mode="before")
    @classmethod
    def _word(cls, given: Any) -> Any:
        if given in (False, "off", None):  # YAML reads the bare word off as false
            return {"off": True}
        if given is True:
            return {}
        if isinstance(given, str):
            return {"uri": given}
        if isinstance(given, Mapping) and False in given:  # ... as a key too
            return {("off" if key is False else key): value for key, value in given.items()}
        return given


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str | Mapping) else given


def _named_weights(given: Any) -> Any:
    """The values that weights are for as words, since JSON has no other keys."""
    if not isinstance(given, Mapping):
        return given
    return {path: {value_name(v): w for v, w in ws.items()} if isinstance(ws, Mapping) else ws for path, ws in given.items()}


class StudyConfig(_Strict):
    """Everything a study is made from.

    Args:
        name: the study's folder in ``folder``; by default made from space and task, numbered if taken.
        space: a registered space or ``file.py:function``, with parameters.
        task: a registered task with parameters.
        controller: who chooses next, with knobs.
        evaluator: who says how good a candidate is.
        objectives: metrics to make large (``val_accuracy``) or small (``-params``); by default the task's.
        constraints: metric known before training (params, flops, activation_bytes, latency, proxies, what a table knows) to its bounds.
        measure: metrics computed of every candidate before training, besides those that objectives and constraints name.
        latency_table: file of a LatencyTable in which ``latency`` is looked up; by default it is measured on the study's device.
        trials: candidates to evaluate; duplicates and infeasible ones do not count.
        epochs: budget of one candidate.
        stopper: who ends hopeless candidates early; null for nobody. By default, where candidates are trained,
            ``predictive-termination`` for one objective and ``pareto`` for several.
        predictor: what the stopper predicts with; by default its own.
        seed: of everything.
        engine: ``inline`` (this process), ``ray`` (workers) or ``tune`` (Ray Tune).
        workers: candidates side by side.
        gpus: GPUs per worker, fractions allowed.
        threads: CPU threads per worker; by default its share of the cores.
        time_limit: seconds a candidate may take in all.
        ray: the cluster.
        tracking: MLflow.
        folder: where studies live.
        plugins: Python files, modules or installed entry points that register things.
        start: networks to evaluate first: values by path or role (what is left out is drawn), or a JSON file with such values or
            with a trace.
        prior: weights of values by path or role, ``{"layer/*/mixer": {attention: 3, gru: 1}}``, wherever the space draws: in random
            candidates and in what mutations leave open. A value left out weighs 1, one of weight 0 is never drawn.
        warm_start: studies (names or folders) whose completed trials the controller hears of first; they cost no budget, and their
            networks are not evaluated again. They are written into the new study, which does not need the old ones any more.
        top: how many winners are tested on the test split.
    """

    name: str | None = None
    space: Named
    task: Named | None = None
    controller: Named = Field(default_factory=lambda: Named(name="predictor-guided"))
    evaluator: Named = Field(default_factory=lambda: Named(name="train"))
    objectives: Annotated[tuple[ObjectiveConfig, ...], BeforeValidator(_listed)] = ()
    constraints: dict[str, Bounds] = Field(default_factory=dict)
    measure: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("params", "flops")
    latency_table: str | None = None
    trials: Count = 40
    epochs: Count = 12
    stopper: Named | None = None
    predictor: Named | None = None
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    engine: Literal["inline", "ray", "tune"] = "inline"
    workers: Count = 1
    gpus: Annotated[float, Field(strict=True, ge=0)] = 0.0
    threads: Count = 1
    time_limit: Seconds | None = None
    ray: RayConfig = Field(default_factory=RayConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    folder: str = "runs"
    plugins: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    start: Annotated[tuple[dict[str, Scalar], ...], BeforeValidator(_listed)] = ()
    prior: Annotated[dict[str, dict[str, Weight]], BeforeValidator(_named_weights)] = Field(default_factory=dict)
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    top: Annotated[int, Field(strict=True, ge=0)] = 3

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """The defaults that depend on other fields or on the machine; written out, so that a resumed study keeps them."""
        if not isinstance(given, Mapping):
            return given
        filled, cores = dict(given), os.cpu_count() or 1
        if filled.get("workers") is None:
            filled["workers"] = 1 if filled.get("engine", "inline") == "inline" else cores
        if filled.get("threads") is None and isinstance(filled["workers"], int):
            filled["threads"] = max(1, cores // max(1, filled["workers"]))
        evaluator = filled.get("evaluator", "train")
        named = evaluator.get("name") if isinstance(evaluator, Mapping) else evaluator
        if named in _SCORES_AT_ONCE:
            filled.setdefault("epochs", 1)
        if named == "table":
            filled.setdefault("space", "table")
        if "stopper" not in filled and named in TRAINERS:
            several = len(_listed(filled.get("objectives")) or [0]) > 1
            filled["stopper"] = "pareto" if several else "predictive-termination"
        return filled

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError('a folder\'s name of letters, digits, ".", "_" and "-"')
        return name

    @model_validator(mode="after")
    def _together(self) -> StudyConfig:
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"objectives that differ; the metric {metrics} is named twice")
        if self.engine == "inline" and self.workers != 1:
            raise ValueError(f"workers: 1 with engine: inline, or engine: ray for workers: {self.workers}")
        return self

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def changed(self, **fields: Any) -> StudyConfig:
        """The same configuration with some fields replaced, validated anew."""
        return make_config({**self.to_json(), **fields})


def make_config(fields: Mapping[str, Any], source: Source | None = None) -> StudyConfig:
    """Validate ``fields``.

    Raises:
        ConfigError: one sentence for the first fault: field, place, what was expected and given, the nearest name.
    """
    try:
        return StudyConfig.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError(sentence_for(error, StudyConfig, source or Source("the configuration"))) from None


def load_config(what: str | os.PathLike[str] | Mapping[str, Any] | StudyConfig, **overrides: Any) -> StudyConfig:
    """A configuration from a preset's name, a YAML file, a mapping of fields, or another configuration; ``overrides`` win."""
    if isinstance(what, StudyConfig):
        return what.changed(**overrides) if overrides else what
    if isinstance(what, Mapping):
        return make_config(_anchored({**what, **overrides}, Path.cwd()))
    path = _find(what)
    fields, source = parse_yaml(path)
    return make_config(_anchored(overrides, Path.cwd(), into=_anchored(fields, path.parent)), source)


def presets() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def _find(what: str | os.PathLike[str]) -> Path:
    known = presets()
    path = known.get(os.fspath(what), Path(what))
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f'"{what}" is a folder; give a preset ({", ".join(known)}) or a YAML file, or resume the study in it.')
    raise ConfigError(f'There is no preset and no file "{what}"; the presets are {", ".join(known)}, a configuration ends in .yaml.')


def _anchored(fields: Mapping[str, Any], folder: Path, into: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``fields`` laid over ``into``, with the files they name made independent of the working directory."""
    anchored = {field: _beside(value, folder) if field in _REFERENCES else value for field, value in fields.items()}
    if isinstance(anchored.get("latency_table"), str):
        anchored["latency_table"] = _near(anchored["latency_table"], folder)
    for field, key in (("task", "path"), ("evaluator", "table"), ("evaluator", "start")):
        if isinstance(anchored.get(field), Mapping):
            anchored[field] = _with_file(anchored[field], key, folder)
    if "start" in anchored:
        anchored["start"] = [_read_values(item, folder) if isinstance(item, str) else item for item in _listed(anchored["start"]) or ()]
    return {**(into or {}), **anchored}


def _read_values(file: str, folder: Path) -> Any:
    """The values in a JSON file: a mapping by path, or a trace, which is a list of choices with ``path`` and ``value``."""
    near = folder / file
    try:
        given = json.loads((near if near.is_file() else Path(file)).read_text(encoding="utf-8"))
        return given if isinstance(given, Mapping) else {choice["path"]: choice["value"] for choice in given}
    except OSError as error:
        raise ConfigError(f'The file "{file}" of "start" cannot be read ({error.strerror}); give a JSON file or values by path.') from None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f'The file "{file}" of "start" holds no trace; it must be JSON: values by path, or a list of choices.') from None


def _with_file(given: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """A task or evaluator whose data file, if it names one, is found from anywhere; a table may be a name instead of a file."""
    found = dict(given)
    if isinstance(found.get("params"), Mapping):
        found["params"] = _with_file(found["params"], key, folder)
    path = found.get(key)
    if isinstance(path, str) and (
        key in ("path", "start") or (path.endswith(".parquet") and any(Path(one).is_file() for one in (path, folder / path)))
    ):
        found[key] = _near(path, folder)
    return found


def _near(path: str, folder: Path) -> str:
    """A file beside the configuration, else in the working directory, by its absolute path."""
    near = folder / path
    return str(near.resolve() if near.is_file() else Path(path).absolute())


def _beside(given: Any, folder: Path) -> Any:
    """References to Python files made independent of the working directory; those beside the YAML file are found there."""
    if isinstance(given, list | tuple):
        return [_beside(item, folder) for item in given]
    if isinstance(given, Mapping) and "name" in given:
        return {**given, "name": _beside(given["name"], folder)}
    if not isinstance(given, str):
        return given
    path, colon, name = given.rpartition(":") if ".py:" in given else (given, "", "")
    if not path.endswith(".py"):
        return given
    near = folder / path
    return f"{near.resolve() if near.is_file() else Path(path).absolute()}{colon}{name}"
