"""From names in a configuration to the things they name, all of them made ready before anything starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..search_space.architecture import Architecture
from ..search_space.choices import Trace
from ..search_space.errors import ArchwrightError, ConfigError, did_you_mean
from ..search_space.outcomes import Objective
from ..search_space.plugins import describe, load_plugin, resolve
from ..search_space.protocols import Controller, Job, Stopper
from ..search_space.registry import Entry, Registry
from ..search_space.seeds import generator
from ..search_space.space import SPACES, Space
from .config import TRAINERS, Bounds, Named, StudyConfig
from .on_table import OWN_SPACE, table_constraints, table_measure, table_objectives, table_of
from .seeding import start_traces
from .warm_start import START, Starter, starter

Measure = Callable[[Architecture], dict[str, float]]
PROBES = 5


@dataclass
class Parts:
    """What a study is driven with.

    Args:
        space: bound to the task's input.
        objectives: in order of importance.
        controller: who chooses next.
        stopper: who ends hopeless candidates; None for nobody.
        seed: the study's seed.
        measure: metrics of an architecture known before training.
        constraints: bounds of such metrics.
        template: a job with everything that all candidates share.
        test: metrics of a trained candidate on the test split; None where the evaluator has none.
        starts: traces to evaluate before the controller is asked.
        starter: writes the predicted initial weights of a candidate; None where they are drawn or given.
    """

    space: Space
    objectives: tuple[Objective, ...]
    controller: Controller
    stopper: Stopper | None = None
    seed: int = 0
    measure: Measure = lambda architecture: {}
    constraints: Mapping[str, Bounds] = field(default_factory=dict)
    template: Mapping[str, Any] = field(default_factory=dict)
    test: Callable[[Job], Mapping[str, float]] | None = None
    starts: tuple[Trace, ...] = ()
    starter: Starter | None = None

    def job(self, number: int, architecture: Mapping[str, Any], folder: str, reported: int = 0) -> Job:
        return Job(number=number, architecture=architecture, folder=folder, reported=reported, seed=self.seed, **self.template)

    def broken_constraint(self, known: Mapping[str, float]) -> str | None:
        """The sentence for the first constraint that ``known`` breaks."""
        for metric, bounds in self.constraints.items():
            broken = bounds.broken_by(metric, known[metric]) if metric in known else f"{metric} is not known for this candidate"
            if broken is not None:
                return broken
        return None


def assemble(config: StudyConfig) -> Parts:
    """Everything the configuration names.

    Raises:
        ArchwrightError: one sentence for whatever is unknown, does not fit together or cannot be imported.
    """
    modules = _Modules()
    for plugin in config.plugins:
        modules.add(load_plugin(plugin))
    given = None if config.space.name == OWN_SPACE else _space(config.space, modules)  # its file may register the evaluator
    evaluator = _evaluator(config, config.task is not None, modules)
    table = table_of(evaluator, config.evaluator.params)
    space = given if given is not None else table.space if table is not None else _space(config.space, modules)
    task, task_spec = _task(config, modules)
    if task is not None:
        space = space.for_input(task.input)
    if config.prior:
        space = space.with_prior(config.prior)
    objectives = _objectives(config, task) if table is None else table_objectives(table, config)
    begin = _starter(config, evaluator, task)
    device = _device(config)
    measure = _measurer(config, task, objectives, evaluator, device) if table is None else table_measure(table, config)
    _probe(space, measure, config.seed)
    return Parts(
        space=space,
        objectives=objectives,
        controller=_controller(config, space, objectives, measure, modules),
        stopper=_stopper(config, objectives, modules),
        seed=config.seed,
        measure=measure,
        constraints=config.constraints if table is None else table_constraints(table, config, objectives),
        template={
            "task": task_spec,
            "evaluator": {"name": evaluator.name, "params": _evaluator_params(config, evaluator, space, begin)},
            "budget": config.epochs,
            "plugins": modules.described,
            "threads": config.threads,
            "device": device,
        },
        test=_tester(evaluator, task),
        starts=start_traces(space, config.start, config.seed),
        starter=begin,
    )


def plugin_facts(parts: Parts) -> list[dict[str, str]]:
    """Path and hash of every user file, for the journal; the text itself travels with the jobs only."""
    return [{key: value for key, value in plugin.items() if key != "source"} for plugin in parts.template.get("plugins", ())]


class _Modules:
    """The user's modules, each described once."""

    def __init__(self) -> None:
        self.described: list[dict[str, str]] = []

    def add(self, module: Any) -> None:
        described = describe(module)
        if described not in self.described:
            self.described.append(described)


