"""Finished replays on disk: a line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..compare.contender import slug
from ..compare.sources import fingerprint
from .recorded import RecordedCurves
from .replay import Replay
from .setting import Named, Setting


class Store:
    """The replays of one setting: ``<folder>/<curves>-<hash>/<stopper>-<hash>.jsonl``.

    A line is one study, ``{"seed": ..., "replay": {...}}``; a line cut short by a crash counts as missing.
    """

    def __init__(self, out: str | os.PathLike[str], chosen: Setting, curves: RecordedCurves) -> None:
        self.folder = Path(out) / f"{slug(curves.name)}-{fingerprint(chosen.facts(curves))}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, stopper: Named) -> Path:
        return self.folder / f"{slug(stopper.label)}-{stopper.key}.jsonl"

    def read(self, stopper: Named) -> dict[int, Replay]:
        """Seed to replay."""
        try:
            lines = self.path(stopper).read_text().splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for line in lines:
            try:
                item = json.loads(line)
                found[int(item["seed"])] = Replay(**item["replay"])
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def add(self, stopper: Named, seed: int, replayed: Mapping[str, Any]) -> None:
        with self.path(stopper).open("a") as file:
            file.write("\n" * self._torn(file.tell(), stopper) + json.dumps({"seed": seed, "replay": replayed}) + "\n")

    def _torn(self, size: int, stopper: Named) -> bool:
        """Whether the last line has no end."""
        with self.path(stopper).open("rb") as file:
            file.seek(max(0, size - 1))
            return file.read(1) not in (b"", b"\n")
