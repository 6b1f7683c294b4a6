"""The ``archwright`` command. Everything heavy is imported inside the command that needs it, so that ``--help`` is quick."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..search_space.errors import ArchwrightError, did_you_mean
from .compare.command import compare
from .stopping.command import study_stopping

RUNS = click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder of all studies.")
FORMAT = click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output form.")


class _Commands(click.Group):
    """Commands in the order of a study's life; an unknown one gets the nearest name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f'There is no command "{args[0]}"; {did_you_mean(args[0], self.commands)}')
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="archwright", prog_name="archwright")
def cli() -> None:
    """Search for neural network architectures.

    \b
    archwright run digits                     a first study on real handwritten digits
    archwright run my_study.yaml              your own configuration
    archwright run my_space.py:small --task digits --trials 20
    archwright run token-mixers --data houses.csv --target price
    archwright best --where "params < 5e4 and val_accuracy > 0.97"
    archwright compare random evolution --table nasbench201
    archwright study-stopping --curves curves.parquet
    """


@cli.command()
@click.argument("what")
@click.option("--task", help="Task by name (see: archwright list tasks).")
@click.option("--data", type=click.Path(), help="A CSV, Parquet or .npz file, instead of --task.")
@click.option("--target", help="Target column of --data.")
@click.option("--controller", help="Who chooses next (predictor-guided unless you say): random, evolution, optuna, ...")
@click.option("--trials", type=click.IntRange(1), help="Candidates to evaluate.")
@click.option("--epochs", type=click.IntRange(1), help="Budget of one candidate.")
@click.option("--engine", type=click.Choice(["inline", "ray", "tune"]), help="Where candidates are trained.")
@click.option("--workers", type=click.IntRange(1), help="Candidates side by side (engine ray or tune).")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs per worker; fractions share one.")
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random.")
@click.option("--name", help="Name of the study.")
@click.option("--plugin", "plugins", multiple=True, help="Python file or module that registers blocks, tasks, ...; repeatable.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Any other field, e.g. --set stopper=null; repeatable.")
@click.option("--runs", metavar="FOLDER", help="Folder of all studies.  [default: runs]")
@click.option("--quiet", is_flag=True, help="Print the leaderboard only.")
def run(what: str, settings: Sequence[str], quiet: bool, **options: Any) -> None:
    """Start a study: WHAT is a preset, a YAML file, a space's name, or FILE.py:FUNCTION."""
    from .api import run_study

    given = {key: value for key, value in options.items() if value not in (None, ())}
    fields = _overrides(given) | dict(setting_of(text) for text in settings)
    _finish(run_study(_target(what), quiet=quiet, **fields), quiet)


@cli.command()
@click.argument("study", required=False)
@click.option("--trials", help="New number of trials; +50 adds fifty.")
@click.option("--plugin", "plugins", multiple=True, help="Plug-in that moved since; repeatable.")
@RUNS
@click.option("--quiet", is_flag=True, help="Print the leaderboard only.")
def resume(study: str | None, trials: str | None, plugins: Sequence[str], runs: str, quiet: bool) -> None:
    """Go on with a study that was interrupted, or extend a finished one (the last one touched by default)."""
    from .api import resume_study
    from .records import find_study

    _finish(resume_study(find_study(study, runs), trials=trials, plugins=plugins, quiet=quiet), quiet)


@cli.command()
@click.argument("study", required=False)
@RUNS
@FORMAT
def status(study: str | None, runs: str, form: str) -> None:
    """How far studies are: one in detail, or all in the folder."""
    from .views import status_rows, status_table

    rows = status_rows(study, runs)
    print_result(rows if form == "json" else status_table(rows), form)


@cli.command()
@click.argument("study", required=False)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many.")
@click.option("--where", metavar="CONDITIONS", help='E.g. "params < 5e4 and val_accuracy > 0.97"; metrics and choices.')
@click.option("--uri", help="MLflow server or store; by default the one beside the studies.")
@RUNS
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True, help="Output form.")
def best(study: str | None, top: int, where: str | None, uri: str | None, runs: str, form: str) -> None:
    """The best architectures of a study, answered from MLflow."""
    from .api import best_of
    from .views import best_table, rows_to_csv

    found, order = best_of(study, top=top, where=where, uri=uri, runs=runs)
    if form == "csv":
        click.echo(rows_to_csv(found), nl=False)
    else:
        print_result([row.to_json() for row in found] if form == "json" else best_table(found, order), form)