def _entry(registry: Registry, named: Named, modules: _Modules) -> Entry:
    """The entry called ``named.name``, or the one that ``file.py:object`` registers."""
    if ":" not in named.name:
        return registry[named.name]
    obj, module = resolve(named.name)
    modules.add(module)
    for name in registry:
        if registry[name].obj is obj:
            return registry[name]
    raise ConfigError(f'"{named.name}" is not registered as a {registry.kind}; decorate it with @{registry.kind}(...).')


def _space(named: Named, modules: _Modules) -> Space:
    if ":" in named.name:
        found, module = resolve(named.name)
        modules.add(module)
        if not isinstance(found, Space) and not callable(found):
            raise ConfigError(f'"{named.name}" is {type(found).__name__}; a space is a function from choices to an architecture.')
        space = found if isinstance(found, Space) else Space(named.name.rpartition(":")[2].replace("_", "-"), found)
    else:
        space = SPACES[named.name].obj
    return space.with_params(**named.params) if named.params else space


def _task(config: StudyConfig, modules: _Modules) -> tuple[Any, dict[str, Any]]:
    if config.task is None:
        return None, {}
    from ..evaluators.tasks import TASKS, load_task

    entry = _entry(TASKS, config.task, modules)
    _check_keywords("task", entry, config.task.params, 0)
    spec = {"name": entry.name, "params": config.task.params}
    return load_task(spec), spec


def _objectives(config: StudyConfig, task: Any) -> tuple[Objective, ...]:
    if config.objectives:
        return tuple(objective.objective() for objective in config.objectives)
    if task is None:
        raise ConfigError("The study has no objectives and no task to take them from; give objectives, such as [val_accuracy].")
    return (task.objective,)


def _evaluator(config: StudyConfig, has_task: bool, modules: _Modules) -> Entry:
    from ..evaluators.registry import EVALUATORS

    entry = _entry(EVALUATORS, config.evaluator, modules)
    _check_keywords("evaluator", entry, config.evaluator.params, 1)
    if entry.name in (*TRAINERS, "proxy") and not has_task:
        raise ConfigError(f'The evaluator "{entry.name}" needs a task; give one, such as "task: digits" (archwright list tasks).')
    return entry


def _starter(config: StudyConfig, evaluator: Entry, task: Any) -> Starter | None:
    """What writes each candidate's initial weights, where the trainer is given a hypernetwork to start from."""
    file = config.evaluator.params.get("start") if evaluator.name in TRAINERS else None
    return None if file is None else starter(file, task, config.seed)


def _evaluator_params(config: StudyConfig, evaluator: Entry, space: Space, begin: Starter | None) -> dict[str, Any]:
    """The evaluator's parameters; one that shares weights over a whole space is told which, one whose candidates start from
    predicted weights where they lie in the trial's folder."""
    given = dict(config.evaluator.params) | ({} if begin is None else {"start": START})
    if "space" in inspect.signature(evaluator.obj).parameters:
        if space.name not in SPACES:
            raise ConfigError(f'The evaluator "{evaluator.name}" needs a registered space; decorate "{space.name}" with @space.')
        given.setdefault("space", {"name": space.name, "params": dict(space.params)})
    return given


