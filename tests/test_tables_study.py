"""Studies on a table of one's own: its space, its objectives, its bounds, and what is said when they do not fit."""

from __future__ import annotations

from itertools import product

import pandas
import pytest

from archwright.search_space.errors import ConfigError, RegistryError
from archwright.studies.config import load_config
from archwright.studies.launch import resume, run
from archwright.studies.parts import assemble

ROWS = list(product(["gru", "mlp", "gla", "attention"], [1, 2, 3, 4, 5]))
FRAME = pandas.DataFrame(
    {
        "mixer": [mixer for mixer, _ in ROWS],
        "depth": [depth for _, depth in ROWS],
        "accuracy": [len(mixer) + depth / 10 for mixer, depth in ROWS],
        "params": [None if (mixer, depth) == ("gru", 1) else 100.0 * depth for mixer, depth in ROWS],
        "test_accuracy": [len(mixer) + depth / 10 - 0.5 for mixer, depth in ROWS],
    }
)


@pytest.fixture
def fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_parquet(tmp_path / "own.parquet")
    return {
        "space": "table",
        "evaluator": {"name": "table", "table": "own.parquet", "objectives": "accuracy", "known": "params", "test": "test_accuracy"},
        "controller": "random",
        "trials": 8,
        "tracking": "off",
    }


def test_space_and_objectives_are_the_tables_own(fields):
    parts = assemble(load_config(fields))
    assert parts.space.name == "own"
    assert [objective.metric for objective in parts.objectives] == ["accuracy"]


def test_a_study_runs_resumes_and_tests_its_winners_from_another_folder(fields, tmp_path, monkeypatch):
    result = run(fields, folder=str(tmp_path / "runs"), name="own")
    assert result.counts["completed"] == 8
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = resume(tmp_path / "runs" / "own", trials=20)
    assert result.counts["completed"] == 20
    (best,) = result.best(1)
    assert (best["accuracy"], best["test_accuracy"], best["params"]) == (9.5, 9.0, 500.0)


def test_candidates_that_were_looked_up_have_no_weights_to_export(fields, tmp_path):
    from archwright.search_space.errors import StudyError
    from archwright.studies.api import export_trial
    from archwright.studies.views import study_summary

    fields.pop("space")  # the table's own, where nothing else is said
    result = run(fields, folder=str(tmp_path / "runs"), name="own")
    with pytest.raises(StudyError, match="were looked up, not trained"):
        export_trial("own", target=tmp_path / "out", runs=tmp_path / "runs")
    text = "\n".join(str(part) for part in study_summary(result).renderables)
    assert "archwright show" in text
    assert "export" not in text
    assert "saved" not in text


def test_a_bound_on_what_is_known_rejects_without_an_evaluation(fields):
    result = run(fields, trials=4, constraints={"params": "<= 200"})
    assert all(row["params"] <= 200 for row in result.leaderboard())
    assert result.counts["infeasible"] > 0


def test_a_known_objective_that_is_missing_makes_its_network_infeasible(fields):
    result = run(fields, trials=19, objectives=["accuracy", "-params"])
    assert result.counts["completed"] == 19
    assert result.counts["infeasible"] >= 1
    assert {row["params"] for row in result.pareto()} <= {100.0, 200.0, 300.0, 400.0, 500.0}


BAD = {
    "objective": ({"objectives": ["acuracy"]}, ConfigError, 'no metric "acuracy"; did you mean "accuracy"'),
    "test split": ({"objectives": ["test_accuracy"]}, ConfigError, 'no metric "test_accuracy"'),
    "bound": ({"constraints": {"flops": "<= 1"}}, ConfigError, 'constraint on "flops".*knows params before training'),
    "space": ({"space": "nasbench-macro"}, ConfigError, 'another space; search the space "own"'),
    "table": ({"evaluator": {"name": "table", "table": "nasbench202"}}, RegistryError, 'did you mean "nasbench201"'),
    "no table": ({"evaluator": "table"}, ConfigError, "needs the name of a table"),
    "parameter": ({"evaluator": {"name": "table", "table": "nasbench201", "datset": "cifar10"}}, ConfigError, 'did you mean "dataset"'),
    "file": ({"evaluator": {"name": "table", "table": "none.parquet"}}, ConfigError, '"none.parquet" is not in'),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_said_before_anything_starts(fields, case, tmp_path):
    changed, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        run({**fields, **changed})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
