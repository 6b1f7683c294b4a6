"""The table of a stopping study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .oracle import WHOLE

if TYPE_CHECKING:
    from rich.table import Table

    from .result import StoppingStudy

COLUMNS = ("stopper", "studies", "fewer steps", "lost", "95 %", "best stopped", "mean loss", "largest", "whole")


def report(study: StoppingStudy) -> Table:
    """A row for each stopper; a rate of loss whose whole interval lies above the stated risk is red, below it green."""
    from rich.table import Table

    chosen = study.setting
    title = f"{study.curves.name}: {chosen.metric} ({chosen.direction}), tolerance {chosen.tolerance:.4g}, stated risk {chosen.risk:g}"
    table = Table(title=title, caption=f"An oracle that trains {WHOLE} candidates whole first would take {study.oracle:.1f}x fewer steps.")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "stopper" else "right", no_wrap=name in ("stopper", "95 %"))
    for found in study.summaries:
        low, high = found.loss_interval
        colour = "red" if low > chosen.risk else "green" if high <= chosen.risk else ""
        rate = f"[{colour}]{found.loss_rate:.1%}[/]" if colour else f"{found.loss_rate:.1%}"
        facts = (f"{found.best_stopped:.1%}", f"{found.mean_loss:.3g}", f"{found.largest_loss:.3g}", f"{found.completed:.0f}")
        table.add_row(found.stopper, str(found.studies), f"{found.saving:.2f}x", rate, f"{low:.1%}-{high:.1%}", *facts)
    return table
