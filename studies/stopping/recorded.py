"""Recorded learning curves, whoever recorded them: a Parquet file with one row for each training."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ...evaluators.tables.columns import Columns
from ...evaluators.tables.files import read
from ...search_space.architecture import Architecture, Node
from ...search_space.errors import ConfigError, did_you_mean
from ...search_space.outcomes import Objective

NOTHING = Architecture((Node("input", "input"),), "input")
"""The architecture of a training of which only numbers are known."""
SHORTEST = 3
"""Steps below which a row of columns is no curve."""
SMALL = ("ppl", "perplexity", "loss", "losses", "error", "errors", "err", "rmse", "mse", "mae", "nll", "bpc", "bpd")
ASIDE = ("train", "training", "test", "time", "times", "seconds", "wall", "lr", "epoch", "epochs", "step", "steps")
VALIDATION = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class RecordedCurves:
    """One metric of many trainings.

    Args:
        name: the file's, without its suffix.
        metric: the metric's name; ``acc`` for columns ``acc_1, acc_2, ...``.
        direction: whether it is made large or small.
        log: the gains are ``-log(metric)``: it is made small and positive throughout.
        curves: gains [n, T] (larger is better) after steps 1 .. T; NaN where a training gave none.
        values: the metric as recorded [n, T].
        features: of each training the numbers known before it, where known; a column that is positive and spans a factor
            of ten is given as its logarithm; one that is the same for all, or an ``id``, is left out.
    """

    name: str
    metric: str
    direction: Literal["max", "min"]
    log: bool
    curves: np.ndarray
    values: np.ndarray
    features: list[dict[str, float]]

    @classmethod
    def of(cls, name: str, metric: str, direction: Literal["max", "min"], values: np.ndarray, features: list[dict[str, float]]) -> Self:
        """From the metric as recorded [n, T].

        Raises:
            ConfigError: the curve is too short, or nothing was recorded.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        seen = values[np.isfinite(values)]
        if not len(seen) or values.shape[1] < SHORTEST:
            raise ConfigError(f'The curve "{metric}" of "{name}" has fewer than {SHORTEST} steps; record the metric after every step.')
        log = direction == "min" and bool((seen > 0).all())
        gains = -np.log(values) if log else values if direction == "max" else -values
        return cls(name, metric, direction, log, gains, values, features)

    @property
    def finals(self) -> np.ndarray:
        """[n] gains after the last step; NaN for a training that did not get there."""
        return self.curves[:, -1]

    @property
    def objective(self) -> Objective:
        return Objective(self.metric, self.direction)

    @property
    def budget(self) -> int:
        """Steps of a whole training."""
        return int(self.curves.shape[1])

    def __len__(self) -> int:
        return len(self.curves)


def load_curves(path: str | os.PathLike[str], metric: str | None = None, direction: str | None = None) -> RecordedCurves:
    """The learning curves of a Parquet file: a column of lists, or columns ``NAME_1, NAME_2, ...`` (or from 0 on).

    Args:
        path: the file.
        metric: which curve, by its column; needed where the file has several that are neither of training, of testing nor of time.
        direction: ``max`` or ``min``; by default ``min`` where the name says loss, error, perplexity and the like.

    Raises:
        ConfigError: the file is no Parquet file, has no such curve, several of them, or a direction that is none.
    """
    path = Path(path)
    columns = Columns(path, read(path))
    columns.separate()
    curves = _curves(columns)
    metric = _chosen(path, metric, curves)
    values = columns.curve(metric)
    used = {column for name in curves for column in columns.made_of(name)}
    return RecordedCurves.of(path.stem, metric, direction_of(metric, direction), values, _features(columns, used))


def _curves(columns: Columns) -> list[str]:
    """The names of all curves of a file, in the order of its columns."""
    stems = [match[1] for name in columns.names if (match := re.fullmatch(r"(.+)_\d+", name))]
    split = [stem for stem in dict.fromkeys(stems) if stems.count(stem) >= SHORTEST and stem not in columns.names]
    lists = [name for name in columns.names if columns.holds_lists(name)]
    return split + lists


def _chosen(path: Path, metric: str | None, curves: Sequence[str]) -> str:
    if metric is not None:
        if metric not in curves:
            raise ConfigError(f'"{path}" has no curve "{metric}"; {did_you_mean(metric, curves)}')
        return metric
    ours = [name for name in curves if not _words(name) & set(ASIDE)]
    for group in ([name for name in ours if _words(name) & set(VALIDATION)], ours):
        if len(group) == 1:
            return group[0]
    if not curves:
        raise ConfigError(f'"{path}" has no learning curve; give it a column of lists, or columns such as acc_1, acc_2, acc_3.')
    raise ConfigError(f'"{path}" has several curves ({", ".join(curves)}); say which one with the option metric.')


def direction_of(metric: str, given: str | None) -> Literal["max", "min"]:
    """The direction given, or the one that the metric's name tells.

    Raises:
        ConfigError: it is neither ``max`` nor ``min``.
    """
    if given is None:
        return "min" if _words(metric) & set(SMALL) else "max"
    if given not in ("max", "min"):
        raise ConfigError(f'The direction of the metric "{metric}" was given as "{given}"; it must be max or min.')
    return "max" if given == "max" else "min"


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", name.lower()))


def _features(columns: Columns, used: set[str]) -> list[dict[str, float]]:
    others = [name for name in columns.names if name not in used and "id" not in _words(name)]
    numeric = [name for name in others if columns.is_real(name) or columns.is_whole(name)]
    known = {name: values for name in numeric if (values := _varied(columns.numbers(name))) is not None}
    return [{name: float(values[row]) for name, values in known.items() if math.isfinite(values[row])} for row in range(len(columns.frame))]


def _varied(values: Any) -> Any:
    """A feature as predictors see it; None for one that tells nothing."""
    seen = values[np.isfinite(values)]
    if not len(seen) or seen.min() == seen.max():
        return None
    return np.log(values) if seen.min() > 0 and seen.max() >= 10 * seen.min() else values
