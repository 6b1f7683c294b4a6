"""The picture of a stopping study: what each stopper saves against how often it loses the best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..compare.plot import COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .result import StoppingStudy, Summary

MARKS = "osD^vP*X"


def draw(study: StoppingStudy, path: Path) -> Path:
    """Draw the rate of loss (95 % interval) against the saving, with the stated risk and the oracle as lines.

    The hollow mark of a stopper is how often it stopped the candidate with the best final, within the tolerance or not.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.4 + 0.12 * len(study.summaries)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for number, found in enumerate(study.summaries):
            _stopper(axes, number, found)
        _lines(axes, study)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        figure.suptitle(f"{study.curves.name}: {len(study.curves)} curves of {study.curves.budget} steps, {_workers(study)}", fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _workers(study: StoppingStudy) -> str:
    count = study.setting.workers
    return f"{count} worker{'s' if count > 1 else ''}, 95 % intervals"


def _stopper(axes: Axes, number: int, found: Summary) -> None:
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    low, high = found.loss_interval
    rate = 100 * found.loss_rate
    up = [[rate - 100 * low], [100 * high - rate]]
    label = f"{found.stopper} ({found.studies} studies)"
    axes.errorbar(found.saving, rate, yerr=up, fmt=mark, color=colour, capsize=3, markersize=7, label=label, zorder=3)
    axes.plot(found.saving, 100 * found.best_stopped, mark, markerfacecolor="none", color=colour, markersize=7, alpha=0.7)


def _lines(axes: Axes, study: StoppingStudy) -> None:
    axes.axhline(100 * study.setting.risk, color="black", linewidth=1, linestyle="--", label=f"stated risk, {study.setting.risk:.0%}")
    axes.axvline(study.oracle, color="#777777", linewidth=1, linestyle=":", label=f"oracle, {study.oracle:.1f}x")
    axes.plot([], [], "o", markerfacecolor="none", color="#777777", label="hollow: the very best was stopped")
    axes.set_xscale("log")
    axes.set_xlim(0.9, 1.15 * max(study.oracle, *(found.saving for found in study.summaries)))
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.xaxis.set_major_locator(FixedLocator([1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(-0.5, 110)
    axes.yaxis.set_major_locator(FixedLocator([0, 2, 5, 10, 20, 50, 100]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("fewer steps than without stopping")
    axes.set_ylabel(f"studies that lose > {study.setting.tolerance:.3g} {study.setting.metric}")
