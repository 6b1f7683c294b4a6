"""Training from predicted weights: epochs to a given accuracy on networks that the hypernetwork never saw.

Run ``python studies/benchmarks/warm_start.py``; about 30 minutes on one core, writes ``results/warm_start.json``. A hypernetwork
is trained over ``conv-cells`` (8 channels, two stages of one cell) on 6,000 images of Fashion-MNIST; then held-out networks are
trained twice with one recipe and one seed, from weights drawn as usual and from predicted ones. An accuracy is *given* as a share of the
best that the same network reaches from drawn weights within its epochs. The cost of the hypernetwork stands beside what it saves.
Every training is a line of ``curves.jsonl`` in the folder: a run that was stopped goes on there.

Smaller, for a trial: ``--task digits --steps 200 --architectures 60 --held-out 6``.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archwright.evaluators.tasks import Task, load_task
from archwright.evaluators.trainer import train
from archwright.predictors.hypernetwork.candidates import score
from archwright.predictors.hypernetwork.files import load_hypernetwork
from archwright.predictors.hypernetwork.training import Plan
from archwright.search_space.architecture import Architecture
from archwright.search_space.protocols import Job
from archwright.search_space.space import SPACES, Space
from archwright.studies.benchmarks._results import write
from archwright.studies.warm_start import START, different, progress_line, starter, train_over

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "images" / "fashion_mnist.npz"
RECIPE = {"batch_size": 64, "learning_rate": 0.01, "weight_decay": 0.01, "average": 0.2}
SHARES = (0.9, 0.95, 0.98)
STARTS = ("drawn", "predicted")
SCORED = 500  # validation samples of the score without training

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    settings = vars(options)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = trained_rows(settings, folder)
    figures = {**measured(rows, options.epochs), **_cost(folder), "settings": _kept(settings)}
    print(json.dumps({name: value for name, value in figures.items() if name != "curves"}, indent=1))
    if options.save:
        print(f"written to {write('warm_start', figures)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("fashion", "digits"), default="fashion")
    parser.add_argument("--data", default=str(DATA), help="Fashion-MNIST as .npz (x_train, y_train, x_test, y_test)")
    parser.add_argument("--folder", default="runs/warm-start", help="where a stopped run goes on")
    parser.add_argument("--images", type=int, default=6_000, help="training images of Fashion-MNIST")
    parser.add_argument("--architectures", type=int, default=200, help="networks that the hypernetwork learns from")
    parser.add_argument("--steps", type=int, default=1000, help="of the hypernetwork")
    parser.add_argument("--meta-batch", type=int, default=8, help="networks per step")
    parser.add_argument("--held-out", type=int, default=12, help="networks trained from both starts")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", dest="save", action="store_false", help="print the figures, write no result file")
    return parser


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("data", "folder", "save")}


# --- the work


def trained_rows(settings: Mapping[str, Any], folder: Path) -> list[Row]:
    """Every training of the held-out networks, those of an earlier run read back."""
    import torch

    torch.set_num_threads(1)
    task_spec = _task(settings)
    task = load_task(task_spec)
    space = SPACES["conv-cells"].obj.with_params(channels=8, stages=2, cells=1).for_input(task.input)
    hypernetwork = trained_file(settings, folder, space, task_spec)
    networks = different(space, settings["architectures"] + settings["held_out"], settings["seed"])[settings["architectures"] :]
    path = folder / "curves.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    done = {(row["network"], row["start"]) for row in rows}
    for number, architecture in enumerate(networks):
        for start in STARTS:
            if (number, start) not in done:
                rows.append(_trained(settings, folder, (task, task_spec), hypernetwork, (number, architecture), start))
                with path.open("a") as file:
                    file.write(f"{json.dumps(rows[-1])}\n")
                print(f"network {number}, {start}: {' '.join(f'{value:.3f}' for value in rows[-1]['curve'])}", flush=True)
    return rows


def trained_file(settings: Mapping[str, Any], folder: Path, space: Space, task: dict[str, Any]) -> Path:
    """The trained hypernetwork in the folder; its cost is written beside it."""
    path = folder / "hypernetwork.safetensors"
    if not path.exists():
        began = time.process_time()
        plan = Plan(steps=settings["steps"], meta_batch=settings["meta_batch"])
        said = progress_line(plan.steps)
        train_over(space, task, path, architectures=settings["architectures"], plan=plan, seed=settings["seed"], progress=said)
        (folder / "cost.json").write_text(json.dumps({"hypernetwork_seconds": time.process_time() - began}))
    return path


def _trained(
    settings: Mapping[str, Any],
    folder: Path,
    task: tuple[Task, dict[str, Any]],
    hypernetwork: Path,
    candidate: tuple[int, Architecture],
    start: str,
) -> Row:
    """One training, from ``drawn`` or ``predicted`` weights, as a study does it."""
    number, architecture = candidate
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir()
    begun: dict[str, Any] = {}
    row: Row = {"network": number, "start": start}
    if start == "predicted":
        write_start = starter(str(hypernetwork), task[0], settings["seed"])
        assert write_start is not None
        write_start(number, architecture, trial / START)
        begun = {"start": START}
        row["untrained"] = _untrained(hypernetwork, architecture, task[0])
    began = time.process_time()
    job = Job(number, architecture.to_json(), task[1], {"name": "train"}, settings["seed"], settings["epochs"], str(trial))
    row["curve"] = [report.metrics["val_accuracy"] for report in train(job, **RECIPE, **begun)]  # type: ignore[arg-type]
    row["seconds"] = time.process_time() - began
    shutil.rmtree(trial)
    return row


def _untrained(hypernetwork: Path, architecture: Architecture, task: Task) -> float:
    """Validation accuracy at the predicted weights, without any training."""
    import torch

    from archwright.studies.warm_start import scaled

    x, y = scaled(task, task.val.x[:SCORED]), torch.as_tensor(task.val.y[:SCORED])
    return score(load_hypernetwork(hypernetwork), architecture, x, y)["accuracy"]


def _task(settings: Mapping[str, Any]) -> dict[str, Any]:
    if settings["task"] == "digits":
        return {"name": "digits", "params": {}}
    return {"name": "images", "params": {"path": settings["data"], "limit_train": settings["images"]}}


def _cost(folder: Path) -> dict[str, Any]:
    path = folder / "cost.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


# --- the figures


def measured(rows: Sequence[Row], epochs: int) -> dict[str, Any]:
    """Mean curves of both starts, and the epochs that each needs for a share of the best accuracy from drawn weights.

    A start that does not reach it within its epochs counts one epoch more than there are; ``reached`` is the share that does.
    """
    curves = {start: {row["network"]: row["curve"] for row in rows if row["start"] == start} for start in STARTS}
    both = sorted(set(curves["drawn"]) & set(curves["predicted"]))
    found: dict[str, Any] = {"networks": len(both)}
    found["curves"] = {start: [[round(value, 4) for value in curves[start][number]] for number in both] for start in STARTS}
    found["mean_curve"] = {
        start: [round(statistics.fmean(values), 4) for values in zip(*found["curves"][start], strict=True)] for start in STARTS
    }
    found["untrained_accuracy"] = statistics.fmean(row["untrained"] for row in rows if "untrained" in row)
    for share in SHARES:
        needed = {start: [epochs_to(curves[start][n], share * max(curves["drawn"][n])) for n in both] for start in STARTS}
        found[f"epochs_to_{share:g}"] = {start: statistics.fmean(min(e, epochs + 1) for e in needed[start]) for start in STARTS}
        found[f"reached_{share:g}"] = {start: statistics.fmean(e <= epochs for e in needed[start]) for start in STARTS}
    last = [curves["predicted"][n][-1] - curves["drawn"][n][-1] for n in both]
    found["final_difference"] = statistics.fmean(last)
    found["final_difference_error"] = statistics.stdev(last) / math.sqrt(len(last)) if len(last) > 1 else None
    found["seconds_per_training"] = statistics.fmean(row["seconds"] for row in rows)
    return found


def epochs_to(curve: Sequence[float], accuracy: float) -> float:
    """The first epoch, from 1, at which ``curve`` is at least ``accuracy``; infinite where it never is."""
    return next((float(epoch) for epoch, value in enumerate(curve, start=1) if value >= accuracy), math.inf)


if __name__ == "__main__":
    main()
