"""What a stopping study replays: curves, workers, tolerance, and the stoppers with their knobs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ...predictors.registry import STOPPERS
from ...predictors.risk_bounded import usual_tolerance
from ...search_space.errors import ConfigError
from ...search_space.protocols import Stopper
from ...search_space.registry import Entry
from ..compare.contender import name_and_knobs
from ..compare.sources import fingerprint, sources_of
from ..parts import made_stopper
from .recorded import RecordedCurves
from .replay import DRAWN, Replay, candidates, drawn, replay
from .sources import Sources, found_sources, recorded_curves

FEWEST = 2
"""Candidates of a study."""


@dataclass(frozen=True)
class Setting:
    """What all replays of a stopping study share.

    Args:
        sources: the file of the curves, or the folders of the studies that recorded them.
        metric, direction: as for :func:`~.sources.recorded_curves`.
        workers: candidates trained side by side.
        tolerance: how much worse than the best the reported winner may be, in units of the metric.
        risk: the stated risk, handed to stoppers that take a risk *and* a tolerance.
        share: part of the trainings that a study draws.
    """

    sources: Sequence[str]
    metric: str
    direction: str
    workers: int
    tolerance: float
    risk: float
    share: float = DRAWN

    def facts(self, curves: RecordedCurves) -> dict[str, Any]:
        """What decides a replay besides the stopper and the seed."""
        digest = hashlib.sha256(np.ascontiguousarray(curves.values).tobytes() + repr(curves.features).encode()).hexdigest()
        return {
            "metric": self.metric,
            "direction": self.direction,
            "workers": self.workers,
            "tolerance": self.tolerance,
            "share": self.share,
            "curves": digest,
        }


@dataclass(frozen=True)
class Named:
    """A stopper with its knobs, as it was written."""

    label: str
    entry: Entry
    knobs: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """A hash of its knobs and of the code it runs, when first asked for."""
        return fingerprint({"stopper": self.entry.name, "knobs": dict(self.knobs), "sources": sources_of(self.entry.obj)})

    def make(self, curves: RecordedCurves, trials: int, seed: int) -> Stopper:
        return made_stopper(self.entry, (curves.objective,), seed=seed, budget=curves.budget, trials=trials, **self.knobs)


def setting(
    given: Sources,
    metric: str | None,
    direction: str | None,
    workers: int,
    tolerance: float | None,
    risk: float,
    runs: str | os.PathLike[str] = "runs",
    share: float = DRAWN,
) -> tuple[Setting, RecordedCurves]:
    """The setting with what was left open filled in, and the curves.

    Raises:
        ConfigError: the curves cannot be read, or a number makes no sense.
    """
    sources = found_sources(given, runs)
    curves = recorded_curves(sources, metric, direction)
    if workers < 1:
        raise ConfigError(f"A stopping study needs workers of at least 1, not {workers}.")
    if not np.isfinite(curves.finals).any():
        raise ConfigError(f'No training in "{curves.name}" ran to the end; a stopping study needs whole curves.')
    if not 0 < share <= 1 or round(share * len(curves)) < FEWEST:
        raise ConfigError(
            f"A study of {share:g} of {len(curves)} trainings was asked for; it needs {FEWEST} of them at least, and at most all."
        )
    if tolerance is None:
        best = curves.values[int(np.nanargmax(curves.finals)), -1]
        tolerance = usual_tolerance(curves.objective, float(best))
    if tolerance < 0:
        raise ConfigError(f"The tolerance of a stopping study was given as {tolerance}; it must not be negative.")
    return Setting(tuple(map(str, sources)), curves.metric, curves.direction, workers, tolerance, risk, share), curves


def named(text: str, chosen: Setting) -> Named:
    """A stopper written ``NAME`` or ``NAME:knob=value,...``; risk and tolerance are those of the study unless it says otherwise.

    Raises:
        ArchwrightError: there is no such stopper, or a knob cannot be read.
    """
    name, knobs = name_and_knobs(text)
    entry = STOPPERS[name]
    if {"risk", "tolerance"} <= set(entry.knobs):
        knobs = {"risk": chosen.risk, "tolerance": chosen.tolerance, **knobs}
    return Named(text, entry, knobs)


class Replayer:
    """Replays studies of one setting."""

    def __init__(self, chosen: Setting, curves: RecordedCurves, stoppers: Sequence[Named]) -> None:
        self.chosen, self.curves = chosen, curves
        self._stoppers = {stopper.label: stopper for stopper in stoppers}
        self._known = candidates(curves)

    def __call__(self, label: str, seed: int) -> Replay:
        rows = drawn(self.curves, seed, self.chosen.share)
        stopper = self._stoppers[label].make(self.curves, len(rows), seed)
        return replay(self.curves, rows, stopper, workers=self.chosen.workers, known=self._known)