def _controller(config: StudyConfig, space: Space, objectives: Sequence[Objective], measure: Measure, modules: _Modules) -> Controller:
    from ..controllers.registry import CONTROLLERS

    entry = _entry(CONTROLLERS, config.controller, modules)
    handed: dict[str, Any] = {"seed": config.seed, "measure": measure, "constraints": config.constraints}
    for keyword in (*handed, "excess"):
        if keyword in config.controller.params:
            raise ConfigError(f'The controller "{entry.name}" has no knob "{keyword}"; the study hands it over.')
    return _made("controller", lambda: equipped_controller(entry, space, objectives, **handed, **config.controller.params), entry.name)


def equipped_controller(
    name: str | Entry,
    space: Space,
    objectives: Sequence[Objective],
    *,
    seed: int,
    measure: Measure | None = None,
    constraints: Mapping[str, Bounds] | None = None,
    **knobs: Any,
) -> Controller:
    """The controller registered as ``name``, or the one of an entry, handed what it asks for by keyword.

    A controller with a keyword ``predictor`` gets a function ``predictor(seed=...)``; which one is that keyword's default (a
    registered name), or the knob ``predictor``: a name, or ``{name: ..., **knobs of the predictor}``. One with ``measure`` gets
    the metrics of an architecture known before training, one with ``excess`` how far such metrics break the constraints.

    Raises:
        RegistryError: no controller or predictor has this name.
        ConfigError: a knob is unknown or its value outside its domain.
    """
    from ..controllers.registry import CONTROLLERS, check_knobs

    entry = name if isinstance(name, Entry) else CONTROLLERS[name]
    taken = inspect.signature(entry.obj).parameters
    handed: dict[str, Any] = {"measure": measure, "excess": partial(_excess, constraints or {})}
    if "predictor" in taken:
        knobs = {**knobs, "predictor": _predictor(knobs.get("predictor", taken["predictor"].default))}
    check_knobs(entry, knobs)
    return entry.obj(space, tuple(objectives), seed=seed, **knobs, **{key: given for key, given in handed.items() if key in taken})


def _excess(constraints: Mapping[str, Bounds], known: Mapping[str, float]) -> float:
    """By how much ``known`` breaks the constraints in all, each relative to its bound; 1 for a metric that is not known."""
    return sum(bounds.excess(known[metric]) if metric in known else 1.0 for metric, bounds in constraints.items())


def _predictor(given: Any) -> Callable[..., Any]:
    from ..predictors.registry import PREDICTORS

    if callable(given):
        return given
    named = Named.model_validate(given)
    entry = PREDICTORS[named.name]
    _check_keywords("predictor", entry, named.params, 0)
    return partial(entry.obj, **named.params)


def _stopper(config: StudyConfig, objectives: Sequence[Objective], modules: _Modules) -> Stopper | None:
    if config.stopper is None:
        return None
    from ..predictors.registry import PREDICTORS, STOPPERS

    entry, knobs = _entry(STOPPERS, config.stopper, modules), dict(config.stopper.params)
    if config.predictor is not None:
        knobs["predictor"] = _entry(PREDICTORS, config.predictor, modules).name
    return made_stopper(entry, objectives, seed=config.seed, budget=config.epochs, trials=config.trials, **knobs)


def made_stopper(entry: Entry, objectives: Sequence[Objective], *, seed: int, budget: int, trials: int, **knobs: Any) -> Stopper:
    """The stopper of an entry for a study of ``trials`` candidates of ``budget`` units each.

    Raises:
        ConfigError: a knob is unknown or its value outside its domain.
    """
    _check_keywords("stopper", entry, knobs, 1)
    return _made("stopper", lambda: entry.obj(tuple(objectives), seed=seed, budget=budget, trials=trials, **knobs), entry.name)


def _made(kind: str, make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except ArchwrightError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f'The {kind} "{name}" cannot be made with these knobs: {error}.') from error


