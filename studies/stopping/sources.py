"""Where recorded curves come from: a file, or studies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...search_space.errors import ConfigError
from ..records import find_study
from .recorded import RecordedCurves, load_curves
from .recorded_studies import curves_of_studies

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def found_sources(given: Sources, runs: str | os.PathLike[str] = "runs") -> tuple[Path, ...]:
    """Absolute paths: one file, or the folders of studies given by name or by path.

    Raises:
        ConfigError: nothing was given, or several of which one is a file.
        StudyError: there is no such study.
    """
    texts = [given] if isinstance(given, str | os.PathLike) else list(given)
    if not texts:
        raise ConfigError("A stopping study needs recorded curves; give a Parquet file, or studies.")
    files = [text for text in texts if _is_file(Path(text))]
    if files and len(texts) > 1:
        raise ConfigError(f'"{files[0]}" is a file, and {len(texts)} sources were given; give one file, or studies alone.')
    return tuple(Path(text).absolute() if files else find_study(str(text), runs).absolute() for text in texts)


def recorded_curves(sources: Sequence[str | os.PathLike[str]], metric: str | None = None, direction: str | None = None) -> RecordedCurves:
    """The curves of :func:`found_sources`.

    Raises:
        ConfigError, StudyError: they cannot be read, or there is no such metric.
    """
    paths = [Path(source) for source in sources]
    return load_curves(paths[0], metric, direction) if _is_file(paths[0]) else curves_of_studies(paths, metric, direction)


def _is_file(path: Path) -> bool:
    """Whatever has a suffix and is no folder is meant as a file, there or not."""
    return path.is_file() or (path.suffix.lower() in (".parquet", ".csv", ".pq") and not path.is_dir())
