"""How well shared weights rank networks: cells of convolutions on Fashion-MNIST, against the same networks trained alone.

Run ``python studies/benchmarks/weight_sharing.py``; writes ``results/weight_sharing.json``. Measured: Kendall tau of the scores
with shared weights against training alone, with its bootstrap interval, beside the tau of parameters and of FLOPs; the noise of
training alone (some candidates twice, with another seed); and what a search that trains the pool and its favourites alone loses
against training every candidate, on test data, with the share of the cost in epochs. The folder keeps one JSON file per candidate
and the pool's checkpoint, so that a run that was stopped goes on where it stood.

Smaller, for a trial: ``--images 2000 --epochs 3 --candidates 8 --twice 2 --pool-epochs 6``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from archwright.evaluators.sharing.audit import RESAMPLES, trained_alone, verdict
from archwright.evaluators.sharing.evaluator import shared_pool
from archwright.evaluators.sharing.home import SharedPool
from archwright.evaluators.tasks import load_task
from archwright.evaluators.training.loop import evaluate_split
from archwright.evaluators.training.recipe import Recipe
from archwright.search_space.architecture import Architecture
from archwright.search_space.cost import cost
from archwright.search_space.files import write_atomically
from archwright.search_space.protocols import Job
from archwright.search_space.seeds import derive_seed, generator
from archwright.studies.benchmarks._results import write

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "images" / "fashion_mnist.npz"
SPACE = {"name": "conv-cells", "params": {"channels": 8, "stages": 2, "cells": 1}}
POOL_RECIPE = {"batch_size": 128, "learning_rate": 0.01, "weight_decay": 0.01}
ALONE_RECIPE = {"batch_size": 128, "learning_rate": 0.01, "weight_decay": 0.01}
TARGETS = {"tau": 0.5, "points_lost": 0.5, "share_of_cost": 0.2}


def main() -> None:
    options = _parser().parse_args()
    settings = vars(options)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as workers:
        waiting = [workers.submit(train_pool, settings)]
        waiting += [workers.submit(train_candidate, settings, number, 0) for number in range(options.candidates)]
        waiting += [workers.submit(train_candidate, settings, number, 1) for number in range(options.twice)]
        for done in as_completed(waiting):
            print(f"{time.perf_counter() - began:7.0f} s  {done.result()}", flush=True)
    figures = measured(settings)
    print(figures["summary"])
    print(json.dumps({name: value for name, value in figures.items() if name != "networks"}, indent=1))
    if options.save:
        print(f"written to {write('weight_sharing', figures)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA), help="Fashion-MNIST as .npz (x_train, y_train, x_test, y_test)")
    parser.add_argument("--folder", default="runs/weight-sharing", help="where a stopped run goes on")
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a candidate alone")
    parser.add_argument("--candidates", type=int, default=30, help="networks trained alone")
    parser.add_argument("--twice", type=int, default=5, help="of them trained again with another seed")
    parser.add_argument("--pool-epochs", type=int, default=40, help="epochs of the pool, one path per step")
    parser.add_argument("--sampler", default="uniform", choices=("uniform", "fair"))
    parser.add_argument("--finalists", type=int, default=2, help="favourites of the pool that the search trains alone")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-save", dest="save", action="store_false", help="print the figures, write no result file")
    return parser


# --- the work, each piece in a process of its own


def train_pool(settings: dict[str, Any]) -> str:
    """Train the pool, or find it trained, and score every candidate with it."""
    pool = _pool(settings)
    pool.ready()
    path = Path(settings["folder"], "scores.json")
    found = json.loads(path.read_text()) if path.exists() else {}
    scores = found["scores"] if found.get("key") == pool.key else []
    for number in range(len(scores), settings["candidates"]):
        architecture = _architecture(pool, settings, number)
        began = time.process_time()
        network, _ = pool.inherited(architecture, derive_seed(settings["seed"], "init", number))
        scores.append({**pool.metrics(network), "seconds": time.process_time() - began})
        write_atomically(path, json.dumps({"key": pool.key, "pool_seconds": pool.facts["seconds"], "scores": scores}))
    return f"pool of {pool.facts['params']:,} parameters, {pool.facts['epochs']} epochs, last loss {pool.facts['losses'][-1]:.3f}"


def train_candidate(settings: dict[str, Any], number: int, repeat: int) -> str:
    """Train one candidate alone, unless its file is there."""
    path = _path(settings, number, repeat)
    name = f"candidate {number}{' again' if repeat else ''}"
    if path.exists():
        return f"{name} was there"
    pool = _pool(settings)
    architecture = _architecture(pool, settings, number)
    began = time.process_time()
    seed = derive_seed(settings["seed"], "alone", repeat)
    job = Job(number, architecture.to_json(), pool.job.task, {"name": "train"}, seed, settings["epochs"], "")
    training, metrics = trained_alone(job, pool.task, Recipe(**ALONE_RECIPE))
    seconds = time.process_time() - began
    test = evaluate_split(job, pool.task, pool.task.test, training.kept.state_dict(), "test")
    counted = cost(architecture, pool.task.input, pool.task.output)
    row = {**metrics, **test, "params": counted.params, "flops": counted.flops, "seconds": seconds, "digest": architecture.digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(row))
    return f"{name}: val_accuracy {metrics['val_accuracy']:.4f}, {counted.params:,} parameters, {seconds:.0f} s"


def _pool(settings: dict[str, Any]) -> SharedPool:
    import torch

    torch.set_num_threads(1)
    task = {"name": "images", "params": {"path": settings["data"], "limit_train": settings["images"]}}
    plan = {"epochs": settings["pool_epochs"], "paths": 1, "sampler": settings["sampler"]}
    job = Job(0, {}, task, {"name": "weight-sharing"}, settings["seed"], 1, settings["folder"])
    load_task(task)
    return shared_pool(job, SPACE, plan, {}, 20, POOL_RECIPE)


def _architecture(pool: SharedPool, settings: dict[str, Any], number: int) -> Architecture:
    """Candidate ``number``: the next network, drawn at random, that is no repeat of an earlier one."""
    seen: list[Architecture] = []
    turn = 0
    while len(seen) <= number:
        drawn, _ = pool.space.sample(generator(settings["seed"], "candidate", turn))
        turn += 1
        if all(drawn.digest != other.digest for other in seen):
            seen.append(drawn)
    return seen[number]


def _path(settings: dict[str, Any], number: int, repeat: int) -> Path:
    return Path(settings["folder"], f"alone-{settings['images']}-{settings['epochs']}-{settings['seed']}", f"{number:03d}-{repeat}.json")


# --- the figures


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything the candidates' files say."""
    found = json.loads(Path(settings["folder"], "scores.json").read_text())
    scores = found["scores"][: settings["candidates"]]
    rows = [json.loads(_path(settings, number, 0).read_text()) for number in range(settings["candidates"])]
    again = [json.loads(_path(settings, number, 1).read_text()) for number in range(settings["twice"])]
    networks = [
        {
            "pool": score["val_accuracy"],
            "alone": row["val_accuracy"],
            "test": row["test_accuracy"],
            "params": row["params"],
            "flops": row["flops"],
        }
        for score, row in zip(scores, rows, strict=True)
    ]
    return {
        **verdict(networks, seed=settings["seed"]),
        "targets": TARGETS,
        "settings": {name: value for name, value in settings.items() if name not in ("data", "folder", "save", "processes")},
        "resamples": RESAMPLES,
        **_search(networks, settings),
        "seed_noise_points": 100 * statistics.fmean(abs(a["val_accuracy"] - b["val_accuracy"]) for a, b in zip(again, rows, strict=False))
        if again
        else None,
        "seconds_pool": found["pool_seconds"],
        "seconds_per_score": statistics.fmean(score["seconds"] for score in scores),
        "seconds_per_candidate": statistics.fmean(row["seconds"] for row in rows),
        "networks": networks,
    }


def _search(networks: list[dict[str, float]], settings: dict[str, Any]) -> dict[str, float]:
    """What is lost by training only the pool and its favourites, and what it costs, in epochs of one network."""
    favourites = sorted(networks, key=lambda network: -network["pool"])[: settings["finalists"]]
    found = max(favourites, key=lambda network: network["alone"])
    best = max(networks, key=lambda network: network["alone"])
    spent = settings["pool_epochs"] + len(favourites) * settings["epochs"]
    every = len(networks) * settings["epochs"]
    return {
        "found_test_accuracy": found["test"],
        "best_test_accuracy": best["test"],
        "points_lost": 100 * (best["test"] - found["test"]),
        "points_lost_validation": 100 * (best["alone"] - found["alone"]),
        "epochs_spent": spent,
        "epochs_of_training_all": every,
        "share_of_cost": spent / every,
    }


if __name__ == "__main__":
    main()
