"""Compressing a residual network on Fashion-MNIST by n2n: how much smaller, how much worse, and what a saved policy saves.

Run ``python studies/benchmarks/n2n.py``; writes ``results/n2n.json``. For each seed a teacher of 174,970 parameters (16, 32 and 64
channels, two basic blocks a stage, stem of stride 2) is trained; at most ``--students`` students are distilled for two epochs on
8,000 images; the one with the best reward among those at least ``--smaller`` times smaller is trained in full, on the labels of
shifted images as its teacher was, and measured on the test split; beside it the teacher trained anew for as long as the winner
(``--no-longer-teachers`` leaves that out). Then a teacher twice as deep is compressed twice, by a new policy and by the one just
learnt, and the students that each needs for the same reward are counted. Every student is a line of ``search.jsonl``: a run that
was stopped goes on there.

Smaller, for a trial: ``--seeds 1 --images 500 --full-images 1000 --teacher-epochs 1 --full-epochs 1 --students 12
--deep-students 10 --removal 1 --shrink 10``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from archwright.controllers.n2n import N2N
from archwright.evaluators.distill import INVALID, n2n_reward
from archwright.evaluators.tasks import load_task
from archwright.evaluators.trainer import test_metrics, train
from archwright.evaluators.training.files import load_weights
from archwright.search_space.architecture import Architecture
from archwright.search_space.choices import Trace, trace_key
from archwright.search_space.cost import cost
from archwright.search_space.files import write_atomically
from archwright.search_space.outcomes import Objective, Outcome
from archwright.search_space.protocols import Job
from archwright.search_space.seeds import derive_seed
from archwright.search_space.spaces.compressed import compressed_space
from archwright.search_space.spaces.resnet import residual_network
from archwright.studies.benchmarks._results import write
from archwright.studies.export import export_network

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "images" / "fashion_mnist.npz"
RECIPE = {"batch_size": 128, "learning_rate": 0.01, "weight_decay": 0.01, "average": 0.2}
FULL = {**RECIPE, "batch_size": 64}  # of winners
TARGETS = {"times_smaller": 10.0, "points_lost": 1.0}
SHALLOW, DEEP = 2, 4  # basic blocks a stage
SHARES = (0.9, 0.95, 0.99)
POLICY = "policy.safetensors"
ASIDE = ("data", "folder", "save", "processes", "longer_teachers")  # settings that decide no figure
LONGER = "longer-teacher.json"


def main() -> None:
    options = _parser().parse_args()
    settings = vars(options)
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    seeds = range(options.seeds)
    unfinished = set(seeds)  # whose policy has not been tried on the deep teacher
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as workers:
        waiting = {workers.submit(compress, settings, seed): seed for seed in seeds}
        if options.deep_students:
            waiting |= {workers.submit(compress_deep, settings, seed, False): seed for seed in seeds}
        while waiting:
            for one in wait(waiting, return_when=FIRST_COMPLETED).done:
                seed = waiting.pop(one)
                print(f"{time.perf_counter() - began:7.0f} s  {one.result()}", flush=True)
                if options.deep_students and seed in unfinished and seed not in waiting.values():
                    unfinished.remove(seed)
                    waiting[workers.submit(compress_deep, settings, seed, True)] = seed
        if options.longer_teachers:
            for line in workers.map(longer_teacher, [settings] * options.seeds, seeds):
                print(f"{time.perf_counter() - began:7.0f} s  {line}", flush=True)
    figures = measured(settings)
    print(json.dumps(figures, indent=1))
    if options.save:
        print(f"written to {write('n2n', figures)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA), help="Fashion-MNIST as .npz (x_train, y_train, x_test, y_test)")
    parser.add_argument("--folder", default="runs/n2n", help="where a stopped run goes on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8_000, help="training images of a student in the search")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a student in the search")
    parser.add_argument("--students", type=int, default=300, help="most students of a search")
    parser.add_argument("--deep-students", type=int, default=80, help="of each search on the deep teacher; 0 leaves it out")
    parser.add_argument("--full-images", type=int, default=57_000, help="training images of teachers and winners")
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--full-epochs", type=int, default=20, help="epochs of the winner")
    parser.add_argument("--no-longer-teachers", dest="longer_teachers", action="store_false", help="train no teacher as long as the winner")
    parser.add_argument("--removal", type=int, default=20, help="updates of the removal stage")
    parser.add_argument("--shrink", type=int, default=40, help="updates of the shrinkage stage")
    parser.add_argument("--lr", type=float, default=0.03, help="learning rate of the policies, which make few updates here")
    parser.add_argument("--stem-stride", type=int, default=2, help="1 keeps the full resolution, at four times the cost")
    parser.add_argument("--smaller", type=float, default=10.0, help="a winner has at most this part of the teacher's parameters")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-save", dest="save", action="store_false", help="print the figures, write no result file")
    return parser


# --- the work, each piece in a process of its own


def compress(settings: dict[str, Any], seed: int) -> str:
    """Teacher, search and winner of one seed."""
    folder = Path(settings["folder"], f"seed-{seed}")
    teacher = trained(settings, folder / "teacher", SHALLOW, seed)
    students = search(settings, folder, teacher, seed, settings["students"])
    row = winner(settings, folder, teacher, students, seed)
    return f"seed {seed}: {row['times_smaller']:.1f} times smaller, {row['points_lost']:.2f} points lost"


def compress_deep(settings: dict[str, Any], seed: int, warm: bool) -> str:
    """The search on the deep teacher, begun with the policy that the shallow one of this seed taught, or with a new one."""
    folder = Path(settings["folder"], f"seed-{seed}")
    deep = trained(settings, folder / "deep-teacher", DEEP, seed)
    policy = str(folder / POLICY) if warm else None
    name = "warm" if warm else "cold"
    students = search(settings, folder / f"deep-{name}", deep, seed, settings["deep_students"], policy)
    return f"seed {seed}, {name} start on the deep teacher: best reward {best(students)['reward']:.4f}"


def trained(settings: dict[str, Any], folder: Path, blocks: int, seed: int) -> Path:
    """The exported teacher in ``folder``, trained if it is not there."""
    _one_thread()
    if (folder / "example.py").exists():
        return folder
    architecture = residual_network(blocks=blocks, stride=settings["stem_stride"])
    run = folder.with_name(f"{folder.name}-training")
    metrics = _in_full(settings, architecture, run, seed, blocks, settings["teacher_epochs"], RECIPE)
    task = load_task(_task(settings, settings["full_images"]))
    sample = ((task.train.x[:2] - task.input_scaling.mean) / task.input_scaling.std).astype("float32") if task.input_scaling else None
    shutil.rmtree(folder, ignore_errors=True)
    return export_network(folder, architecture, task.input, task.output, load_weights(run), sample, facts={"metrics": metrics})


def _in_full(
    settings: dict[str, Any], architecture: Architecture, run: Path, seed: int, number: int, epochs: int, recipe: Mapping[str, Any]
) -> dict[str, float]:
    """The metrics of a network trained on the labels of all images, moved by a pixel at random; goes on where it was stopped."""
    run.mkdir(parents=True, exist_ok=True)
    spec = _task(settings, settings["full_images"], shift=1)
    job = Job(number, architecture.to_json(), spec, {"name": "train"}, seed, epochs, str(run))
    reports = list(train(job, **recipe))
    return {**reports[-1].metrics, **test_metrics(job)}


def search(settings: dict[str, Any], folder: Path, teacher: Path, seed: int, most: int, policy: str | None = None) -> list[dict[str, Any]]:
    """Every student of the search in ``folder``, going on where its file ends; the policy it learnt is beside it."""
    _one_thread()
    folder.mkdir(parents=True, exist_ok=True)
    space = compressed_space(teacher)
    knobs = {"n_removal": settings["removal"], "n_shrink": settings["shrink"], "lr": settings["lr"], "policy": policy}
    controller = N2N(space, [Objective("reward")], seed=seed, **knobs)
    rows = _lines(folder / "search.jsonl")
    twins: dict[bytes, int] = {}
    for row in rows:
        _hear(controller, row)
        twins.setdefault(trace_key(Trace.from_json(row["trace"])), row["n"])
    while sum(row["outcome"]["status"] != "duplicate" for row in rows) < most:
        n = len(rows)
        proposal = controller.ask(n)
        twin = twins.setdefault(trace_key(proposal.trace), n)
        if twin == n:
            outcome, seconds = _evaluated(settings, space.replay(proposal.trace), teacher, folder, seed, n)
        else:
            outcome, seconds = Outcome.from_json(rows[twin]["outcome"]).as_duplicate_of(twin), 0.0
        row = {"n": n, "trace": proposal.trace.to_json(), "note": dict(proposal.note), "outcome": outcome.to_json(), "seconds": seconds}
        with (folder / "search.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        _hear(controller, row)
    controller.save(folder / POLICY)
    return rows


def _hear(controller: N2N, row: dict[str, Any]) -> None:
    controller.asked(row["n"], Trace.from_json(row["trace"]), row["note"])
    controller.told(row["n"], Outcome.from_json(row["outcome"]))


def _evaluated(
    settings: dict[str, Any], student: Architecture, teacher: Path, folder: Path, seed: int, number: int
) -> tuple[Outcome, float]:
    trial = folder / "student"
    shutil.rmtree(trial, ignore_errors=True)
    began = time.process_time()
    job = _job(settings, student, trial, seed, number)
    reports = list(n2n_reward(job, teacher=str(teacher), recipe=RECIPE))
    seconds = time.process_time() - began
    shutil.rmtree(trial)
    return Outcome("completed", reports[-1].metrics, len(reports)), seconds


def _job(settings: dict[str, Any], student: Architecture, trial: Path, seed: int, number: int) -> Job:
    evaluator = {"name": "n2n-reward", "params": {}}
    own = derive_seed(seed, "students")
    return Job(number, student.to_json(), _task(settings, settings["images"]), evaluator, own, settings["epochs"], str(trial))


def longer_teacher(settings: dict[str, Any], seed: int) -> str:
    """The teacher of a seed trained anew as the winner is: what of the winner's accuracy is due to its longer training."""
    _one_thread()
    folder = Path(settings["folder"], f"seed-{seed}")
    architecture = residual_network(blocks=SHALLOW, stride=settings["stem_stride"])
    metrics = _in_full(settings, architecture, folder / "longer-teacher", seed, SHALLOW, settings["full_epochs"], FULL)
    write_atomically(folder / LONGER, json.dumps(metrics, indent=1) + "\n")
    return f"seed {seed}: the teacher trained as long as the winner reaches {metrics['test_accuracy']:.4f}"


