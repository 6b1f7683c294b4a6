"""A space with what is on record for its architectures."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.errors import ConfigError, did_you_mean
from ...search_space.outcomes import Objective, Report
from ...search_space.space import Space

Column = np.ndarray


@dataclass(frozen=True)
class Table:
    """Recorded evaluations of the architectures of one space. Every column has one entry per row; NaN means missing.

    Args:
        name: registered name, or the file's name.
        space: the space, ready to run (its parameters and input are set).
        rows: from an architecture's key to its row; several keys may share a row.
        key: the key of an architecture of the space; None for one of another space.
        metrics: what a search may see (validation), by name.
        test: what only a winner is asked for, by name.
        known: exact before training (``params``, ``flops``, ``latency_ms``), by name.
        curves: [rows, steps] of a metric after each step, in place of one value.
        seconds: how long an evaluation took, per row; in any unit, since only ratios matter in virtual time. By default 1 each.
        objectives: what to search for unless told otherwise; nothing where each search has to say so.
        remark: one sentence that a reader of a result must know (a table without validation data), or "".
    """

    name: str
    space: Space
    rows: Mapping[Hashable, int]
    key: Callable[[Architecture], Hashable]
    metrics: Mapping[str, Column]
    objectives: tuple[Objective, ...]
    test: Mapping[str, Column] = field(default_factory=dict)
    known: Mapping[str, Column] = field(default_factory=dict)
    curves: Mapping[str, Column] = field(default_factory=dict)
    seconds: Column | None = None
    remark: str = ""

    def row(self, architecture: Architecture) -> int:
        """The row of an architecture.

        Raises:
            ConfigError: it is not on record.
        """
        key = self.key(architecture)
        if key not in self.rows:
            what = "an architecture of another space" if key is None else f"the architecture {key!r}"
            raise ConfigError(f'The table "{self.name}" holds no record of {what}; search the space {self._space_text()}.')
        return self.rows[key]

    def _space_text(self) -> str:
        params = "".join(f", {name}: {value}" for name, value in self.space.params.items())
        return f"{{name: {self.space.name}{params}}}" if params else f'"{self.space.name}"'

    def known_of(self, architecture: Architecture) -> dict[str, float]:
        """What is exact before training; a missing value is left out."""
        return _present(self.known, self.row(architecture))

    def tested(self, architecture: Architecture) -> dict[str, float]:
        """The metrics of the test split."""
        return _present(self.test, self.row(architecture))

    def reports(self, architecture: Architecture, budget: int | None = None) -> Iterator[Report]:
        """What an evaluation reports, step by step, up to ``budget`` steps; one report where no curve is on record.

        A curve ends at its first missing value. The last report carries the final metrics, unless the budget ended it early.
        """
        row = self.row(architecture)
        final = _present(self.metrics, row)
        seconds = 1.0 if self.seconds is None else float(self.seconds[row])
        curves = {name: _whole(values[row]) for name, values in self.curves.items()}
        steps = max([1, *map(len, curves.values())])
        last = steps if budget is None else min(steps, budget)
        for step in range(1, last + 1):
            seen = {name: float(curve[step - 1]) for name, curve in curves.items() if step <= len(curve)}
            yield Report(step, {**seen, **final} if step == steps else seen, seconds / steps, step == last)

    def steps(self) -> int:
        """The most reports an evaluation gives."""
        return max([1, *(values.shape[1] for values in self.curves.values())])

    def objective(self, text: str) -> Objective:
        """An objective written ``metric``, ``metric:max`` or ``metric:min``; what is known before training is made small by default.

        Raises:
            ConfigError: no column a search may see has this name.
        """
        metric, _, direction = text.partition(":")
        given = {objective.metric: objective.direction for objective in self.objectives}
        if metric not in self.metrics and metric not in self.known:
            raise ConfigError(f'The table "{self.name}" has no metric "{metric}"; {did_you_mean(metric, [*self.metrics, *self.known])}')
        default = given.get(metric, "min" if metric in self.known else "max")
        if direction not in ("", "max", "min"):
            raise ConfigError(f'The objective "{text}" has direction "{direction}"; write {metric}:max or {metric}:min.')
        return Objective(metric, direction or default)  # type: ignore[arg-type]

    def searched(self, texts: Sequence[str]) -> tuple[Objective, ...]:
        """The objectives written so, or the table's own.

        Raises:
            ConfigError: no column a search may see has this name, or none is named and the table has none of its own.
        """
        chosen = tuple(self.objective(text) for text in texts) or self.objectives
        if not chosen:
            raise ConfigError(f'The table "{self.name}" records {", ".join(self.metrics)}; name the objectives of this search.')
        return chosen

    def gains(self, objective: Objective) -> Column:
        """The objective's column, turned so that larger is better."""
        values = {**self.metrics, **self.known}[objective.metric].astype(float)
        return values if objective.direction == "max" else -values


def _present(columns: Mapping[str, Column], row: int) -> dict[str, float]:
    found = {name: float(values[row]) for name, values in columns.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _whole(curve: Any) -> Column:
    missing = np.flatnonzero(~np.isfinite(curve))
    return curve[: missing[0]] if len(missing) else curve
