"""Columns of a data frame to numbers: numeric, categorical and date columns, with missing values."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from ...search_space.errors import DataError

MOST_LEVELS = 64
_DATE_PARTS = ("year", "month", "day", "weekday", "hour")


class Column(NamedTuple):
    """One column of the result: its name, its number of levels (0 is numeric) and its values (N,)."""

    name: str
    levels: int
    values: np.ndarray


def encode_columns(frame: Any, train: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A data frame as (N, F) float32 with the number of levels of each column (0 is numeric).

    ============ ==============================================================================================
    numbers,     missing values become the median of the train rows, and a 0/1 column says where they were
    booleans
    text         codes of the levels seen in the train rows (the 64 most frequent), one code for all others and,
                 where the train rows lack values, one for missing
    dates        year, month, day, weekday, hour as numbers, with a warning
    ============ ==============================================================================================

    Columns that do not vary over the train rows are dropped, and so is text that differs in every row, with a warning.

    Args:
        frame: the feature columns.
        train: the train rows, the only ones that anything is learned from.

    Raises:
        DataError: no column is left.
    """
    columns = [column for name in frame.columns for column in _encode(name, frame[name], train)]
    columns = [column for column in columns if len(np.unique(column.values[train])) > 1]
    if not columns:
        raise DataError(f"None of the {frame.shape[1]} feature columns varies over the train rows; there is nothing to learn from.")
    x = np.stack([column.values for column in columns], axis=1).astype(np.float32)
    return x, tuple(column.levels for column in columns)


def _encode(name: str, column: Any, train: np.ndarray) -> list[Column]:
    from pandas.api import types

    if types.is_datetime64_any_dtype(column):
        return _dates(name, column, train)
    if types.is_bool_dtype(column) or types.is_numeric_dtype(column):
        return _numeric(name, column.to_numpy(dtype=np.float64, na_value=np.nan), train)
    as_date = _parsed_dates(column)
    return _text(name, column, train) if as_date is None else _dates(name, as_date, train)


def _numeric(name: str, values: np.ndarray, train: np.ndarray) -> list[Column]:
    values = np.where(np.isfinite(values), values, np.nan)
    missing = np.isnan(values)
    seen = values[train][~missing[train]]
    filled = np.where(missing, np.median(seen) if len(seen) else 0.0, values)
    found = [Column(name, 0, filled)]
    if missing[train].any():
        found.append(Column(f"{name} is missing", 0, missing.astype(np.float64)))
    return found


def _text(name: str, column: Any, train: np.ndarray) -> list[Column]:
    missing = column.isna().to_numpy()
    text = np.array([str(value) for value in column], dtype=object)
    seen, counts = np.unique(text[train][~missing[train]].astype(str), return_counts=True)
    if len(seen) > MOST_LEVELS and len(seen) == counts.sum():
        warnings.warn(f'The text column "{name}" differs in every row and is left out.', UserWarning, stacklevel=2)
        return []
    frequent = seen[np.lexsort((seen, -counts))][:MOST_LEVELS]
    code = {level: number for number, level in enumerate(sorted(frequent))}
    other = len(code)
    codes = np.array([code.get(value, other) for value in text], dtype=np.float64)
    with_missing = bool(missing[train].any())
    codes[missing] = other + 1 if with_missing else other
    return [Column(name, other + 1 + with_missing, codes)]


def _parsed_dates(column: Any) -> Any:
    """The column as dates if all its text is in ISO form, else None."""
    import pandas as pd

    known = column[column.notna()]
    if not len(known) or not all(isinstance(value, str) and value[:4].isdigit() and "-" in value[4:8] for value in known):
        return None
    try:
        return pd.to_datetime(column, format="ISO8601", utc=True)
    except (ValueError, TypeError):
        return None


def _dates(name: str, column: Any, train: np.ndarray) -> list[Column]:
    warnings.warn(f'The date column "{name}" is read as the numbers {", ".join(_DATE_PARTS)}.', UserWarning, stacklevel=2)
    found: list[Column] = []
    for part in _DATE_PARTS:
        attribute = "day_of_week" if part == "weekday" else part
        values, *missing = _numeric(f"{name} {part}", getattr(column.dt, attribute).to_numpy(dtype=np.float64, na_value=np.nan), train)
        found += [values] if found else [values, *missing]
    return found
