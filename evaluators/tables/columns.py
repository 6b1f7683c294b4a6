"""The columns of a user's table, and what they can serve as: choices, numbers, learning curves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...search_space.choices import Value
from ...search_space.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pandas

Row = tuple[Value, ...]
Column = np.ndarray


class Columns:
    """The columns of one file; after :meth:`merge` or :meth:`separate` their rows are networks.

    Raises:
        ConfigError: there are no rows.
    """

    def __init__(self, path: Path, frame: pandas.DataFrame) -> None:
        if not len(frame):
            raise ConfigError(f'The table "{path}" has no rows; record at least one evaluation.')
        self.path, self.frame = path, frame.rename(columns=str)
        self.names = list(self.frame.columns)
        self.rows: list[Row] = []

    def made_of(self, name: str) -> list[str]:
        """The columns behind a name: itself, or ``name_1``, ``name_2``, ... (they may start at 0).

        Raises:
            ConfigError: there are none.
        """
        if name in self.names:
            return [name]
        steps = sorted(int(match[1]) for column in self.names if (match := re.fullmatch(re.escape(name) + r"_(\d+)", column)))
        if not steps or steps[0] > 1 or steps != list(range(steps[0], steps[0] + len(steps))):
            raise ConfigError(f'The table "{self.path}" has no column "{name}"; {did_you_mean(name, self.names)}')
        return [f"{name}_{step}" for step in steps]

    def is_curve(self, name: str) -> bool:
        return self.made_of(name) != [name] or self.holds_lists(name)

    def holds_lists(self, name: str) -> bool:
        return any(isinstance(value, list | np.ndarray) for value in self.frame[name].dropna().head(10))

    def is_real(self, name: str) -> bool:
        return self._kind(name) in ("floating", "mixed-integer-float")

    def is_choice(self, name: str) -> bool:
        """A column of texts, booleans or whole numbers."""
        return self._kind(name) in ("string", "boolean", "integer", "categorical")

    def is_whole(self, name: str) -> bool:
        return self._kind(name) == "integer"

    def separate(self) -> None:
        """Every row is a network of its own."""
        self._network = np.arange(len(self.frame))
        self.rows = [(number,) for number in range(len(self.frame))]

    def merge(self, choices: Sequence[str]) -> None:
        """Rows of equal choices become one network; its numbers, and the steps of its curves, are their means."""
        every = list(zip(*(self._values(name) for name in choices), strict=True))
        place = {row: number for number, row in enumerate(dict.fromkeys(every))}
        self.rows, self._network = list(place), np.array([place[row] for row in every])

    def numbers(self, name: str) -> Column:
        """[networks], NaN where nothing is recorded.

        Raises:
            ConfigError: the column is not there or not numeric.
        """
        return self._mean(self._numeric(name)[:, None])[:, 0]

    def times(self, name: str) -> Column:
        """As :meth:`numbers`, each known and not below 0."""
        seconds = self.numbers(name)
        if not (seconds >= 0).all():
            raise ConfigError(f'The column "{name}" of the table "{self.path}" has a time that is missing or below 0; give every row one.')
        return seconds

    def curve(self, name: str) -> Column:
        """[networks, steps], NaN where a curve has ended."""
        columns = self.made_of(name)
        if columns != [name]:
            return self._mean(np.stack([self._numeric(column) for column in columns], axis=1))
        lists = [value if isinstance(value, list | np.ndarray) else () for value in self.frame[name]]
        steps = np.full((len(lists), max(map(len, lists))), np.nan)
        for row, values in enumerate(lists):
            steps[row, : len(values)] = self._floats(name, values)
        return self._mean(steps)

    def _kind(self, name: str) -> str:
        from pandas.api.types import infer_dtype

        return infer_dtype(self.frame[name], skipna=True)

    def _values(self, name: str) -> list[Value]:
        """A column of choices as JSON scalars, None where one is missing."""
        column = self.frame[name]
        values: list[Any] = [None if absent else value for value, absent in zip(column.tolist(), column.isna().tolist(), strict=True)]
        for value in values:
            if not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
                raise ConfigError(
                    f'The column "{name}" of the table "{self.path}" holds {value!r}, which is no choice; choices are texts, numbers and '
                    f"booleans."
                )
        return values

    def _numeric(self, name: str) -> Column:
        self.made_of(name)
        return self._floats(name, self.frame[name])

    def _floats(self, name: str, values: Any) -> Column:
        import pandas

        try:
            return np.asarray(pandas.to_numeric(values), dtype=float)
        except (TypeError, ValueError):
            raise ConfigError(f'The column "{name}" of the table "{self.path}" is not numeric; name a column of numbers.') from None

    def _mean(self, values: Column) -> Column:
        """[file rows, k] to [networks, k], missing values left out."""
        present = np.isfinite(values)
        total, count = (np.zeros((len(self.rows), values.shape[1])) for _ in range(2))
        np.add.at(total, self._network, np.where(present, values, 0.0))
        np.add.at(count, self._network, present)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
