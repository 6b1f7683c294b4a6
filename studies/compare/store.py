"""Finished runs on disk: one small JSON file each, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...search_space.files import write_atomically
from .contender import Contender
from .race import Race
from .setting import Setting
from .sources import FORMAT


class Store:
    """The runs of one setting: ``<folder>/<controller>-<hash>/<seed>.json``.

    Args:
        out: the folder of all comparisons; this setting has a folder of its own in it.
    """

    def __init__(self, out: str | os.PathLike[str], setting: Setting) -> None:
        self.folder = Path(out) / setting.folder
        self._facts = setting.facts()

    def path(self, contender: Contender) -> Path:
        """The folder of one controller's runs."""
        return self.folder / contender.folder

    def read(self, path: Path) -> Race | None:
        """The run on file, or None; a damaged file counts as missing, so that its run is done again."""
        try:
            return Race.from_json(json.loads(path.read_text())["race"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self) -> None:
        """Make the folder, with a note of the setting for its reader."""
        write_json(self.folder / "setting.json", {"format": FORMAT, **self._facts}, indent=2)


@contextmanager
def kept_or_not(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder ``out``, or for None one that is gone afterwards."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="archwright-") as folder:
        yield Path(folder)


def write_run(path: Path, contender: Contender, seed: int, race: Race) -> None:
    """Put one finished run on file."""
    facts = {"format": FORMAT, "controller": contender.label, "seed": seed}
    write_json(path, {**facts, "race": race.to_json()})


def write_json(path: Path, what: Any, indent: int | None = None) -> None:
    """Write JSON so that no reader ever sees half of it, and make the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(what, indent=indent, separators=None if indent else (",", ":")) + "\n")
