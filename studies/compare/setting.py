"""What all runs of a comparison share: the table, the objectives, the budget, the workers, the stopper."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...evaluators.tables.registry import load_table
from ...evaluators.tables.table import Table
from ...search_space.errors import ConfigError
from ...search_space.outcomes import Objective
from ...search_space.protocols import Stopper
from ..parts import made_stopper
from .contender import Contender, name_and_knobs, slug
from .race import Race, race
from .sources import fingerprint, sources_of


@dataclass(frozen=True)
class Setting:
    """The conditions of every run.

    Args:
        table: what is searched.
        name, params: how another process loads it; an empty name stands for a table of this process alone.
        objectives: in order of importance.
        budget: evaluations of one run.
        workers: evaluations side by side, in virtual time.
        stopper: registered name with knobs (``asha:eta=3``), or "".
    """

    table: Table
    name: str
    params: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    budget: int
    workers: int = 1
    stopper: str = ""

    def run(self, contender: Contender, seed: int) -> Race:
        """One run of one contender."""
        return race(
            contender.make(self.table, self.objectives, seed),
            self.table,
            self.objectives,
            seed=seed,
            budget=self.budget,
            workers=self.workers,
            stopper=self.made_stopper(seed),
        )

    def made_stopper(self, seed: int) -> Stopper | None:
        """A fresh stopper for one run.

        Raises:
            ArchwrightError: there is none of this name, or it takes no such knob.
        """
        if not self.stopper:
            return None
        entry, knobs = _stopper(self.stopper)
        return made_stopper(entry, self.objectives, seed=seed, budget=self.table.steps(), trials=self.budget, **knobs)

    def facts(self) -> dict[str, Any]:
        """The setting as JSON values."""
        return {
            "table": self.table.name,
            "params": {name: value for name, value in self.params.items() if name != "data"},
            "objectives": [f"{objective.metric}:{objective.direction}" for objective in self.objectives],
            "budget": self.budget,
            "workers": self.workers,
            "stopper": self.stopper or None,
        }

    @cached_property
    def folder(self) -> str:
        """Name of the folder of its runs: readable, with a hash of the facts, the recorded values and the stopper's code."""
        code = sources_of(_stopper(self.stopper)[0].obj) if self.stopper else {}
        key = fingerprint({**self.facts(), "recorded": _recorded(self.table), "stopper_sources": code})
        params = [f"{name}-{value}" for name, value in self.params.items() if name != "data"]
        return "-".join([slug("-".join([self.table.name, *params])), f"b{self.budget}", f"w{self.workers}", key])


def setting(
    table: str | Table,
    params: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = (),
    *,
    budget: int,
    workers: int = 1,
    stopper: str | None = None,
) -> Setting:
    """The setting of these wishes, checked.

    Raises:
        ArchwrightError: one sentence for the table, parameter, objective, budget or stopper that cannot be.
    """
    if isinstance(table, Table) and params:
        raise ConfigError("A table that is already loaded takes no parameters; give its name with them instead.")
    loaded = table if isinstance(table, Table) else load_table(table, params)
    chosen = loaded.searched(objectives)
    twice = [objective.metric for i, objective in enumerate(chosen) if objective.metric in [other.metric for other in chosen[:i]]]
    if twice:
        raise ConfigError(f'The objective "{twice[0]}" was given twice; give each metric once.')
    for what, count in (("budget", budget), ("workers", workers)):
        if count < 1:
            raise ConfigError(f"A comparison needs {what} of at least 1, not {count}.")
    made = Setting(loaded, "" if isinstance(table, Table) else table, dict(params or {}), chosen, budget, workers, stopper or "")
    made.made_stopper(0)
    return made


def _stopper(text: str) -> tuple[Any, dict[str, Any]]:
    from ...predictors.registry import STOPPERS

    name, knobs = name_and_knobs(text)
    return STOPPERS[name], knobs


def _recorded(table: Table) -> str:
    """A hash of all recorded values."""
    digest = hashlib.sha256(f"{table.space.name}|{len(table.rows)}".encode())
    groups = {"metrics": table.metrics, "test": table.test, "known": table.known, "curves": table.curves}
    for group, columns in groups.items():
        for name in sorted(columns):
            digest.update(f"|{group}|{name}|".encode())
            digest.update(np.ascontiguousarray(columns[name], dtype=float).tobytes())
    digest.update(b"" if table.seconds is None else np.ascontiguousarray(table.seconds, dtype=float).tobytes())
    return digest.hexdigest()
