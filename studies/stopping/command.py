"""``archwright study-stopping``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...search_space.errors import StudyError

QUICK = 40
"""Studies of each stopper that fit into two minutes."""


@click.command(name="study-stopping")
@click.option(
    "--curves",
    required=True,
    multiple=True,
    metavar="SOURCE",
    help="A .parquet file of learning curves, or a study; several studies: repeat.",
)
@click.option("--stopper", "stoppers", multiple=True, metavar="NAME[:KNOBS]", help="Who stops; repeatable.  [default: risk-bounded]")
@click.option("--metric", help="Which curve, where there are several.")
@click.option("--direction", type=click.Choice(["max", "min"]), help="By default by the metric's name.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Candidates side by side, in virtual time.")
@click.option("--studies", type=click.IntRange(1), default=200, show_default=True, help="Replayed studies of each stopper.")
@click.option("--tolerance", type=click.FloatRange(0), help="How much worse than the best the winner may be, in units of the metric.")
@click.option("--risk", type=click.FloatRange(0, 0.5), default=0.05, show_default=True, help="Stated risk of a worse winner.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=0.8, show_default=True, help="Part of them a study draws.")
@click.option("--quick", is_flag=True, help=f"At most {QUICK} studies: about two minutes.")
@click.option("--plot", metavar="FILE", help="Draw saving against the rate of loss (.png, .svg or .pdf).")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@click.option("--out", default="stopping", show_default=True, metavar="FOLDER", help="Folder of all stopping studies.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder of all studies.")
@click.option("--plugin", "plugins", multiple=True, help="Python file or module that registers stoppers; repeatable.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output form.")
@click.option("--quiet", is_flag=True, help="No progress.")
def study_stopping(stoppers: Sequence[str], studies: int, quick: bool, plot: str | None, form: str, quiet: bool, **options: Any) -> None:
    """Replay recorded learning curves under any stopper: what it saves, and how often it loses the best.

    Each study is a random share of the trainings in random order. Finished ones are kept, and the same command does only what is missing.

    \b
    archwright study-stopping --curves curves.parquet
    archwright study-stopping --curves my-study              one that was run with --set stopper=null
    archwright study-stopping --curves curves.parquet --stopper risk-bounded --stopper asha:eta=3 --workers 4 --plot stopping.png
    """
    from ..command_line import print_result
    from .api import STOPPER
    from .api import study_stopping as studied
    from .report import report

    if plot is not None and Path(plot).suffix not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"--plot {plot} has no suffix .png, .svg or .pdf; give it one.")
    wanted = list(stoppers) or [STOPPER]
    try:
        found = studied(stoppers=wanted, studies=min(studies, QUICK) if quick else studies, progress=not quiet, **options)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. Nothing is lost: the same command goes on from here.", err=True)
        sys.exit(130)
    assert found.folder is not None
    try:
        written = [found.write(found.folder / "result.json")] + ([found.draw(Path(plot))] if plot else [])
    except OSError as error:
        raise StudyError(f"The result cannot be written ({error.strerror}); choose another --out or --plot.") from None
    print_result(found.to_json() if form == "json" else report(found), form)
    if form == "table":
        click.echo(f"wrote {', '.join(map(str, written))}")
