"""A supervised task from any CSV or Parquet file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ...search_space.choices import Integer, OneOf
from ...search_space.errors import DataError
from ...search_space.specs import TensorSpec
from .columns import encode_columns
from .definition import Task, assemble
from .registry import task
from .splits import split_rows
from .targets import KINDS, Kind, Targets, encode_targets

_MOST_NUMBERED_CLASSES = 20
_CSV = (".csv", ".tsv", ".txt")
_PARQUET = (".parquet", ".pq")


@task("table", knobs={"kind": OneOf(KINDS), "seed": Integer(0, 2**31)})
def table(
    *,
    path: str,
    target: str,
    kind: Kind = "auto",
    features: Sequence[str] | None = None,
    validation: float = 0.2,
    test: float = 0.2,
    objective: str | None = None,
    seed: int = 0,
) -> Task:
    """Rows of a CSV or Parquet file with a named target column.

    Column types are inferred; see :func:`~archwright.evaluators.tasks.columns.encode_columns`. Everything learned from the
    data (means, medians, levels) is learned from the train split alone. A target of numbers is standardised for the loss, its
    metrics are in its own units.

    Args:
        path: the file (``.csv``, ``.tsv``, ``.txt``, also compressed, or ``.parquet``).
        target: the column to predict.
        kind: ``classes`` or ``values``; by default text, booleans and integers of at most 20 distinct values are classes.
        features: the columns to predict from; by default all others.
        validation, test: shares of the rows, taken by class where there are classes.
        objective: ``val_accuracy``, ``-val_rmse`` and the like; see :meth:`Task.from_arrays`.

    Raises:
        DataError: the file cannot be read, a column is absent, or the target cannot be learned.
    """
    frame = read_frame(path)
    frame = frame.loc[:, [*_features(frame, features, target, path), target]]
    frame = _with_target(frame, target)
    targets = _targets(frame[target], kind, target)
    labels = targets.y if targets.classes else None
    parts = split_rows(len(frame), labels, targets.classes, validation=validation, test=test, seed=seed)
    columns = frame.drop(columns=target)
    x, categories = encode_columns(columns, parts[0])
    spec = TensorSpec("table", (x.shape[1],), categories)
    splits = [(x[rows], targets.y[rows]) for rows in parts]
    return assemble(Path(path).stem, spec, targets.classes, splits, squeeze=targets.squeeze, objective=objective)


def read_frame(path: str) -> Any:
    """The file as a pandas data frame, ``?`` read as missing.

    Raises:
        DataError: there is no such file, or it is neither CSV nor Parquet.
    """
    import pandas as pd

    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    try:
        if any(suffix in _PARQUET for suffix in suffixes):
            return pd.read_parquet(path)
        if any(suffix in _CSV for suffix in suffixes):
            separator = "\t" if ".tsv" in suffixes else ","
            return pd.read_csv(path, sep=separator, na_values=["?"], skipinitialspace=True)
    except FileNotFoundError:
        raise DataError(f'There is no file "{path}"; give the path of a CSV or Parquet file.') from None
    except (OSError, ValueError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f'The file "{path}" cannot be read as CSV or Parquet ({reason}).') from None
    raise DataError(f'The file "{path}" is neither CSV nor Parquet by its name; expected one of {", ".join([*_CSV, *_PARQUET])}.')


def _features(frame: Any, features: Sequence[str] | None, target: str, path: str) -> list[str]:
    columns = [str(column) for column in frame.columns]
    frame.columns = columns
    wanted = [column for column in columns if column != target] if features is None else list(features)
    for column, role in [(target, "target"), *((name, "feature") for name in wanted)]:
        if column not in columns:
            shown = ", ".join(columns[:12]) + (", ..." if len(columns) > 12 else "")
            near = get_close_matches(column, columns, n=1)
            cure = f'did you mean "{near[0]}"? Its' if near else "its"
            raise DataError(f'The file "{path}" has no column "{column}" for the {role}; {cure} columns are {shown}.')
    wanted = [column for column in wanted if column != target]
    if not wanted:
        raise DataError(f'The file "{path}" leaves no column to predict "{target}" from; it needs at least one besides the target.')
    return wanted


def _with_target(frame: Any, target: str) -> Any:
    """The rows whose target is known."""
    known = frame[target].notna()
    if not known.any():
        raise DataError(f'The target "{target}" is missing in all {len(frame)} rows.' if len(frame) else "The file holds no rows.")
    missing = int((~known).sum())
    if missing:
        warnings.warn(f'{missing} of {len(frame)} rows lack the target "{target}" and are left out.', UserWarning, stacklevel=2)
    return frame[known].reset_index(drop=True)


def _targets(column: Any, kind: Kind, name: str) -> Targets:
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if kind == "auto":
        kind = "values" if numeric and not _counts_as_classes(column) else "classes"
    if kind == "values" and not numeric:
        raise DataError(f'The target "{name}" holds text, such as {column.iloc[0]!r}; values must be numbers.')
    values = column.to_numpy(dtype=np.float64) if numeric else column.astype(str).to_numpy(dtype=object)
    try:
        return encode_targets(values, kind, len(column))
    except DataError as error:
        raise DataError(f'In the column "{name}": {error}') from None


def _counts_as_classes(column: Any) -> bool:
    values = column.to_numpy(dtype=np.float64)
    return bool(np.all(values == np.floor(values))) and len(np.unique(values)) <= _MOST_NUMBERED_CLASSES