def _check_keywords(kind: str, entry: Entry, given: Mapping[str, Any], skipped: int) -> None:
    """Raise unless the entry's factory takes every keyword given (its first ``skipped`` arguments aside) and its knobs the values."""
    for name, value in given.items():
        if name in entry.knobs and not entry.knobs[name].permits(value):
            domain = entry.knobs[name]
            raise ConfigError(f'The parameter "{name}" of the {kind} "{entry.name}" was given {value!r}, which {domain} does not permit.')
    taken = list(inspect.signature(entry.obj).parameters.values())[skipped:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return
    names = [parameter.name for parameter in taken if parameter.name not in ("seed", "budget", "trials")]
    for name in given:
        if name not in names:
            cure = did_you_mean(name, names) if names else "it has none."
            raise ConfigError(f'The {kind} "{entry.name}" has no parameter "{name}"; {cure}')
    missing = [parameter.name for parameter in taken if parameter.default is parameter.empty and parameter.name in set(names) - set(given)]
    if missing:
        raise ConfigError(f'The {kind} "{entry.name}" needs "{missing[0]}"; write {kind}: {{name: {entry.name}, {missing[0]}: ...}}.')


def _device(config: StudyConfig) -> str:
    if config.gpus == 0:
        return "cpu"
    if config.ray.address is None:
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"The study asks for gpus: {config.gpus:g}, but this machine has no CUDA device; set gpus: 0.")
    return "cuda"


def _measurer(config: StudyConfig, task: Any, objectives: Sequence[Objective], evaluator: Entry, device: str) -> Measure:
    """What is measured of every candidate before training, the objectives that the evaluator itself reports left out.

    Raises:
        ConfigError: a metric is not known before training, needs a task that is not given, or the latency table cannot be read.
    """
    from ..evaluators.known import LATENCY, check_known, known_metrics, known_names

    for metric in config.constraints:
        check_known(metric, "constraints")
    for metric in config.measure:
        check_known(metric, "measure")
    known = set(known_names()) - set(_reported(evaluator, config.evaluator.params))
    needed = [*config.constraints, *(o.metric for o in objectives if o.metric in known)]
    if task is None:
        if needed:
            raise ConfigError(f'"{needed[0]}" is measured on a task\'s input; give a task.')
        return lambda architecture: {}
    names = list(dict.fromkeys([*config.measure, *needed]))
    latencies = None
    if config.latency_table is not None:
        from ..evaluators.latency_table import LatencyTable

        latencies = LatencyTable.load(config.latency_table)
        if LATENCY not in names:
            raise ConfigError('A latency table is given, but nothing asks for "latency"; write measure: [params, flops, latency].')
    return lambda architecture: known_metrics(architecture, task, names, seed=config.seed, device=device, latencies=latencies)


def _reported(evaluator: Entry, params: Mapping[str, Any]) -> Sequence[str]:
    """Metrics known before training that the evaluator reports itself."""
    find = getattr(evaluator.obj, "reported_metrics", None)
    return () if find is None else find(params)


def _probe(space: Space, measure: Measure, seed: int) -> None:
    """Run the space a few times, so that a mistake in it is found before the study begins."""
    fault: Exception | None = None
    for number in range(PROBES):
        try:
            architecture, trace = space.sample(generator(seed, "probe", number))
            architecture.digest  # noqa: B018  a block that nobody registered is found here
        except ArchwrightError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}{line_in(error)}"
            raise ConfigError(f'The space "{space.name}" failed on a trial run: {reason}.') from error
        if not trace:
            raise ConfigError(f'The space "{space.name}" asks no question, so there is nothing to search; use choose.one_of.')
        try:
            measure(architecture)
            return
        except ArchwrightError as error:
            fault = error
        except Exception as error:
            fault = ConfigError(f"{type(error).__name__}: {error}{line_in(error)}")
    raise ConfigError(f'None of {PROBES} samples of the space "{space.name}" can be built for this task; the last one: {fault}')


def line_in(error: BaseException) -> str:
    """Where in the user's own file an error rose."""
    where, trace = "", error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("archwright_user_"):
            where = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return where


def _tester(evaluator: Entry, task: Any) -> Callable[[Job], Mapping[str, float]] | None:
    if evaluator.name != "train" or task is None:
        return getattr(evaluator.obj, "test_metrics", None)
    from ..evaluators.trainer import test_metrics

    return test_metrics
