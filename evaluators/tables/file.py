"""A user's own table: a Parquet file with choices, results and costs in its columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...search_space.architecture import Architecture, Node
from ...search_space.choices import Choices
from ...search_space.errors import ConfigError
from ...search_space.outcomes import Objective
from ...search_space.space import Space
from .columns import Column, Columns, Row
from .files import find, read
from .prefixes import RecordedChoices, path_names
from .registry import table
from .table import Table

BLOCK = "recorded"
Names = str | Sequence[str] | None


@table("file")
def recorded_file(
    path: str,
    objectives: Names = None,
    choices: Names = None,
    known: Names = None,
    test: Names = None,
    seconds: str | None = None,
    data: str | None = None,
) -> Table:
    """A Parquet file of your own: every row one evaluation, every column a choice, a result or a cost.

    The space asks for the choices in the order of the columns and offers only what leads to a recorded row, so the table need
    not be complete. Rows with equal choices are one network with the mean of their numbers. Columns that are named nowhere
    and are no choices are left alone.

    Args:
        path: the file.
        objectives: ``"accuracy:max latency:min"``, or a list of such; ``max`` unless said otherwise (``min`` for what is known). An
            objective is a column of numbers, or a learning curve: a column of lists, or ``acc`` for columns ``acc_1`` to ``acc_T``.
            By default every column of real numbers or lists that is not named otherwise can be searched for: a single one is, of
            several the comparison or the study names its own.
        choices: the columns that make the network. By default every column of texts, booleans or whole numbers not named otherwise.
        known: columns that are exact before training.
        test: columns of the test split, shown for the winners alone.
        seconds: the column of the time an evaluation took, in any unit.
        data: folder of the file, where it is not in the working directory.

    Raises:
        ConfigError: the file is missing, empty or no Parquet, a column is not there or not numeric, or there is no choice.
    """
    where = Path(path) if Path(path).is_file() else find(path, data)
    columns = Columns(where, read(where))
    known_names, test_names = _names(known), _names(test)
    named = [*known_names, *test_names, *_names(seconds)]
    results = _objectives(columns, objectives, known_names, [*named, *_names(choices)])
    goals = results if objectives or len(results) == 1 else ()
    made_by = _choices(columns, _names(choices), [*named, *(result.metric for result in results)])
    columns.merge(made_by)
    curves = {name: columns.curve(name) for name in _metrics(results) if columns.is_curve(name)}
    metrics = {name: columns.numbers(name) for name in _metrics(results) if name not in (*curves, *known_names)}
    return Table(
        name=where.stem,
        space=_space(where.stem, made_by, columns.rows),
        rows={row: number for number, row in enumerate(columns.rows)},
        key=lambda architecture: _row_of(architecture, made_by),
        metrics={**metrics, **{name: _finals(curve) for name, curve in curves.items()}},
        objectives=goals,
        test={name: columns.numbers(name) for name in test_names},
        known={name: columns.numbers(name) for name in known_names},
        curves=curves,
        seconds=None if seconds is None else columns.times(seconds),
    )


def _names(given: Names) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def _objectives(columns: Columns, given: Names, known: Sequence[str], named: Sequence[str]) -> tuple[Objective, ...]:
    texts = given.replace(",", " ").split() if isinstance(given, str) else _names(given)
    if not texts:
        texts = [name for name in columns.names if name not in named and (columns.is_real(name) or columns.holds_lists(name))]
        if not texts:
            raise ConfigError(f'The table "{columns.path}" has no column of real numbers left to search for; name its objectives.')
    return tuple(_objective(text, known) for text in texts)


def _metrics(results: Sequence[Objective]) -> list[str]:
    return [result.metric for result in results]


def _objective(text: str, known: Sequence[str]) -> Objective:
    metric, colon, direction = text.rpartition(":")
    if not colon:
        return Objective(text, "min" if text in known else "max")
    if direction not in ("max", "min"):
        raise ConfigError(f'The objective "{text}" has direction "{direction}"; write {metric}:max or {metric}:min.')
    return Objective(metric, direction)  # type: ignore[arg-type]


def _choices(columns: Columns, given: list[str], named: Sequence[str]) -> list[str]:
    taken = {column for name in named for column in columns.made_of(name)}
    for name in given:
        if name not in columns.names:
            columns.made_of(name)
    found = given or [name for name in columns.names if name not in taken and columns.is_choice(name)]
    if not found:
        raise ConfigError(f'The table "{columns.path}" has no column of texts, booleans or whole numbers to choose from; name its choices.')
    return found


def _space(name: str, columns: Sequence[str], rows: Sequence[Row]) -> Space:
    paths = path_names(columns)
    recorded = RecordedChoices([paths[column] for column in columns], rows)

    def recorded_space(choose: Choices) -> Architecture:
        """The networks on record, each by its choices."""
        chosen = {column: value for column, value in zip(columns, recorded.ask(choose), strict=True) if value is not None}
        return Architecture((Node("input", "input"), Node(BLOCK, BLOCK, ("input",), {"choices": chosen})), BLOCK)

    return Space(name, recorded_space)


def _row_of(architecture: Architecture, columns: Sequence[str]) -> Row | None:
    chosen = next((node.params["choices"] for node in architecture.nodes if node.block == BLOCK), None)
    return None if chosen is None else tuple(chosen.get(column) for column in columns)


def _finals(curves: Column) -> Column:
    """The last value of each curve before its first missing one."""
    present = np.isfinite(curves)
    lengths = np.where(present.all(1), curves.shape[1], np.argmin(present, axis=1))
    last = np.take_along_axis(curves, np.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(lengths > 0, last, np.nan)
