"""The configuration: the same fields in YAML and Python, and one clear sentence for every fault."""

from __future__ import annotations

import os

import pytest
import yaml

from archwright.search_space.errors import ConfigError
from archwright.search_space.outcomes import Objective
from archwright.studies.config import Bounds, StudyConfig, load_config, make_config, presets

MINIMAL = {"space": "token-mixers", "task": "digits"}


def from_text(tmp_path, text: str) -> StudyConfig:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_config(path)


def test_yaml_and_python_give_the_same(tmp_path):
    text = "space: token-mixers\ntask: {name: digits}\ncontroller: {name: evolution, population: 20}\ntrials: 7\n"
    fields = {**MINIMAL, "controller": {"name": "evolution", "params": {"population": 20}}, "trials": 7}
    assert from_text(tmp_path, text) == make_config(fields) == load_config(fields)


def test_written_with_defaults_it_reads_back_the_same(tmp_path):
    config = make_config({**MINIMAL, "constraints": {"params": "<= 1e5"}, "objectives": ["val_accuracy", "-params"]})
    text = yaml.safe_dump(config.to_json())
    assert "stopper" in text
    assert from_text(tmp_path, text) == config


def test_overrides_win():
    assert load_config(MINIMAL, trials=3, seed=9).trials == 3
    assert load_config(make_config(MINIMAL), trials=3) == load_config(MINIMAL, trials=3)


@pytest.mark.parametrize(("given", "objective"), [("val_accuracy", Objective("val_accuracy")), ("-val_rmse", Objective("val_rmse", "min"))])
def test_objectives_as_words(given, objective):
    for objectives in (given, [given], {"metric": objective.metric, "direction": objective.direction}):
        assert [o.objective() for o in make_config({**MINIMAL, "objectives": objectives}).objectives] == [objective]


@pytest.mark.parametrize("given", ["<= 1e5", "<=100000", {"max": 1e5}])
def test_bounds_as_words(given):
    bounds = make_config({**MINIMAL, "constraints": {"params": given}}).constraints["params"]
    assert bounds == Bounds(max=1e5)
    assert bounds.broken_by("params", 100_000) is None
    assert bounds.broken_by("params", 100_001) == "params 100001 is above 100000"


def test_a_value_that_is_not_a_number_breaks_every_bound():
    assert Bounds(max=1.0).broken_by("latency", float("nan")) is not None


def test_a_study_that_trains_has_the_stopper_that_fits_its_objectives():
    assert make_config(MINIMAL).stopper.name == "predictive-termination"
    assert make_config({**MINIMAL, "stopper": None}).stopper is None
    assert make_config({**MINIMAL, "objectives": ["val_accuracy", "-params"]}).stopper.name == "pareto"
    assert make_config({**MINIMAL, "evaluator": "instant"}).stopper is None
    assert (
        make_config({**MINIMAL, "evaluator": {"name": "ghn2-warm-start", "start": "ghn.safetensors"}}).stopper.name
        == "predictive-termination"
    )


