"""Evaluators that score candidates with shared weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...search_space.choices import Domain, Integer, OneOf
from ...search_space.outcomes import Report
from ...search_space.protocols import Job
from ..errors import EvaluationError
from ..registry import evaluator
from ..trainer import test_metrics

if TYPE_CHECKING:
    from ..training.files import State
    from .home import SharedPool

_COMMON: dict[str, Domain] = {
    "pool_epochs": Integer(1, 1000),
    "paths": Integer(1, 64),
    "calibration": Integer(0, 1000),
    "audit": Integer(0, 1000),
    "audit_epochs": Integer(1, 1000),
}
Named = str | Mapping[str, Any]


@evaluator(
    "weight-sharing",
    knobs={**_COMMON, "sampler": OneOf(("uniform", "fair", "sandwich", "cost"))},
    paper="Single Path One-Shot Neural Architecture Search with Uniform Sampling (2019, arXiv 1904.00420)",
)
def weight_sharing(
    job: Job,
    *,
    space: Named | None = None,
    pool_epochs: int = 20,
    sampler: str = "uniform",
    paths: int = 1,
    calibration: int = 10,
    audit: int = 8,
    audit_epochs: int = 10,
    recipe: Mapping[str, Any] | None = None,
    alone: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Scores candidates with weights that they share, trained once for the whole space.

    Parameters are shared by node name, block and shape. The first candidate of a study trains the pool for ``pool_epochs``: each
    step trains ``paths`` random candidates on one batch. A candidate's first report is its score with the pool's weights, batch
    norms measured anew; each further epoch of the budget trains a copy of its own. Metrics beside the task's:

    ============================================ ===========================================================================
    ``pool_epochs``, ``audit_epochs``            epochs of training spent on the pool and on the audit, once per study
    ``pool_share``                               share of the candidate's parameters that the pool has trained
    ``pool_tau``, ``pool_tau_low``, ``.._high``  Kendall tau of scores and training alone, on the audit's candidates, 95 %
    ``params_tau``, ``flops_tau``                the same of ranking by size
    ============================================ ===========================================================================

    The study's folder holds ``pool/pool.safetensors`` and ``pool/audit.json``. A time limit that ends the first candidate while it
    trains the pool fails that candidate; the next one goes on from the pool's last epoch.

    Args:
        space: the space whose candidates share; a name, or ``{name: ..., params: ...}``. A study gives its own.
        sampler: ``uniform``, ``fair`` (each option of a choice equally often), ``sandwich`` (the largest and the smallest network
            in each step) or ``cost`` (numbers in proportion to their value).
        calibration: batches on which batch norms are measured.
        audit: candidates trained alone to find out how well the scores rank; 0 leaves it out.
        audit_epochs: epochs that each of them trains.
        recipe: changes to the training recipe of the pool (``{batch_size: 64}``).
        alone: changes to the recipe of candidates that train alone: the audit's, and copies.

    Raises:
        EvaluationError: a layer of the space has no name of its own, or a loss is not finite.
    """
    plan = {"epochs": pool_epochs, "sampler": sampler, "paths": paths}
    yield from _scored(job, space, plan, {}, (calibration, audit, audit_epochs), recipe, alone)


