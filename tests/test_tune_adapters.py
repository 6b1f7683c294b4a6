"""Controllers and stoppers for people who already run Tune."""

import json
import random
from types import SimpleNamespace

import pytest

from archwright.controllers.random_search import RandomSearch
from archwright.evaluators.executors import ray_session
from archwright.search_space.architecture import Architecture
from archwright.search_space.choices import Trace
from archwright.search_space.outcomes import Objective, Outcome, Prediction
from archwright.search_space.protocols import Verdict
from archwright.testing.toys import DYNAMIC, GRID

from .executor_cases import PLUGIN

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]
OBJECTIVES = (Objective("score"),)


class Recording(RandomSearch):
    """Random search that writes down what it hears."""

    def __init__(self, space, seed=0):
        super().__init__(space, OBJECTIVES, seed=seed)
        self.heard = []

    def asked(self, n, trace, note):
        self.heard.append(("asked", n, trace))

    def told(self, n, outcome):
        self.heard.append(("told", n, outcome.status, outcome.twin, dict(outcome.metrics)))


class Impatient:
    """A stopper that ends candidates whose last score is below a bound."""

    def __init__(self, bound):
        self.bound, self.heard, self.scores = bound, [], {}

    def started(self, candidate):
        self.heard.append(("started", candidate.number, candidate.architecture.digest))

    def reported(self, n, report):
        self.heard.append(("reported", n, report.step, dict(report.metrics)))
        self.scores[n] = report.metrics["score"]

    def verdict(self, n):
        return Verdict(self.scores[n] < self.bound, {"score": Prediction(0.5, 0.1)}, "hopeless")

    def told(self, n, outcome):
        self.heard.append(("told", n, outcome.status))


def searcher(controller, **options):
    from archwright.evaluators.tune import TuneSearcher

    return TuneSearcher(controller, objectives=OBJECTIVES, **options)


def scheduler(bound=0.0):
    from archwright.evaluators.tune import TuneScheduler

    return TuneScheduler(Impatient(bound))


def trial(config, recover=False):
    return SimpleNamespace(config=config, should_recover=lambda: recover)


def config_of(number):
    trace = GRID.sample(random.Random(number))[1]
    return {"number": number, "architecture": json.dumps(GRID.replay(trace).to_json()), "trace": json.dumps(trace.to_json())}


def test_a_suggestion_holds_the_number_the_architecture_and_the_trace_as_json():
    suggestion = searcher(Recording(DYNAMIC)).suggest("t0")
    trace = Trace.from_json(json.loads(suggestion["trace"]))
    assert suggestion["number"] == 0
    assert DYNAMIC.replay(trace).digest == Architecture.from_json(suggestion["architecture"]).digest


def test_the_controller_is_told_what_tune_says():
    controller = Recording(DYNAMIC)
    search = searcher(controller)
    for trial_id in "abc":
        search.suggest(trial_id)
    search.on_trial_complete("b", {"score": 0.75, "step": 3, "training_iteration": 3, "pid": 7, "done": True})
    search.on_trial_complete("a", error=True)
    search.on_trial_complete("c", {"score": float("nan"), "step": 3})
    search.on_trial_complete("unknown", {"score": 1.0})
    assert controller.heard[3:] == [
        ("told", 1, "completed", None, {"score": 0.75}),
        ("told", 0, "failed", None, {}),
        ("told", 2, "failed", None, {}),
    ]


def test_no_architecture_is_suggested_twice_and_repeats_are_told_their_twin_s_outcome():
    controller = Recording(GRID)
    search = searcher(controller)
    seen, trial_id = set(), 0
    while (suggestion := search.suggest(str(trial_id))) != "FINISHED":
        digest = Architecture.from_json(suggestion["architecture"]).digest
        assert digest not in seen
        seen.add(digest)
        search.on_trial_complete(str(trial_id), {"score": float(suggestion["number"]), "step": 1})
        trial_id += 1
    assert len(seen) == 16
    told = [event for event in controller.heard if event[0] == "told"]
    assert len(told) == len([event for event in controller.heard if event[0] == "asked"])
    repeats = [event for event in told if event[2] == "duplicate"]
    assert repeats
    assert all(event[4] == {"score": float(event[3])} for event in repeats)


def test_the_repeat_of_a_running_twin_is_told_when_the_twin_ends():
    controller = Recording(GRID)
    search = searcher(controller)
    suggestions = [search.suggest(str(index)) for index in range(12)]
    asked = len([event for event in controller.heard if event[0] == "asked"])
    assert asked > 12
    assert not [event for event in controller.heard if event[0] == "told"]
    for index, suggestion in enumerate(suggestions):
        search.on_trial_complete(str(index), {"score": float(suggestion["number"])})
    told = [event for event in controller.heard if event[0] == "told"]
    assert sorted(event[1] for event in told) == list(range(asked))
    for event in told:
        if event[2] == "duplicate":
            assert told.index(event) > [other[1] for other in told].index(event[3])


