"""What replayed studies say of a stopper: steps saved, losses, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..compare.store import write_json
from .oracle import WHOLE
from .recorded import RecordedCurves
from .replay import Replay
from .setting import Setting


@dataclass(frozen=True)
class Summary:
    """One stopper over many studies.

    Args:
        stopper: as it was written.
        studies: how many were replayed.
        saving: steps without stopping over steps used, all studies together: 4 means a quarter of the steps.
        saving_interval: its 95 % interval over studies.
        loss_rate: share of studies whose reported winner is worse than the best candidate by more than the tolerance.
        loss_interval: its 95 % Clopper-Pearson interval.
        best_stopped: share of studies in which the candidate with the best final was stopped.
        best_stopped_interval: likewise.
        mean_loss, largest_loss: in units of the metric; a study without any completed candidate has none and counts as lost.
        completed: candidates that ran to the end, on average.
        audit: means of what the stopper tells of itself.
    """

    stopper: str
    studies: int
    saving: float
    saving_interval: tuple[float, float]
    loss_rate: float
    loss_interval: tuple[float, float]
    best_stopped: float
    best_stopped_interval: tuple[float, float]
    mean_loss: float
    largest_loss: float
    completed: float
    audit: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class StoppingStudy:
    """The result of :func:`~.api.study_stopping`.

    Args:
        setting: what was replayed.
        curves: the recorded trainings.
        summaries: one for each stopper.
        oracle: the saving of one who knows the finals and still trains the first candidates to the end.
        folder: where the replays are on file.
    """

    setting: Setting
    curves: RecordedCurves
    summaries: Sequence[Summary]
    oracle: float
    folder: Path | None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        facts = {"curves": self.curves.name, "candidates": len(self.curves), "steps": self.curves.budget}
        chosen = {name: value for name, value in vars(self.setting).items() if name != "sources"}
        oracle = {"saving": self.oracle, "whole": WHOLE}
        return {**facts, **chosen, "oracle": oracle, "stoppers": [summary.to_json() for summary in self.summaries]}

    def write(self, path: Path) -> Path:
        """Write :meth:`to_json` to a file."""
        write_json(path, self.to_json(), indent=2)
        return path

    def draw(self, path: Path) -> Path:
        """Draw saving against the rate of loss; the suffix says the format."""
        from .plot import draw

        return draw(self, path)


def _plain(value: Any) -> Any:
    """As JSON has it: null for what is not a number."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def summary(label: str, replays: Sequence[Replay], tolerance: float) -> Summary:
    """Put the studies of one stopper together."""
    epochs, full = (np.array([getattr(item, name) for item in replays], float) for name in ("epochs", "full"))
    losses = np.array([item.loss for item in replays], float)
    lost = losses > tolerance * (1 + 1e-9) + 1e-12
    stopped = np.array([item.best_stopped for item in replays])
    known = losses[np.isfinite(losses)]
    names = sorted({name for item in replays for name in item.audit})
    return Summary(
        label,
        len(replays),
        float(full.sum() / epochs.sum()),
        _ratio_interval(full, epochs),
        float(lost.mean()),
        interval(int(lost.sum()), len(replays)),
        float(stopped.mean()),
        interval(int(stopped.sum()), len(replays)),
        float(known.mean()) if len(known) else float("nan"),
        float(known.max()) if len(known) else float("nan"),
        float(np.mean([item.completed for item in replays])),
        {name: float(np.mean([item.audit.get(name, 0.0) for item in replays])) for name in names},
    )


def interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % Clopper-Pearson interval of a rate."""
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _ratio_interval(full: Any, epochs: Any) -> tuple[float, float]:
    """Of the ratio of sums, by the delta method."""
    ratio = full.sum() / epochs.sum()
    count = len(full)
    error = float(np.std(full - ratio * epochs, ddof=1) / epochs.mean() / count**0.5) if count > 1 else float("nan")
    return float(ratio - 1.96 * error), float(ratio + 1.96 * error)
