"""Ranking what a study found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..search_space.dominance import fronts
from ..search_space.outcomes import Objective, gains
from .ledger import Ledger, Trial

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]


def ranked(trials: Iterable[Trial], objectives: Sequence[Objective], status: str = "completed") -> list[Trial]:
    """Candidates that ended with ``status``, best first: by Pareto front, then the first objective, then who came first."""
    scored = [(gains(trial.outcome, objectives), trial) for trial in trials if trial.outcome and trial.outcome.status == status]
    points = [(score, trial) for score, trial in scored if score is not None]
    levels = fronts([score for score, _ in points])
    order = sorted(range(len(points)), key=lambda i: (levels[i], tuple(-value for value in points[i][0]), points[i][1].number))
    return [points[i][1] for i in order]


def pareto_front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The completed candidates that no other completed one dominates, in ranked order."""
    order = ranked(trials, objectives)
    levels = fronts([gains(trial.outcome, objectives) or () for trial in order if trial.outcome])
    return [trial for trial, level in zip(order, levels, strict=True) if level == 0]


def leaderboard(ledger: Ledger, top: int | None = None) -> list[Row]:
    """One row a candidate: the completed ones, best first, then the stopped ones by what was predicted of them."""
    order = ranked(ledger.trials.values(), ledger.objectives) + ranked(ledger.trials.values(), ledger.objectives, "stopped")
    return [_row(rank, trial) for rank, trial in enumerate(order[:top], start=1)]


def _row(rank: int, trial: Trial) -> Row:
    outcome = trial.outcome
    assert outcome is not None
    row: Row = {"rank": rank, "trial": trial.number, "status": outcome.status, **outcome.metrics, **(trial.tested or {})}
    return {**row, "epochs": outcome.steps, "seconds": round(outcome.seconds, 3), "digest": trial.digest}


def columns_of(rows: Sequence[Row], objectives: Sequence[Objective]) -> list[str]:
    """The columns worth a line of a terminal: rank, trial, objectives, test metrics beside their validation, size and effort."""
    tested = sorted({name for row in rows for name in row if name.startswith("test_") and name != "test_loss"})
    beside = [f"val_{name.removeprefix('test_')}" for name in tested]
    metrics = list(
        dict.fromkeys([*(objective.metric for objective in objectives), *(name for name in beside if any(name in row for row in rows))])
    )
    sizes = [name for name in ("params", "flops", "latency") if name not in metrics and any(name in row for row in rows)]
    return ["rank", "trial", *metrics, *tested, *sizes, "epochs", "seconds", "status"]


def leaderboard_table(rows: Sequence[Row], objectives: Sequence[Objective] = (), title: str = "") -> Table:
    """The leaderboard as a ``rich`` table."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold", expand=False)
    columns = columns_of(rows, objectives)
    for column in columns:
        table.add_column(column, justify="left" if column == "status" else "right")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def look_further(folder: str, best: int | None, trained: bool = True) -> list[str]:
    """The lines that tell what can be done next; candidates that were looked up have no weights to export."""
    lines = [f"archwright status {folder}", f"archwright best {folder} --top 10"]
    if best is not None:
        lines += [f"archwright show {folder} {best}", *([f"archwright export {folder} {best} --to my_network"] if trained else [])]
    return [*lines, f"archwright resume {folder} --trials +20"]
