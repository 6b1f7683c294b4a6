"""MLflow as a follower: each evaluated trial once, whatever was cut off; queries answered from it."""

import pytest

from archwright.search_space.errors import StudyError
from archwright.studies.query import Condition, best_trials, parse_where
from archwright.studies.tracking import MlflowTracker, connect, default_uri, runs_of

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


def events(n, accuracy, status="completed", mixer="gru", params=1000.0):
    width = {"path": "width", "value": 32, "options": [32, 64]}
    trace = [width, {"path": "layer/0/mixer", "value": mixer, "options": ["gru", "attention"]}]
    yield {"event": "asked", "n": n, "trace": trace, "digest": f"a1:{n}", "known": {"params": params}, "note": {}}
    if status == "duplicate":
        outcome = {"status": status, "metrics": {"val_accuracy": accuracy}, "steps": 0, "seconds": 0, "twin": 0}
        yield {"event": "told", "n": n, "outcome": outcome}
        return
    for step in (1, 2):
        metrics = {"val_accuracy": accuracy - 0.1 * (2 - step)}
        yield {"event": "report", "n": n, "step": step, "metrics": metrics, "seconds": 0.1, "last": step == 2}
    outcome = {"status": status, "metrics": {"params": params, "val_accuracy": accuracy}, "steps": 2, "seconds": 0.2}
    if status == "stopped":
        outcome["predicted"] = {"val_accuracy": {"mean": 0.75, "spread": 0.02}}
    yield {"event": "told", "n": n, "outcome": outcome}


STORY = [
    *events(0, 0.8),
    *events(1, 0.9, mixer="attention", params=9000.0),
    *events(2, 0.8, "duplicate"),
    *events(3, 0.6, "stopped"),
    *events(4, 0.7),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database made once: creating MLflow's tables takes seconds."""
    folder = tmp_path_factory.mktemp("runs")
    connect(default_uri(folder))
    return folder


def tracker_of(store, identity):
    folder = store / "s"
    return MlflowTracker("s", identity, folder, default_uri(store), store / "artifacts", {"seed": 3, "task": {"name": "digits"}})


def trials_in(store, identity):
    client = connect(default_uri(store))
    experiment = client.get_experiment_by_name("s").experiment_id
    runs = runs_of(client, [experiment], f"tags.`archwright.study` = 's@{identity}' and tags.`archwright.role` = 'trial'")
    return sorted((int(run.data.tags["archwright.trial"]), run.info.status) for run in runs)


def test_every_evaluated_trial_is_one_run(store):
    tracker = tracker_of(store, "once")
    for event in STORY:
        tracker.heard(event)
    tracker.close()
    assert tracker.error is None
    assert trials_in(store, "once") == [(0, "FINISHED"), (1, "FINISHED"), (3, "KILLED"), (4, "FINISHED")]


@pytest.mark.parametrize("cut", range(1, len(STORY), 3))
def test_a_cut_anywhere_loses_and_doubles_nothing(store, cut):
    first = tracker_of(store, f"cut{cut}")
    for event in STORY[:cut]:
        first.heard(event)
    first._put(None)
    first._thread.join()  # the process dies here: nothing is closed
    again = tracker_of(store, f"cut{cut}")
    for event in STORY:
        again.heard(event)
    again.close()
    assert [n for n, _ in trials_in(store, f"cut{cut}")] == [0, 1, 3, 4]


def test_a_run_that_was_being_written_is_written_anew(store):
    tracker = tracker_of(store, "torn")
    half = {"archwright.study": "s@torn", "archwright.trial": "0", "archwright.role": "trial"}
    tracker._client.create_run(tracker._experiment, tags=half)
    tracker.close()
    again = tracker_of(store, "torn")
    for event in STORY:
        again.heard(event)
    again.close()
    assert trials_in(store, "torn")[0] == (0, "FINISHED")
    assert len(trials_in(store, "torn")) == 4


def test_curves_predictions_and_choices_are_recorded(store):
    tracker = tracker_of(store, "facts")
    for event in STORY:
        tracker.heard(event)
    tracker.close()
    run = tracker._client.get_run(tracker._done[3])
    assert run.data.params["layer/0/mixer"] == "gru"
    assert run.data.metrics["predicted_val_accuracy"] == 0.75
    history = tracker._client.get_metric_history(tracker._done[3], "val_accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.6)]
    assert tracker._client.get_run(tracker._parent).data.params["task.name"] == "digits"


def test_winners_get_their_test_metrics_and_artifacts_once(store):
    trial = store / "s" / "trials" / "0001"
    trial.mkdir(parents=True, exist_ok=True)
    (trial / "architecture.json").write_text("{}")
    tested = {"event": "tested", "n": 1, "metrics": {"test_accuracy": 0.88}}
    for _ in range(2):
        tracker = tracker_of(store, "tested")
        for event in [*STORY, tested]:
            tracker.heard(event)
        tracker.close()
        assert tracker.error is None
    run = tracker._done[1]
    assert len(tracker._client.get_metric_history(run, "test_accuracy")) == 1
    assert [item.path for item in tracker._client.list_artifacts(run)] == ["architecture.json"]


def test_a_broken_store_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="cannot be opened"):
        connect(f"sqlite:///{tmp_path}")


@pytest.fixture(scope="module")
def asked(store):
    tracker = tracker_of(store, "asked")
    for event in STORY:
        tracker.heard(event)
    tracker.close()
    return lambda **options: best_trials("s", [("val_accuracy", "max")], identity="asked", uri=default_uri(store), **options)


def test_best_first_and_completed_only(asked):
    assert [row.trial for row in asked()] == [1, 0, 4]
    assert [row.trial for row in asked(top=1)] == [1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("params < 5e3", [0, 4]),
        ("params < 5e3 and val_accuracy > 0.75", [0]),
        ("layer/0/mixer = 'attention'", [1]),
        ("layer/0/mixer != 'attention'", [0, 4]),
        ("width >= 32 and params <= 1000", [0, 4]),
        ("val_accuracy > 0.99", []),
    ],
)
def test_where(asked, where, expected):
    assert [row.trial for row in asked(where=where)] == expected


def test_an_unknown_name_in_a_condition_suggests_the_nearest(asked):
    with pytest.raises(StudyError, match='"val_acuracy"; did you mean "val_accuracy"'):
        asked(where="val_acuracy > 0.5")


@pytest.mark.parametrize("text", ["params", "params <", "params ~ 3", "params < 3 or params > 9", "params < abc"])
def test_conditions_that_are_not_understood(text):
    with pytest.raises(StudyError):
        parse_where(text)


def test_conditions_are_read_as_written():
    assert parse_where('params<5e4 AND kind == "a b"') == [Condition("params", "<", 5e4), Condition("kind", "=", "a b")]
