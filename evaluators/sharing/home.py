"""The pool's own folder: trained once for all candidates, resumed where it stopped, and its audit beside it.

``pool.safetensors`` and ``pool.json`` (cost, losses) when it is trained, ``checkpoint.pt`` before; ``audit/000.json`` ... one
candidate each, ``audit.json`` the verdict. Nothing is unpickled, writing is atomic.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...search_space.architecture import Architecture
from ...search_space.build import build
from ...search_space.cost import cost
from ...search_space.files import write_atomically
from ...search_space.protocols import Job
from ...search_space.seeds import derive_seed, generator
from ...search_space.space import Space
from ..tasks.definition import Task
from ..training.batches import DeviceSplit
from ..training.loop import evaluate, make_loss
from ..training.recipe import Recipe
from .audit import alone_job, trained_alone, verdict
from .pool import Pool
from .pool_training import Plan, PoolTraining, calibrate

CALIBRATION_BATCH = 128


def home_of(job: Job) -> Path:
    """The folder that the candidates of a study share; a job outside a study has it in its own folder."""
    folder = Path(job.folder)
    return (folder.parent.parent if folder.parent.name == "trials" else folder) / "pool"


class SharedPool:
    """A pool with its folder, space and task.

    Args:
        job: of any candidate: seed, task, device and the folder are the study's.
        pool: empty.
        calibration: batches on which batch norms are measured before a score.
        trainer: makes the training of the pool.
    """

    def __init__(
        self,
        job: Job,
        space: Space,
        task: Task,
        plan: Plan,
        pool: Pool,
        *,
        calibration: int = 10,
        trainer: Callable[..., PoolTraining] = PoolTraining,
    ) -> None:
        self.job, self.space, self.task, self.plan, self.pool = job, space, task, plan, pool
        self.calibration, self._trainer = calibration, trainer
        self.device = torch.device(job.device)
        self.folder = home_of(job)
        self.facts: dict[str, Any] = {}
        self._data: tuple[DeviceSplit, DeviceSplit] | None = None

    @property
    def key(self) -> str:
        """Equal exactly for pools that are trained on the same thing in the same way."""
        plugins = [plugin.get("sha256") or plugin.get("module") for plugin in self.job.plugins]
        kind = [self.pool.nested, self.pool.exits, self._trainer.__name__]
        same = [self.space.name, dict(self.space.params), dict(self.job.task), asdict(self.plan), kind, plugins]
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()

    def ready(self) -> None:
        """Load the trained pool; train it first, from its last checkpoint, if it is not there."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not self._loaded():
                self._train()

    def _loaded(self) -> bool:
        from safetensors.torch import load_file

        facts = _read(self.folder / "pool.json")
        if facts is None or facts["key"] != self.key:
            return False
        tensors = load_file(self.folder / "pool.safetensors", device=self.job.device)
        self.pool.load({key: tensors[key] for key in facts["keys"]}, set(facts["spared"]))
        self.facts = facts
        return True

    def _train(self) -> None:
        from safetensors.torch import save

        training = self._trainer(self.pool, self.space, self.task, self.plan, self.device)
        facts = self._resumed(training) or {"key": self.key, "losses": [], "seconds": 0.0}
        while training.done < self.plan.epochs:
            began = time.perf_counter()
            facts["losses"].append(training.run_epoch())
            facts["seconds"] += time.perf_counter() - began
            buffer = io.BytesIO()
            torch.save({"facts": json.dumps(facts), "training": training.state()}, buffer)
            write_atomically(self.folder / "checkpoint.pt", buffer.getvalue())
        self.pool.on_new, self.pool.on_grown = lambda parameter: None, lambda old, new: None
        tensors = {key: value.cpu().contiguous().clone() for key, value in self.pool.state().items()}
        write_atomically(self.folder / "pool.safetensors", save(tensors))
        held = {"keys": list(tensors), "spared": sorted(self.pool.spared()), "params": len(self.pool)}
        self.facts = {**facts, **held, "epochs": self.plan.cost}
        write_atomically(self.folder / "pool.json", json.dumps(self.facts))
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def _resumed(self, training: PoolTraining) -> dict[str, Any] | None:
        try:
            saved = torch.load(self.folder / "checkpoint.pt", map_location=self.device, weights_only=True)
            facts: dict[str, Any] = json.loads(saved["facts"])
            if facts["key"] == self.key:
                training.load(saved["training"])
                return facts
        except Exception:  # damaged bytes can raise anything; whatever it is, the training starts over
            training.load({"done": 0, "pool": {}, "spared": []})
        return None

    # --- scores

    def inherited(self, architecture: Architecture, seed: int) -> tuple[torch.nn.Module, float]:
        """A stand-alone network with the pool's weights and batch norms of its own, and the share of it that the pool trained."""
        network = build(architecture, self.task.input, self.task.output, seed=seed).to(self.device)
        share = self.pool.extract(network, architecture)
        calibrate(network, self._splits[0], CALIBRATION_BATCH, self.calibration, derive_seed(self.plan.seed, "data", "calibration"))
        return network, share

    def metrics(self, network: torch.nn.Module) -> dict[str, float]:
        """Loss and metrics of a network on the validation split."""
        return evaluate(network, self.task, self._splits[1], make_loss(self.task), "val")

    @property
    def _splits(self) -> tuple[DeviceSplit, DeviceSplit]:
        if self._data is None:
            self._data = tuple(DeviceSplit(self.task, split, self.device) for split in (self.task.train, self.task.val))  # type: ignore
        assert self._data is not None
        return self._data

    # --- the audit

    def audited(self, count: int, epochs: int, recipe: Recipe) -> Mapping[str, Any]:
        """The verdict of :func:`verdict` on ``count`` candidates drawn at random, each trained alone for ``epochs``; done once."""
        from filelock import FileLock

        key = f"{self.key}-{count}-{epochs}-{json.dumps(asdict(recipe), sort_keys=True)}"
        with FileLock(self.folder / "lock"):
            found = _read(self.folder / "audit.json")
            if found is None or found["key"] != key:
                rows = [self._row(index, key, epochs, recipe) for index in range(count)]
                found = {"key": key, "epochs": count * epochs, **verdict(rows, seed=self.plan.seed), "rows": rows}
                write_atomically(self.folder / "audit.json", json.dumps(found, indent=1))
        return found

    def _row(self, index: int, key: str, epochs: int, recipe: Recipe) -> dict[str, Any]:
        path = self.folder / "audit" / f"{index:03d}.json"
        row = _read(path)
        if row is None or row["key"] != key:
            row = {"key": key, **self._audit_candidate(index, epochs, recipe)}
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(row))
        return {name: value for name, value in row.items() if name != "key"}

    def _audit_candidate(self, index: int, epochs: int, recipe: Recipe) -> dict[str, Any]:
        """One candidate: its gain (larger is better) with shared weights and trained alone, and its size."""
        architecture, _ = self.space.sample(generator(self.plan.seed, "audit", index))
        objective = self.task.objective
        network, _ = self.inherited(architecture, derive_seed(self.plan.seed, "audit", index))
        shared = self.metrics(network)[objective.metric]
        counted = cost(architecture, self.task.input, self.task.output)
        own = recipe.updated(architecture.training, "The architecture")
        _, metrics = trained_alone(alone_job(self.job, index, architecture.to_json(), epochs), self.task, own)
        return {
            "pool": objective.gain(shared),
            "alone": objective.gain(metrics[objective.metric]),
            "params": counted.params,
            "flops": counted.flops,
            "digest": architecture.digest,
        }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        found["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found