def winner(settings: dict[str, Any], folder: Path, teacher: Path, rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The best student that is small enough, trained in full and measured on the test split."""
    path = folder / "winner.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    row = best(rows, 1 - 1 / settings["smaller"])
    architecture = compressed_space(teacher).replay(Trace.from_json(row["trace"]))
    own = derive_seed(seed, "students")
    student = _in_full(settings, architecture, folder / "winner", own, row["n"], settings["full_epochs"], FULL)["test_accuracy"]
    task = load_task(_task(settings, settings["full_images"]))
    known = json.loads((teacher / "architecture.json").read_text())
    whole = cost(Architecture.from_json(known), task.input, task.output)
    small = cost(architecture, task.input, task.output)
    figures = {
        "student": row["n"],
        "stage": row["note"]["stage"],
        "search_reward": row["reward"],
        "params": small.params,
        "flops": small.flops,
        "teacher_params": whole.params,
        "teacher_flops": whole.flops,
        "times_smaller": whole.params / small.params,
        "times_fewer_flops": whole.flops / small.flops,
        "test_accuracy": student,
        "teacher_test_accuracy": known["metrics"]["test_accuracy"],
        "points_lost": 100 * (known["metrics"]["test_accuracy"] - student),
    }
    (folder / "winner-architecture.json").write_text(json.dumps(architecture.to_json(), indent=1) + "\n")
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def best(rows: Sequence[dict[str, Any]], compression: float = 0.0) -> dict[str, Any]:
    """The row with the best reward among those that are small enough, or the smallest where none is; with its ``reward``."""
    known = [{**row, **row["outcome"]["metrics"]} for row in rows if row["outcome"]["metrics"]["reward"] != INVALID]
    small = [row for row in known if row["compression"] >= compression]
    return max(small, key=lambda row: row["reward"]) if small else max(known, key=lambda row: row["compression"])


def _task(settings: dict[str, Any], images: int, shift: int = 0) -> dict[str, Any]:
    params = {"path": settings["data"], "validation": 0.05, "limit_train": images, "shift": shift}
    return {"name": "images", "params": params}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; one that a kill cut short is taken off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


# --- the figures


def measured(settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that the files of the seeds say."""
    folders = [Path(settings["folder"], f"seed-{seed}") for seed in range(settings["seeds"])]
    winners = [json.loads((folder / "winner.json").read_text()) for folder in folders]
    searches = [_lines(folder / "search.jsonl") for folder in folders]
    evaluated = [[row for row in rows if row["outcome"]["status"] != "duplicate"] for rows in searches]
    found = {
        "times_smaller": statistics.fmean(row["times_smaller"] for row in winners),
        "points_lost": statistics.fmean(row["points_lost"] for row in winners),
    }
    longer = [json.loads((folder / LONGER).read_text())["test_accuracy"] for folder in folders] if settings["longer_teachers"] else []
    lost = [100 * (teacher - row["test_accuracy"]) for teacher, row in zip(longer, winners, strict=False)]
    return {
        **found,
        "points_lost_to_a_teacher_trained_as_long": statistics.fmean(lost) if lost else None,
        "reached": found["times_smaller"] >= TARGETS["times_smaller"] and found["points_lost"] <= TARGETS["points_lost"],
        "targets": TARGETS,
        "winners": winners,
        "best_rewards": [best(rows)["reward"] for rows in searches],
        "students": [len(rows) for rows in evaluated],
        "seconds_per_student": statistics.fmean(row["seconds"] for rows in evaluated for row in rows),
        "longer_teachers_test_accuracy": longer,
        "transfer": [_transfer(folder) for folder in folders] if settings["deep_students"] else [],
        "settings": {name: value for name, value in settings.items() if name not in ASIDE},
    }


def _transfer(folder: Path) -> dict[str, Any]:
    """Students needed by a new and by a taught policy for a share of the best reward that the new one found; None: not reached."""
    cold, warm = (_lines(folder / f"deep-{name}" / "search.jsonl") for name in ("cold", "warm"))
    most = best(cold)["reward"]
    needed = {f"{share:g}": [_until(rows, share * most) for rows in (cold, warm)] for share in SHARES}
    return {"best_cold": most, "best_warm": best(warm)["reward"], "students_cold_warm": needed}


def _until(rows: Sequence[dict[str, Any]], reward: float) -> int | None:
    """How many students were distilled until one had this reward."""
    distilled = [row["outcome"]["metrics"]["reward"] for row in rows if row["outcome"]["status"] != "duplicate"]
    return next((count for count, found in enumerate(distilled, 1) if found >= reward), None)


if __name__ == "__main__":
    main()
