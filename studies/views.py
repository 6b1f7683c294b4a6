"""What the command line shows of studies and trials: tables, curves, drawings; the same facts as JSON."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..search_space.architecture import Architecture
from ..search_space.outcomes import Report
from .leaderboard import leaderboard, leaderboard_table, look_further, ranked
from .lock import is_running
from .query import TrialRow
from .records import all_studies, chosen_trial, find_study, trial_history
from .result import StudyResult
from .stopper_audit import in_words, read_audit
from .study import read_ledger

_BARS = "▁▂▃▄▅▆▇█"


def status_rows(study: str | None, runs: str) -> list[dict[str, Any]]:
    """The state of one study, or of all studies in a folder."""
    folders = [find_study(study, runs)] if study else all_studies(Path(runs))
    return [_status(folder) for folder in folders] or [_status(find_study(None, runs))]


def _status(folder: Path) -> dict[str, Any]:
    ledger = read_ledger(folder)
    state = "finished" if ledger.ended is not None else ("running" if is_running(folder) else "interrupted")
    best = ranked(ledger.trials.values(), ledger.objectives)[:1]
    row: dict[str, Any] = {"study": folder.name, "state": state, "trials": ledger.evaluated, "wanted": ledger.wanted}
    row |= ledger.counts | {"running": len(ledger.running)}
    if best and best[0].outcome:
        row |= {"best_trial": best[0].number}
        row |= {f"best_{o.metric}": best[0].outcome.metrics.get(o.metric) for o in ledger.objectives}
    return row | {"stopping": read_audit(folder), "reason": ledger.ended or "", "folder": str(folder)}


def status_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """One line a study."""
    from rich.table import Table

    table = Table(header_style="bold")
    for column in ("study", "state", "trials", "completed", "stopped", "failed", "infeasible", "duplicates", "best"):
        table.add_column(column, justify="left" if column in ("study", "state", "best") else "right")
    for row in rows:
        best = ", ".join(f"{key[5:]} {value:.4g}" for key, value in row.items() if key.startswith("best_") and isinstance(value, float))
        number = f" (trial {row['best_trial']})" if "best_trial" in row else ""
        counts = [str(row[key]) for key in ("completed", "stopped", "failed", "infeasible", "duplicate")]
        table.add_row(row["study"], row["state"], f"{row['trials']}/{row['wanted']}", *counts, best + number)
        words = "\n".join(text for text in (row["reason"], in_words(row["stopping"])) if text)
        if words and (row["reason"] or len(rows) == 1):
            table.caption = words
    return table


def best_table(rows: Sequence[TrialRow], order: Sequence[tuple[str, str]]) -> Any:
    """Trials from MLflow, best first."""
    from rich.table import Table

    tested = sorted({name for row in rows for name in row.metrics if name.startswith("test_") and name != "test_loss"})
    beside = [f"val_{name.removeprefix('test_')}" for name in tested]
    metrics = list(dict.fromkeys([*(metric for metric, _ in order), *beside, *tested, "params", "flops"]))
    metrics = [name for name in metrics if any(name in row.metrics for row in rows)]
    table = Table(header_style="bold", caption=None if rows else "no trial fulfils this")
    for column in ("trial", *metrics, "network"):
        table.add_column(column, justify="left" if column == "network" else "right", overflow="fold")
    for row in rows:
        table.add_row(str(row.trial), *(_number(row.metrics.get(name)) for name in metrics), _choices(row.choices))
    return table


def rows_to_csv(rows: Sequence[TrialRow]) -> str:
    """Trials with every metric and choice as columns."""
    metrics = sorted({name for row in rows for name in row.metrics})
    choices = sorted({name for row in rows for name in row.choices})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "status", *metrics, *choices, "digest", "folder"])
    for row in rows:
        values = [row.metrics.get(name, "") for name in metrics] + [row.choices.get(name, "") for name in choices]
        writer.writerow([row.trial, row.status, *values, row.digest, row.folder])
    return text.getvalue()


def trial_facts(study: str | None, number: int | None, runs: str) -> tuple[dict[str, Any], Architecture]:
    """Everything known of one trial (the best by default), and its architecture."""
    folder = find_study(study, runs)
    ledger = read_ledger(folder)
    trial = chosen_trial(ledger, number, folder.name)
    architecture = StudyResult(folder, ledger).architecture(trial.number)
    trace, reports = trial_history(folder, trial.number)
    facts: dict[str, Any] = {"study": folder.name, "trial": trial.number, "digest": trial.digest}
    facts |= {"status": trial.outcome.status if trial.outcome else "running"}
    facts |= {"metrics": dict(trial.outcome.metrics if trial.outcome else trial.metrics) | dict(trial.tested or {})}
    if trial.outcome and trial.outcome.predicted:
        facts["predicted"] = {name: {"mean": p.mean, "spread": p.spread} for name, p in trial.outcome.predicted.items()}
    if trial.outcome and trial.outcome.reason:
        facts["reason"] = trial.outcome.reason
    facts |= {"choices": trace.values_by_path(), "curves": _curves(reports), "objectives": [o.metric for o in ledger.objectives]}
    return facts | {"architecture": architecture.to_json()}, architecture


def _curves(reports: Sequence[Report]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for report in reports for name in report.metrics)
    return {name: [report.metrics[name] for report in reports if name in report.metrics] for name in names}


def trial_view(facts: Mapping[str, Any], architecture: Architecture) -> Any:
    """One trial for a terminal: headline, choices, drawing, metrics, learning curves."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    headline = Text.assemble((f"{facts['study']} · trial {facts['trial']}", "bold"), f"  {facts['status']}  {facts['digest']}")
    parts: list[Any] = [headline]
    if facts.get("reason"):
        parts.append(Text(facts["reason"], style="yellow"))
    parts += ["", Text("network", style="bold"), Padding(Text(str(architecture)), (0, 2)), "", Text("metrics", style="bold")]
    metrics = Table.grid(padding=(0, 2))
    for name, value in facts["metrics"].items():
        metrics.add_row(name, _number(value))
    for name, prediction in facts.get("predicted", {}).items():
        metrics.add_row(f"{name} (predicted final)", f"{_number(prediction['mean'])} ± {_number(prediction['spread'])}")
    parts.append(Padding(metrics, (0, 2)))
    curves = Table.grid(padding=(0, 2))
    for name, values in facts["curves"].items():
        curves.add_row(name, sparkline(values), f"{_number(values[0])} → {_number(values[-1])}", f"{len(values)} epochs")
    parts += ["", Text("learning curves", style="bold"), Padding(curves, (0, 2))]
    return Group(*parts)