@evaluator(
    "sortednet",
    knobs={**_COMMON, "sampler": OneOf(("uniform", "sandwich", "cost"))},
    paper="SortedNet, a Place for Every Network and Every Network in its Place (2023, arXiv 2309.00255)",
)
def sortednet(
    job: Job,
    *,
    space: Named | None = None,
    pool_epochs: int = 20,
    sampler: str = "uniform",
    paths: int = 2,
    calibration: int = 10,
    audit: int = 8,
    audit_epochs: int = 10,
    recipe: Mapping[str, Any] | None = None,
    alone: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Scores candidates with nested weights: a smaller parameter is the prefix of the larger one of the same node.

    ``theta_s = theta[:k_out, :k_in]`` in width, the first layers of a repeat in depth; the norm that closes a stream belongs to
    the depth. Each step accumulates the gradients of ``paths`` candidates. Everything else as in ``weight-sharing``.
    """
    plan = {"epochs": pool_epochs, "sampler": sampler, "paths": paths}
    yield from _scored(job, space, plan, {"nested": True, "exits": True}, (calibration, audit, audit_epochs), recipe, alone)


@evaluator(
    "multi-arch-supernet",
    knobs={
        **{name: domain for name, domain in _COMMON.items() if name != "paths"},
        "examples_per_arch": OneOf((1, 2, 4, 8, 16)),
        "warmup_epochs": Integer(0, 30),
        "rewire": OneOf((True, False)),
    },
    paper="Searching for Efficient Multi-Stage Vision Transformers (2021, arXiv 2109.00642)",
)
def multi_arch_supernet(
    job: Job,
    *,
    space: Named | None = None,
    pool_epochs: int = 20,
    examples_per_arch: int = 4,
    warmup_epochs: int = 0,
    rewire: bool = False,
    calibration: int = 10,
    audit: int = 8,
    audit_epochs: int = 10,
    recipe: Mapping[str, Any] | None = None,
    alone: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Scores candidates with nested weights that were trained many sub-networks at a time, by masks in one pass of the largest.

    For spaces whose networks are the largest one with fewer channels, hidden units, heads of equal width or layers, made of
    attention, linear channel mixers, layer or RMS norm and pre-norm residuals. Each group of ``examples_per_arch`` samples of a
    batch has masks of its own; every option is used equally often. Everything else as in ``weight-sharing``.

    Args:
        warmup_epochs: over these, the options in use of each number grow from the largest alone to all.
        rewire: after the first epoch, sort hidden units and heads by the L1 norm of their weights.

    Raises:
        EvaluationError: the space holds something that cannot be masked; the sentence names it.
    """
    plan = {"epochs": pool_epochs, "examples_per_arch": examples_per_arch, "warmup_epochs": warmup_epochs, "rewire": rewire}
    yield from _scored(job, space, plan, {"nested": True}, (calibration, audit, audit_epochs), recipe, alone)


for _made in (weight_sharing, sortednet, multi_arch_supernet):
    _made.test_metrics = test_metrics  # type: ignore[attr-defined]


def shared_pool(
    job: Job, space: Named | None, plan: Mapping[str, Any], kind: Mapping[str, bool], calibration: int, recipe: Mapping[str, Any] | None
) -> SharedPool:
    """The pool of the job's study, not yet trained or loaded.

    Raises:
        EvaluationError: no space is named, or the recipe has an unknown field.
        RegistryError: no space has this name.
    """
    from ...search_space.space import SPACES
    from ..tasks import load_task
    from ..training.recipe import Recipe
    from .home import SharedPool
    from .masked_training import MaskedPlan, MaskedTraining
    from .pool import Pool
    from .pool_training import Plan, PoolTraining

    if space is None:
        raise EvaluationError(f'The evaluator "{job.evaluator["name"]}" was given no space to share weights in; give it space: NAME.')
    named: dict[str, Any] = {"name": space} if isinstance(space, str) else dict(space)
    task = load_task(job.task)
    found = SPACES[named["name"]].obj.with_params(**named.get("params", {})).for_input(task.input)
    changed = Recipe().updated(recipe or {}, "The recipe of the pool")
    masked = "examples_per_arch" in plan
    made = (MaskedPlan if masked else Plan)(**plan, recipe=changed, seed=job.seed)
    trainer = MaskedTraining if masked else PoolTraining
    return SharedPool(job, found, task, made, Pool(**kind), calibration=calibration, trainer=trainer)


def _scored(
    job: Job,
    space: Named | None,
    plan: Mapping[str, Any],
    kind: Mapping[str, bool],
    checks: tuple[int, int, int],
    recipe: Mapping[str, Any] | None,
    alone: Mapping[str, Any] | None,
) -> Iterator[Report]:
    from ..training.files import taken_up
    from ..training.recipe import Recipe

    saved = yield from taken_up(job)
    if saved.done:
        return
    calibration, audit, audit_epochs = checks
    shared = shared_pool(job, space, plan, kind, calibration, recipe)
    own = Recipe().updated(alone or {}, "The recipe of candidates trained alone")
    yield from _Candidate(job, shared, own, saved).reports(audit, audit_epochs)


class _Candidate:
    """One candidate: scored with the pool's weights, then trained on a copy of them."""

    def __init__(self, job: Job, shared: SharedPool, recipe: Any, saved: State) -> None:
        self.job, self.shared, self.saved = job, shared, saved
        self._recipe = recipe

    def reports(self, audit: int, audit_epochs: int) -> Iterator[Report]:
        import time

        from ...search_space.architecture import Architecture
        from ...search_space.seeds import derive_seed
        from ..training.files import State, job_key, save_checkpoint, save_finished

        job, key, folder = self.job, job_key(self.job), Path(self.job.folder)
        began = time.perf_counter()
        self.shared.ready()
        verdict = self.shared.audited(audit, audit_epochs, self._recipe) if audit else {}
        architecture = Architecture.from_json(job.architecture)
        network, share = self.shared.inherited(architecture, derive_seed(job.seed, "init", job.number))
        facts = {**_facts(verdict), "pool_epochs": float(self.shared.facts["epochs"]), "pool_share": share}
        reports = list(self.saved.reports)
        if not reports:
            metrics = {**self.shared.metrics(network), **facts}
            reports.append(Report(1, metrics, time.perf_counter() - began, job.budget == 1))
        if job.budget == 1:
            save_finished(folder, key, reports, network.state_dict())
            yield reports[0]
            return
        training = self._copy(network, architecture)
        if not self.saved.reports:
            save_checkpoint(folder, key, State(reports, training.state()))
            yield reports[0]
        if self.saved.training is not None:
            training.load(self.saved.training)
        for step in range(len(reports) + 1, job.budget + 1):
            began = time.perf_counter()
            metrics = {**training.run_epoch(step - 1), **facts}
            reports.append(Report(step, metrics, time.perf_counter() - began, step == job.budget))
            if step == job.budget:
                save_finished(folder, key, reports, training.kept.state_dict())
            else:
                save_checkpoint(folder, key, State(reports, training.state()))
            yield reports[-1]

    def _copy(self, network: Any, architecture: Any) -> Any:
        """A training that starts from the inherited weights, its schedule over the epochs that are left."""
        from ..training.loop import Training

        recipe = self._recipe.updated(architecture.training, "The architecture")
        training = Training(replace(self.job, budget=self.job.budget - 1), self.shared.task, recipe, channels_last=True)
        for copy in (training.network, training.kept):
            copy.load_state_dict(network.state_dict())
        return training


def _facts(verdict: Mapping[str, Any]) -> dict[str, float]:
    """What the audit says, as metrics of every candidate."""
    named = {"tau": "pool_tau", "low": "pool_tau_low", "high": "pool_tau_high", "params_tau": "params_tau", "flops_tau": "flops_tau"}
    found = {name: float(verdict[key]) for key, name in named.items() if key in verdict}
    return {**found, **({"audit_epochs": float(verdict["epochs"])} if verdict else {})}
