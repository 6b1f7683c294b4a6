"""The picture of a comparison: how far from the optimum, and how good, with the band of the mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .result import Comparison

#: Told apart by readers who see colours differently (Okabe and Ito), then again with another line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#A6761D")
LINES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "svg.hashsalt": "archwright",
    "svg.fonttype": "none",
}


def draw(comparison: Comparison, path: Path) -> Path:
    """Draw the curves of all controllers into ``path`` (its suffix says the format).

    Left: mean regret on a logarithmic axis against evaluations. Right: mean score with the optimum marked, against virtual time
    where that differs from evaluations. Bands are 95 % confidence intervals of the mean. The legend is in order of the final rank.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        rows = -(-len(comparison.curves) // 2)
        figure = Figure(figsize=(11, 4.3 + 0.24 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _regret(left, comparison)
        _scores(right, comparison)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(_title(comparison), fontsize=11)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _title(comparison: Comparison) -> str:
    setting = comparison.setting
    params = ", ".join(f"{name} {value}" for name, value in setting.params.items() if name != "data")
    parts = [setting.table.name + (f" ({params})" if params else "")]
    parts += [f"{setting.workers} workers"] if setting.workers > 1 else []
    parts += [f"stopper {setting.stopper}"] if setting.stopper else []
    return ", ".join([*parts, "mean over seeds with 95 % confidence band"])


def _regret(axes: Axes, comparison: Comparison) -> None:
    optimum = comparison.scale.value(comparison.scale.optimum)
    curves = {label: found["evaluations"] for label, found in comparison.curves.items()}
    means = np.concatenate([np.abs(optimum - _array(curve["mean"])) for curve in curves.values()])
    floor = means[means > 0].min() / 2 if (means > 0).any() else 1e-3
    for number, (label, curve) in enumerate(curves.items()):
        seeds = len(comparison[label].runs)
        regret = {name: np.abs(optimum - _array(curve[name])) for name in ("mean", "low", "high")}
        # The interval may reach beyond the optimum, where no regret lies.
        beyond = (_array(curve["high"]) > optimum) if comparison.scale.value(1.0) > 0 else (_array(curve["low"]) < optimum)
        near, far = np.fmin(regret["low"], regret["high"]), np.fmax(regret["low"], regret["high"])
        clipped = {"mean": np.maximum(regret["mean"], floor), "near": np.where(beyond, floor, np.maximum(near, floor)), "far": far}
        _line(axes, number, _array(curve["at"]), clipped["mean"], clipped["near"], clipped["far"], f"{number + 1}. {label} ({seeds} seeds)")
    axes.set_yscale("log")
    axes.set_ylim(floor, 1.4 * means.max() or 1.0)
    axes.set_xscale("log")
    axes.set_xlim(1, comparison.setting.budget)
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    axes.set_xlabel("evaluations")
    axes.set_ylabel(f"regret of {comparison.scale.label} (optimum - best so far)")


def _scores(axes: Axes, comparison: Comparison) -> None:
    kind = "time" if comparison.timed else "evaluations"
    optimum = comparison.scale.value(comparison.scale.optimum)
    curves = {label: found[kind] for label, found in comparison.curves.items()}
    for number, curve in enumerate(curves.values()):
        _line(axes, number, _array(curve["at"]), _array(curve["mean"]), _array(curve["low"]), _array(curve["high"]))
    axes.axhline(optimum, color="black", linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        f"optimum {optimum:.4g}", (0.01, optimum), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points", fontsize=9
    )
    axes.set_ylim(*_window(curves, optimum))
    best = "best" if comparison.scale.single else "dominated"
    axes.set_ylabel(f"{best} {comparison.scale.label} so far")
    if comparison.timed:
        axes.set_xlabel(
            "virtual time (an average evaluation takes about 1)" if _unit_time(comparison) else "virtual time (the table's unit)"
        )
        axes.set_xlim(left=0)
    else:
        axes.set_xlabel("evaluations")
        axes.set_xlim(0, comparison.setting.budget)
        axes.locator_params("x", integer=True)


def _unit_time(comparison: Comparison) -> bool:
    seconds = comparison.setting.table.seconds
    return seconds is None or bool(abs(np.nanmean(seconds) - 1) < 0.01)


def _window(curves: dict[str, Any], optimum: float) -> tuple[float, float]:
    """From where the worst mean stands after an eighth of the way to a little beyond the optimum."""
    starts = []
    for curve in curves.values():
        at, mean = _array(curve["at"]), _array(curve["mean"])
        starts.append(mean[np.searchsorted(at, at[-1] / 8)])
    far = max(starts, key=lambda value: abs(value - optimum))
    reach = (far - optimum) or -max(abs(optimum), 1.0) / 100
    low, high = sorted((optimum + 1.05 * reach, optimum - 0.1 * reach))
    return low, high


def _line(axes: Axes, number: int, at: Any, mean: Any, low: Any, high: Any, label: str | None = None) -> None:
    colour, line = COLOURS[number % len(COLOURS)], LINES[number // len(COLOURS) % len(LINES)]
    axes.plot(at, mean, color=colour, linestyle=line, linewidth=1.8, label=label)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any():
        axes.fill_between(at, low, high, where=known.tolist(), color=colour, alpha=0.13, linewidth=0)


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)
