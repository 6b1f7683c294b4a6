"""A follower that shows how a study is doing: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.outcomes import Objective, Outcome, gains

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from .config import StudyConfig

EVALUATED = ("completed", "stopped", "failed")


@dataclass
class Tally:
    """The numbers a display needs, counted from events alone."""

    objectives: tuple[Objective, ...] = ()
    wanted: int = 0
    budget: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*EVALUATED, "infeasible", "duplicate"), 0))
    running: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    best: tuple[int, Outcome] | None = None
    saved: int = 0

    @property
    def done(self) -> int:
        return sum(self.counts[status] for status in EVALUATED)

    @property
    def metric(self) -> str:
        return self.objectives[0].metric if self.objectives else ""

    def take(self, event: Mapping[str, Any]) -> None:
        kind, n = event["event"], event.get("n", -1)
        if kind == "study":
            self.objectives = tuple(Objective(**item) for item in event["objectives"])
            self.wanted, self.budget = event["config"]["trials"], event["config"]["epochs"]
        elif kind == "extended":
            self.wanted = event["trials"]
        elif kind == "started":
            self.running[n] = {}
        elif kind == "report" and n in self.running:
            self.running[n] = {"step": event["step"], "value": event["metrics"].get(self.metric)}
        elif kind == "told":
            self._told(n, Outcome.from_json(event["outcome"]))

    def _told(self, n: int, outcome: Outcome) -> None:
        self.running.pop(n, None)
        self.counts[outcome.status] += 1
        if outcome.status == "stopped":
            self.saved += self.budget - outcome.steps
        score = gains(outcome, self.objectives) if outcome.status == "completed" else None
        if score is not None and (self.best is None or score[0] > (gains(self.best[1], self.objectives) or score)[0]):
            self.best = (n, outcome)

    def summary(self) -> str:
        """``12/40 · best 0.981 (trial 7) · 3 stopped, 1 failed, 2 duplicates · 40 epochs saved``."""
        rest = [f"{self.counts[status]} {word}" for status, word in _WORDS if self.counts[status]]
        parts = [f"{self.done}/{self.wanted}"]
        if self.best is not None:
            parts.append(f"best {self.metric} {self.best[1].metrics[self.metric]:.4g} (trial {self.best[0]})")
        parts += [", ".join(rest)] if rest else []
        parts += [f"{self.saved} epochs saved"] if self.saved else []
        return " · ".join(parts)


_WORDS = (("stopped", "stopped"), ("failed", "failed"), ("duplicate", "duplicates"), ("infeasible", "infeasible"))


class Progress:
    """Shows a study while it runs.

    Args:
        config, folder: the study, for the first line.
        console: where to show it; by default standard error.
        refresh: redraws per second of the live display.
    """

    def __init__(self, config: StudyConfig, folder: Path, *, console: Console | None = None, refresh: float = 4.0) -> None:
        from rich.console import Console

        self.console = console or Console(stderr=True)
        data = config.task.name if config.task else "recorded evaluations"
        self._title = f"{folder}: {config.space.name} on {data}, {config.controller.name}"
        self.tally = Tally()
        self._refresh = refresh
        self._live: Live | None = None
        self._began = time.monotonic()
        self._done_before = 0

    def fed(self, event: Mapping[str, Any]) -> None:
        """A past event of a resumed study: counted, not shown."""
        self.tally.take(event)
        self._done_before = self.tally.done

    def heard(self, event: Mapping[str, Any]) -> None:
        self.tally.take(event)
        kind = event["event"]
        if kind in ("study", "resumed"):
            self._print(self._title)
        if self.console.is_terminal:
            self._redraw()
        elif kind == "told" and event["outcome"]["status"] in EVALUATED:
            self._line(event)
        elif kind == "resumed":
            self._print(f"resumed at {self.tally.summary()}")
        elif kind == "ended" and event["reason"]:
            self._print(event["reason"])

    def close(self) -> None:
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
            self._live.stop()
            self._live = None
        self._print(self.tally.summary())

    def _line(self, event: Mapping[str, Any]) -> None:
        outcome = event["outcome"]
        value = outcome.get("metrics", {}).get(self.tally.metric)
        said = f"{self.tally.metric} {value:.4g}" if value is not None else ""
        reason = f"({outcome['reason']})" if outcome.get("reason") else ""
        words = [f"trial {event['n']}", outcome["status"], said, reason, "|", self.tally.summary()]
        self._print(" ".join(word for word in words if word))

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _redraw(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self.console, get_renderable=self._view, refresh_per_second=self._refresh, transient=True)
            self._live.start()

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        tally = self.tally
        head = Table.grid(padding=(0, 1))
        head.add_row(ProgressBar(total=max(1, tally.wanted), completed=tally.done, width=30), tally.summary(), self.remaining())
        running = Table.grid(padding=(0, 2))
        for row in running_rows(tally):
            running.add_row(*row)
        return Group(head, running)

    def remaining(self) -> str:
        """Time left at the pace so far."""
        done = self.tally.done - self._done_before
        if done < 2:
            return ""
        seconds = (time.monotonic() - self._began) / done * (self.tally.wanted - self.tally.done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"


def running_rows(tally: Tally) -> Sequence[tuple[str, str, str]]:
    """Trial, epoch and metric of every running candidate."""
    rows = []
    for n, state in sorted(tally.running.items()):
        value = state.get("value")
        shown = f"{tally.metric} {value:.4g}" if value is not None else ""
        rows.append((f"  trial {n}", f"epoch {state.get('step', 0)}/{tally.budget}", shown))
    return rows
