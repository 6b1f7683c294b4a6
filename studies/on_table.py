"""A study that trains nothing: space, objectives and costs come from the table its evaluator looks candidates up in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..search_space.architecture import Architecture
from ..search_space.errors import ConfigError
from ..search_space.outcomes import Objective
from ..search_space.registry import Entry
from .config import Bounds, StudyConfig

if TYPE_CHECKING:
    from ..evaluators.tables.table import Table

#: The name under which a configuration asks for the table's own space.
OWN_SPACE = "table"


def table_of(evaluator: Entry, params: Mapping[str, Any]) -> Table | None:
    """The table of an evaluator that looks candidates up; None where it trains them."""
    find = getattr(evaluator.obj, "table_of", None)
    return None if find is None else find(params)


def table_objectives(table: Table, config: StudyConfig) -> tuple[Objective, ...]:
    """The configured objectives, or the table's own.

    Raises:
        ConfigError: the table has no such metric, or there is no objective at all.
    """
    return table.searched([f"{objective.metric}:{objective.direction}" for objective in config.objectives])


def table_measure(table: Table, config: StudyConfig) -> Callable[[Architecture], dict[str, float]]:
    """What the table knows of an architecture before training.

    Raises:
        ConfigError: the study asks to measure something else; a recorded architecture is never built.
    """
    for metric in sorted(set(config.measure) - set(StudyConfig.model_fields["measure"].default) - set(table.known)):
        known = ", ".join(table.known) or "nothing"
        raise ConfigError(f'"{metric}" of "measure" is not on record: the table "{table.name}" knows {known} before training.')
    return table.known_of


def table_constraints(table: Table, config: StudyConfig, objectives: Sequence[Objective]) -> dict[str, Bounds]:
    """The configured bounds; an objective known before training must be on record, else its candidate is infeasible.

    Raises:
        ConfigError: a bound is on something that the table does not know before training.
    """
    for metric in config.constraints:
        if metric not in table.known:
            known = ", ".join(table.known) or "nothing"
            raise ConfigError(f'The constraint on "{metric}" cannot be checked: the table "{table.name}" knows {known} before training.')
    present = {objective.metric: Bounds(max=sys.float_info.max) for objective in objectives if objective.metric in table.known}
    return {**present, **config.constraints}
