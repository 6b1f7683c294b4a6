"""Targets: class labels to indices, values to a float matrix."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from ...search_space.errors import DataError

Kind = Literal["auto", "classes", "values"]
KINDS = ("auto", "classes", "values")


class Targets(NamedTuple):
    """``y`` (N,) int64 indices of ``classes``, or (N, K) float32 values with no classes; ``squeeze`` when values came as (N,)."""

    y: np.ndarray
    classes: tuple[str, ...]
    squeeze: bool


def encode_targets(y: Any, kind: Kind, rows: int) -> Targets:
    """Labels or values of ``rows`` samples.

    Args:
        y: (N,) labels (numbers, strings or booleans), or (N,) or (N, K) values.
        kind: ``auto`` takes floats as values and everything else as labels.

    Raises:
        DataError: another length, a missing value, a single class, labels that are not one per row.
    """
    values = np.asarray(y)
    if kind not in KINDS:
        raise DataError(f'The kind of target is "{kind}"; expected one of {", ".join(KINDS)}.')
    if len(values.shape) == 0 or len(values) != rows:
        raise DataError(f"y has shape {values.shape}, but x has {rows} rows; expected one target per row.")
    if _has_missing(values):
        raise DataError("y holds a missing or infinite value; drop such rows first.")
    if kind == "auto":
        kind = "values" if values.dtype.kind == "f" else "classes"
    return _labels(values) if kind == "classes" else _values(values)


def _labels(values: np.ndarray) -> Targets:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"y has shape {values.shape}; class labels are one per row, (N,). For several values per row give kind='values'.")
    if values.dtype == object:
        values = values.astype(str)
    if values.dtype.kind == "f" and np.all(values == np.floor(values)):
        values = values.astype(np.int64)
    found, indices = np.unique(values, return_inverse=True)
    if len(found) == 1:
        raise DataError(f"The target has the one class {str(found[0])!r} in all {len(values)} rows; classification needs at least two.")
    return Targets(indices.astype(np.int64), tuple(map(str, found)), False)


def _values(values: np.ndarray) -> Targets:
    if values.dtype.kind not in "biuf":
        raise DataError(f"y has dtype {values.dtype}; values to regress on must be numbers. For labels give kind='classes'.")
    if values.ndim > 2:
        raise DataError(f"y has shape {values.shape}; values are (N,) or (N, K).")
    if values.size and np.all(values == values[0]):
        raise DataError(f"The target is {values.flat[0]} in all {len(values)} rows; there is nothing to learn.")
    return Targets(values.reshape(len(values), -1).astype(np.float32), (), values.ndim == 1)


def _has_missing(values: np.ndarray) -> bool:
    if values.dtype.kind == "f":
        return not bool(np.isfinite(values).all())
    return values.dtype == object and any(value is None or value != value for value in values.flat)
