"""Questions about finished trials, answered from MLflow: ``params < 5e4 and val_accuracy > 0.97``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..search_space.errors import StudyError, did_you_mean
from .tracking import DIGEST, FOLDER, ROLE, STATUS, STUDY, TRIAL, connect, runs_of, study_key

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"""\s*([A-Za-z_][\w./*-]*)\s*(<=|>=|!=|==|=|<|>)\s*('[^']*'|"[^"]*"|[^\s'"]+)\s*""")


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a metric, or of a choice by its path."""

    name: str
    sign: str
    value: float | str

    def holds(self, found: Any) -> bool:
        if isinstance(self.value, float):
            try:
                return _COMPARE[self.sign](float(found), self.value)
            except (TypeError, ValueError):
                return self.sign == "!="
        return _COMPARE[self.sign](str(found), self.value)


@dataclass(frozen=True)
class TrialRow:
    """One trial as MLflow knows it."""

    trial: int
    status: str
    metrics: dict[str, float]
    choices: dict[str, str]
    digest: str
    folder: str
    run_id: str = field(repr=False, default="")

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "status": self.status,
            "metrics": self.metrics,
            "choices": self.choices,
            "digest": self.digest,
            "folder": self.folder,
            "mlflow_run": self.run_id,
        }


def parse_where(text: str) -> list[Condition]:
    """The comparisons of ``text``, joined by ``and``.

    >>> parse_where("params < 5e4 and layer/0/mixer = 'gru'")
    [Condition(name='params', sign='<', value=50000.0), Condition(name='layer/0/mixer', sign='=', value='gru')]

    Raises:
        StudyError: a part is not ``name sign value``.
    """
    conditions = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise StudyError(f'The condition "{part}" is not understood; write comparisons such as "params < 5e4 and val_accuracy > 0.97".')
        name, sign, raw = match.groups()
        conditions.append(Condition(name, "=" if sign == "==" else sign, _value(raw, part)))
    return conditions


def best_trials(
    study: str,
    order: Sequence[tuple[str, str]],
    *,
    identity: str,
    uri: str,
    top: int | None = 5,
    where: str | None = None,
    statuses: Sequence[str] = ("completed",),
) -> list[TrialRow]:
    """The best trials of a study, best first.

    Args:
        study: the study's name (its MLflow experiment).
        order: (metric, ``max`` or ``min``) pairs, the first decides.
        identity: the creation stamp that tells the study from an earlier one of its name.
        uri: tracking URI.
        top: how many at most; None gives all.
        where: conditions, see :func:`parse_where`; metrics are compared in MLflow, choices here.
        statuses: which trials count; stopped ones hold last-seen values only.

    Raises:
        StudyError: the study is unknown, or a condition names neither a metric nor a choice.
    """
    client = connect(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        names = [found.name for found in client.search_experiments() if found.name != "Default"]
        raise StudyError(f'MLflow knows no study "{study}"; {did_you_mean(study, names)}')
    scope = [f"tags.`{STUDY}` = '{study_key(study, identity)}'", f"tags.`{ROLE}` = 'trial'"]
    sorting = [f"metrics.`{metric}` {'DESC' if direction == 'max' else 'ASC'}" for metric, direction in order]
    conditions = parse_where(where) if where else []
    filters, here = _split(conditions, client, experiment.experiment_id, scope)
    rows = []
    for run in runs_of(client, [experiment.experiment_id], " and ".join([*scope, *filters]), sorting):
        row = _row(run)
        if row.status in statuses and all(condition.holds(row.choices.get(condition.name)) for condition in here):
            rows.append(row)
            if top is not None and len(rows) >= top:
                break
    return rows


def _split(conditions: list[Condition], client: Any, experiment: str, scope: list[str]) -> tuple[list[str], list[Condition]]:
    """Conditions as MLflow filters where MLflow can judge them, and those on choices, which are judged here."""
    if not conditions:
        return [], []
    metrics: set[str] = set()
    choices: set[str] = set()
    for run in runs_of(client, [experiment], " and ".join(scope), limit=500):
        metrics |= set(run.data.metrics)
        choices |= set(run.data.params)
    filters, here = [], []
    for condition in conditions:
        if condition.name in metrics and isinstance(condition.value, float):
            filters.append(f"metrics.`{condition.name}` {condition.sign} {condition.value!r}")
        elif condition.name in choices:
            here.append(condition)
        elif metrics or choices:
            cure = did_you_mean(condition.name, [*metrics, *choices])
            raise StudyError(f'No trial has a metric or choice "{condition.name}"; {cure}')
    return filters, here


def _row(run: Any) -> TrialRow:
    tags = run.data.tags
    return TrialRow(
        int(tags[TRIAL]), tags[STATUS], dict(run.data.metrics), dict(run.data.params), tags[DIGEST], tags[FOLDER], run.info.run_id
    )


def _value(raw: str, part: str) -> float | str:
    if raw[0] in "'\"":
        return raw[1:-1]
    try:
        return float(raw)
    except ValueError:
        if raw in ("True", "False", "None"):
            return raw
        raise StudyError(f"The value {raw} in \"{part}\" is neither a number nor quoted; write a name in quotes: '{raw}'.") from None