@cli.command()
@click.argument("study", required=False)
@click.argument("trial", required=False, type=int)
@click.option("--svg", type=click.Path(dir_okay=False), help="Also write the drawing to this file.")
@RUNS
@FORMAT
def show(study: str | None, trial: int | None, svg: str | None, runs: str, form: str) -> None:
    """One architecture: drawing, layers, cost, learning curve (the best trial by default)."""
    from .views import trial_facts, trial_view

    study, trial = _study_and_trial(study, trial)

    facts, architecture = trial_facts(study, trial, runs)
    if svg:
        Path(svg).write_text(architecture.to_svg())
    print_result(facts if form == "json" else trial_view(facts, architecture), form)


@cli.command()
@click.argument("study", required=False)
@click.argument("trial", required=False, type=int)
@click.option("--to", "target", metavar="FOLDER", help="Where to; by default STUDY-TRIAL in this folder.")
@click.option("--onnx", is_flag=True, help="Also write model.onnx.")
@RUNS
def export(study: str | None, trial: int | None, target: str | None, onnx: bool, runs: str) -> None:
    """Write a trained network as a folder that three lines of Python load (the best trial by default)."""
    from .api import export_trial

    study, trial = _study_and_trial(study, trial)

    folder = export_trial(study, trial, target=target, onnx=onnx, runs=runs)
    click.echo(f"wrote {folder}\n\n  import archwright\n  network = archwright.load({str(folder)!r})\n  outputs = network(inputs)\n")
    click.echo(f"Try it: {Path(sys.executable).name} {folder / 'example.py'}")


@cli.command(name="list")
@click.argument("kind", required=False)
@click.option("--plugin", "plugins", multiple=True, help="Plug-in to load first; repeatable.")
@FORMAT
def list_(kind: str | None, plugins: Sequence[str], form: str) -> None:
    """Everything registered: spaces, blocks, residual rules, tasks, controllers, ... with knobs and papers."""
    from .listing import everything, listing_table

    found = everything(plugins, kind)
    print_result(found if form == "json" else listing_table(found), form)


cli.add_command(compare)
cli.add_command(study_stopping)


def main() -> None:
    """Run the command; a user's mistake becomes one sentence and exit status 2."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.UsageError as error:
        hint = f" See: {error.ctx.command_path} --help" if error.ctx else ""
        _fail(error.format_message() + hint)
    except (ArchwrightError, click.ClickException) as error:
        _fail(error.format_message() if isinstance(error, click.ClickException) else str(error))
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted. Nothing is lost: archwright resume goes on from here.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(sentence: str) -> None:
    click.echo(f"archwright: {' '.join(sentence.split())}", err=True)
    sys.exit(2)


def _target(what: str) -> dict[str, Any] | str:
    """A space reference or a space's name stands for a configuration of that space; the rest is a preset or a file."""
    if ".py:" in what:
        return {"space": what, "task": "digits"}
    from .config import presets

    if what in presets() or what.endswith((".yaml", ".yml")) or Path(what).exists():
        return what
    from ..search_space.space import SPACES

    if what in SPACES:
        return {"space": what, "task": "digits"}
    cure = did_you_mean(what, [*presets(), *SPACES])
    raise click.UsageError(f'"{what}" is no preset, no YAML file and no space; {cure}')


def _study_and_trial(study: str | None, trial: int | None) -> tuple[str | None, int | None]:
    """A number alone means a trial of the study touched last."""
    if study is not None and study.isdigit() and trial is None:
        return None, int(study)
    return study, trial


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    """Configuration fields from command-line options."""
    fields = {("folder" if key == "runs" else key): value for key, value in options.items() if key not in ("data", "target")}
    if "plugins" in fields:
        fields["plugins"] = list(fields["plugins"])
    if "data" in options:
        if "task" in options:
            raise click.UsageError("--task and --data exclude each other; give the data file, or a task by name.")
        fields["task"] = _data_task(options["data"], options.get("target"))
    elif "target" in options:
        raise click.UsageError("--target names a column of --data; give the data file too.")
    return fields


def _data_task(data: str, target: str | None) -> dict[str, Any]:
    path = str(Path(data).absolute())
    if data.endswith(".npz"):
        return {"name": "images", "path": path}
    if target is None:
        raise click.UsageError(f"--data {data} needs --target, the column to predict.")
    return {"name": "table", "path": path, "target": target}


def setting_of(text: str) -> tuple[str, Any]:
    """``FIELD=VALUE``, the value read as YAML."""
    import yaml

    key, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError(f"--set {text} has no value; write --set {text}=VALUE.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise click.UsageError(f"The value in --set {text} is not valid YAML; quote it.") from None


def _finish(result: Any, quiet: bool) -> None:
    from .views import study_summary

    print_result(study_summary(result, quiet), "table")


def print_result(what: Any, form: str) -> None:
    """Show JSON values, or something that rich renders."""
    if form == "json":
        click.echo(json.dumps(what, indent=2))
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    Console(width=width, soft_wrap=False, highlight=False).print(what)