def sparkline(values: Sequence[float]) -> str:
    """A curve as a row of bars from its lowest to its highest value.

    >>> sparkline([0, 1, 2, 7])
    '▁▂▃█'
    """
    low, high = min(values), max(values)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def study_summary(result: StudyResult, quiet: bool = False) -> Any:
    """The leaderboard of a finished study and how to look further."""
    from rich.console import Group
    from rich.text import Text

    ledger = result.ledger
    rows = leaderboard(ledger, 10)
    if not rows:
        return Text(ledger.ended or "No trial completed; archwright status tells why.", style="yellow")
    parts: list[Any] = [leaderboard_table(rows, ledger.objectives, title=f"{result.folder.name}: the best of {ledger.evaluated} trials")]
    if not quiet:
        parts += [Text(line) for line in _story(result)]
        further = look_further(str(result.folder), rows[0]["trial"], trained=ledger.header["config"]["task"] is not None)
        parts += ["", Text("look further", style="bold"), *(Text(f"  {_typed(line)}") for line in further)]
    return Group(*parts)


def _typed(line: str) -> str:
    """A command line as it can be typed here: with the path of the environment when that is not activated."""
    beside = Path(sys.executable).with_name("archwright")
    if shutil.which("archwright") or not beside.exists():
        return line
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside) + line.removeprefix("archwright")


def _story(result: StudyResult) -> list[str]:
    ledger = result.ledger
    counts = ", ".join(f"{count} {status}" for status, count in ledger.counts.items() if count)
    budget = ledger.header["config"]["epochs"]
    spent = sum(trial.step for trial in ledger.trials.values())
    stopped = [trial for trial in ledger.trials.values() if trial.outcome is not None and trial.outcome.status == "stopped"]
    saved = sum(budget - trial.step for trial in stopped)
    share = f", {saved / (spent + saved):.0%} of {spent + saved:,} saved by early stopping" if saved else ""
    lines = [f"{counts}; {spent:,} epochs trained{share}"]
    if ledger.ended:
        lines.append(ledger.ended)
    return lines


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _choices(choices: Mapping[str, str]) -> str:
    """The choices of a trace on one line, elements of repeats grouped: ``width 32 · gru+mlp ×2``."""
    single = [f"{path} {value}" for path, value in choices.items() if not any(part.isdigit() for part in path.split("/"))]
    groups: dict[str, list[str]] = {}
    for path, value in choices.items():
        parts = path.split("/")
        index = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if index is not None and not _is_float(value):
            groups.setdefault("/".join(parts[: index + 1]), []).append(str(value))
    names = ["+".join(values) for values in groups.values()]
    folded: list[tuple[str, int]] = []
    for name in names:
        if folded and folded[-1][0] == name:
            folded[-1] = (name, folded[-1][1] + 1)
        else:
            folded.append((name, 1))
    return " · ".join([*single, *(name + (f" ×{count}" if count > 1 else "") for name, count in folded)])


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