def test_a_saved_search_is_restored_by_feeding_its_json(tmp_path):
    first, second = Recording(GRID), Recording(GRID)
    search = searcher(first)
    for index in range(10):
        search.suggest(str(index))
    for index in range(0, 10, 2):
        search.on_trial_complete(str(index), {"score": 1.0 * index})
    search.save(str(tmp_path / "state.json"))
    json.loads((tmp_path / "state.json").read_text())
    other = searcher(second)
    other.restore(str(tmp_path / "state.json"))
    assert second.heard == first.heard
    for step in (search, other):
        step.on_trial_complete("1", {"score": 9.0})
    assert search.suggest("next") == other.suggest("next")
    assert second.heard == first.heard


def test_tune_s_metric_counts_where_no_objective_was_given():
    from archwright.evaluators.tune import TuneSearcher

    plain = TuneSearcher(Recording(GRID))
    assert plain.set_search_properties("loss", "min", {})
    assert (plain.metric, plain.mode) == ("loss", "min")
    given = searcher(Recording(GRID))
    assert given.set_search_properties("loss", "min", {})
    assert (given.metric, given.mode) == ("score", "max")


def test_a_stopper_ends_trials_and_the_controller_hears_that_they_were_stopped():
    schedule = scheduler(bound=0.5)
    controller = Recording(GRID)
    search = searcher(controller, scheduler=schedule)
    good, bad = trial(search.suggest("good")), trial(search.suggest("bad"))
    for item in (good, bad):
        schedule.on_trial_add(None, item)
    assert schedule.on_trial_result(None, good, {"score": 0.9, "step": 1, "pid": 3}) == "CONTINUE"
    assert schedule.on_trial_result(None, bad, {"score": 0.1, "step": 1}) == "STOP"
    for item, name, score in ((bad, "bad", 0.1), (good, "good", 0.95)):
        result = {"score": score, "step": 2 if name == "good" else 1}
        schedule.on_trial_complete(None, item, result)
        search.on_trial_complete(name, result)
    first, second = good.config["number"], bad.config["number"]
    assert [event for event in schedule._stopper.heard if event[0] != "started"] == [
        ("reported", first, 1, {"score": 0.9}),
        ("reported", second, 1, {"score": 0.1}),
        ("told", second, "stopped"),
        ("reported", first, 2, {"score": 0.95}),
        ("told", first, "completed"),
    ]
    told = {event[1]: event[2] for event in controller.heard if event[0] == "told"}
    assert {n: told[n] for n in (first, second)} == {first: "completed", second: "stopped"}


def test_a_restarted_trial_starts_once_and_its_old_steps_are_not_heard_again():
    schedule = scheduler()
    item = trial(config_of(0), recover=True)
    schedule.on_trial_add(None, item)
    for step in (1, 2):
        schedule.on_trial_result(None, item, {"score": 1.0, "step": step})
    schedule.on_trial_error(None, item)
    schedule.on_trial_add(None, item)
    for step in (1, 2, 3):
        schedule.on_trial_result(None, item, {"score": 1.0, "step": step})
    schedule.on_trial_error(None, trial(item.config))
    heard = schedule._stopper.heard
    assert [event[2] for event in heard if event[0] == "reported"] == [1, 2, 3]
    assert [event[0] for event in heard].count("started") == 1
    assert heard[-1] == ("told", 0, "failed")


def test_stopped_outcomes_carry_the_prediction():
    schedule = scheduler(bound=0.5)
    item = trial(config_of(3))
    schedule.on_trial_add(None, item)
    schedule.on_trial_result(None, item, {"score": 0.1, "step": 4})
    assert schedule.stopped[3] == Outcome("stopped", {"score": 0.1}, 4, predicted={"score": Prediction(0.5, 0.1)}, reason="hopeless")


def test_all_three_adapters_in_one_tune_run(tmp_path, monkeypatch):
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_DISABLE_SIGINT_HANDLER"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    assert ray_session.connect(None, cpus=2)
    try:
        _tune_run(tmp_path)
    finally:
        ray_session.disconnect([], grace=0.0, shutdown=True)


def _tune_run(tmp_path):
    from ray import tune

    from archwright.evaluators.tune import EvaluatorTrainable

    schedule, controller = scheduler(bound=1.0), Recording(GRID)
    constants = {"task": {"name": "none"}, "evaluator": {"name": "case-counts"}, "budget": 3, "folder": str(tmp_path / "trials")}
    search = searcher(controller, scheduler=schedule)
    results = tune.Tuner(
        EvaluatorTrainable,
        param_space={**constants, "plugins": [PLUGIN], "threads": 1},
        tune_config=tune.TuneConfig(search_alg=search, scheduler=schedule, num_samples=4, reuse_actors=True, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
    ).fit()
    assert not results.errors
    told = {event[1]: event[2:] for event in controller.heard if event[0] == "told" and event[2] != "duplicate"}
    assert told.pop(0) == ("stopped", None, {"score": 0.0})
    assert len(told) == 3
    assert all(outcome == ("completed", None, {"score": 3.0 * number}) for number, outcome in told.items())