def test_threads_default_to_each_workers_share(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert make_config(MINIMAL).threads == 8
    ray = make_config({**MINIMAL, "engine": "ray"})
    assert (ray.workers, ray.threads) == (8, 1)
    assert make_config({**MINIMAL, "engine": "ray", "workers": 2}).threads == 4


@pytest.mark.parametrize("text", ["tracking: off", "tracking: {off: true}", "tracking: 'off'"])
def test_tracking_off_in_every_spelling(tmp_path, text):
    assert from_text(tmp_path, f"space: a\n{text}\n").tracking.off


def test_yaml_numbers_with_an_exponent_are_numbers(tmp_path):
    config = from_text(tmp_path, "space: a\nconstraints: {params: {max: 1e5}}\ncontroller: {name: b, rate: 2e-3}\n")
    assert config.controller.params == {"rate": 0.002}
    assert config.constraints["params"].max == 1e5


def test_files_beside_the_yaml_are_found_there(tmp_path):
    (tmp_path / "mine.py").write_text("")
    config = from_text(tmp_path, "space: mine.py:make\nplugins: [mine.py, a_module]\n")
    assert config.space.name == f"{(tmp_path / 'mine.py').resolve()}:make"
    assert config.plugins == (str((tmp_path / "mine.py").resolve()), "a_module")


WRONG = [
    ("contoller: evolution\nspace: a\n", 'The field "contoller" in study.yaml, line 1 is unknown; did you mean "controller"?'),
    ("spaces: a\n", 'The field "spaces" in study.yaml, line 1 is unknown; did you mean "space"?'),
    ("task: digits\n", 'The field "space" is missing in study.yaml; it must be given.'),
    ("space: a\ntrials: many\n", "The field \"trials\" in study.yaml, line 2 must be a whole number. Got 'many' instead."),
    ("space: a\ntrials: 2.5\n", 'The field "trials" in study.yaml, line 2 must be a whole number. Got 2.5 instead.'),
    ("space: a\ntrials: true\n", 'The field "trials" in study.yaml, line 2 must be a whole number. Got True instead.'),
    ("space: a\n\ntrials: 0\n", 'The field "trials" in study.yaml, line 3 must be 1 or more. Got 0 instead.'),
    ("space: a\ngpus: -1\n", 'The field "gpus" in study.yaml, line 2 must be 0 or more. Got -1 instead.'),
    ("space: a\nengine: spark\n", "The field \"engine\" in study.yaml, line 2 must be 'inline', 'ray' or 'tune'. Got 'spark' instead."),
    ("space: [a]\n", "The field \"space\" in study.yaml, line 1 must be a name, or a mapping with a name. Got ['a'] instead."),
    ("space: a\nray: {adress: x}\n", 'The field "ray.adress" in study.yaml, line 2 is unknown; did you mean "address"?'),
    ("space: a\nobjectives:\n  - metric: x\n    direction: up\n", "line 4 must be 'max' or 'min'. Got 'up' instead."),
    ("space: a\nconstraints: {params: 5}\n", 'must be a bound like "<= 1e5" or {max: 1e5}. Got 5 instead.'),
    ("space: a\nconstraints: {params: '> 1'}\n", "must be a bound like"),
    ("space: a\nmeasure: 5\n", 'The field "measure" in study.yaml, line 2 must be'),
    ("space: a\nname: a/b\n", 'The field "name" in study.yaml, line 2 must be a folder\'s name'),
    ("space: a\nworkers: 4\n", "do not fit together: the study needs workers: 1 with engine: inline, or engine: ray for workers: 4."),
    ("space: a\nspace: b\n", 'The field "space" stands twice in study.yaml, line 2; keep one.'),
    ("space: [a\ntask: b\n", "is not valid YAML"),
    ("space: a\n  task: b\n", "line 2"),
    ("- a\n- b\n", "it must be fields such as"),
    ("", "it must be fields such as"),
    ("!!python/object/apply:os.system ['true']\n", "is not valid YAML"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_fault_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_in_python_is_one_sentence():
    with pytest.raises(ConfigError, match='The field "trails" in the configuration is unknown; did you mean "trials"?'):
        load_config(MINIMAL, trails=3)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(ConfigError, match="There is no preset and no file"):
        load_config("digitz")


def test_a_folder_is_not_a_configuration(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name):
    assert load_config(name).space.name


def test_the_data_file_of_a_task_is_found_beside_the_yaml_and_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "houses.csv").write_text("a,b\n")
    path = str((tmp_path / "houses.csv").resolve())
    assert from_text(tmp_path, "space: a\ntask: {name: table, path: houses.csv, target: b}\n").task.params == {"path": path, "target": "b"}
    monkeypatch.chdir(tmp_path)
    assert load_config({"space": "a", "task": {"name": "table", "params": {"path": "houses.csv"}}}).task.params["path"] == path


def test_files_named_in_python_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config({"space": "mine.py:make"}).space.name == f"{tmp_path / 'mine.py'}:make"
