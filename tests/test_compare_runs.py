"""Runs of a comparison: kept, resumed, spread over processes, lost only where a controller raises."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import archwright
from archwright.search_space.errors import ArchwrightError, ConfigError, StudyError
from archwright.search_space.plugins import load_plugin
from archwright.search_space.seeds import generator
from archwright.studies.compare.contender import contender
from archwright.studies.compare.setting import setting
from archwright.studies.compare.sources import sources_of
from archwright.studies.compare.worker import CHANGED, Task, prepared, request
from archwright.studies.processes import serve, spread

FILE = Path(__file__).with_name("compare_toys.py")
TOYS = load_plugin(str(FILE))
QUIET = {"progress": False, "budget": 12}


def compare(controllers, folder, *, seeds=3, **more):
    """In processes of their own, for a table that has a name; in this one with ``table=TOYS.toy()``."""
    return archwright.compare(controllers, seeds=seeds, out=folder, plugins=[str(FILE)], **{**QUIET, "table": "toy-60", **more})


def here(controllers, folder, **more):
    return compare(controllers, folder, **{"table": TOYS.toy(), **more})


def files(folder):
    """Relative path of each run on file, with the time it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("[0-9]*.json")}


def facts(found):
    """All of a comparison but clocks."""
    data = found.to_json()
    for item in data["controllers"]:
        del item["ms_per_ask"]
    del data["date"]
    return data


def test_a_second_call_runs_only_what_is_missing(tmp_path):
    here(["random"], tmp_path)
    first = files(tmp_path)
    assert len(first) == 3
    found = here(["random", "evolution:population=5"], tmp_path, seeds=5)
    second = files(tmp_path)
    assert len(second) == 10
    assert {name: second[name] for name in first} == first
    assert [len(item.runs) for item in found.summaries] == [5, 5]
    here(["evolution:population=5"], tmp_path, seeds=5)
    assert files(tmp_path) == second


def test_the_number_of_jobs_changes_nothing_and_prints_are_no_answers(tmp_path):
    names = ["random", "evolution:population=5", f"{FILE}:Drawn:says='{{}}'"]
    more = {"workers": 3, "objectives": ["score", "cost"]}
    one = compare(names, tmp_path / "one", jobs=1, **more)
    two = compare(names, tmp_path / "two", jobs=2, **more)
    in_this_process = here(names, tmp_path / "here", **more)
    assert facts(one) == facts(two) == facts(in_this_process)
    assert "time" in one.curves["random"]
    assert [len(item.runs) for item in one.summaries] == [3, 3, 3]


def test_a_class_itself(tmp_path):
    assert here([TOYS.Drawn], tmp_path)["Drawn"].finals() == here([f"{FILE}:Drawn"], tmp_path)[f"{FILE}:Drawn"].finals()


def test_a_damaged_file_is_done_again(tmp_path):
    found = here(["random"], tmp_path)
    path = next(tmp_path.rglob("1.json"))
    path.write_text(path.read_text()[:100])
    again = here(["random"], tmp_path)
    assert facts(again) == facts(found)
    assert json.loads(path.read_text())["seed"] == 1


def test_a_changed_file_of_the_user_is_another_controller(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(FILE.read_text().replace('@table("toy-60', '@table("mine').replace('@stopper("toy', '@stopper("mine'))
    first = contender(f"{mine}:Drawn")
    before = first.folder
    assert contender(f"{mine}:Drawn").folder == before
    assert contender(f"{mine}:Drawn:wait=1").folder != before
    mine.write_text(mine.read_text() + "\n# another thought\n")
    assert contender(f"{mine}:Drawn").folder != before
    assert first.folder == before


def test_the_key_of_a_controller_holds_the_modules_it_is_made_of():
    from archwright.controllers.evolution import RegularizedEvolution

    hashed = sources_of(RegularizedEvolution)
    assert "archwright.controllers.evolution" in hashed
    assert not any(name.endswith(".registry") for name in hashed)
    from archwright.controllers.optuna_search import OptunaSearch

    assert "archwright.controllers.optuna_storage" in sources_of(OptunaSearch)
    assert contender("evolution:population=16").key != contender("evolution:population=17").key


def test_settings_are_kept_apart():
    table = {"table": "toy-60", "budget": 10}
    names = {
        setting(**table).folder,
        setting(**table, params={"shift": 1.0}).folder,
        setting(**table, objectives=["loss:min"]).folder,
        setting(**table, objectives=["loss:max"]).folder,
        setting(**{**table, "budget": 11}).folder,
        setting(**table, workers=2).folder,
        setting(table="toy-60-curves", budget=10).folder,
        setting(table="toy-60-curves", budget=10, stopper="toy-cut").folder,
        setting(table="toy-60-curves", budget=10, stopper="toy-cut:below=3").folder,
    }
    assert len(names) == 9
    assert setting(**table).folder == setting(TOYS.toy(), budget=10).folder
    assert setting(**table).folder == setting(**table, params={"data": "elsewhere"}).folder


def test_a_controller_that_raises_loses_that_run_alone(tmp_path):
    bad = f"{FILE}:Drawn:raises_at=5,on_seed=1"
    found = here(["random", bad], tmp_path)
    assert list(found["random"].finals()) == [0, 1, 2]
    assert list(found[bad].finals()) == [0, 2]
    (sentence,) = found.failures
    assert sentence.startswith(f'The controller "{bad}" failed with seed 1: ')
    assert "out of ideas" in sentence
    assert "compare_toys.py, line" in sentence
    assert {pair.seeds for pair in found.pairs} == {2}


def test_a_controller_that_never_works_is_one_sentence(tmp_path):
    bad = f"{FILE}:Drawn:raises_at=0"
    found = here([bad, "random"], tmp_path)
    assert [item.label for item in found.summaries] == ["random", bad]
    assert "seed 0 (the first of 3 such runs)" in found.failures[0]
    assert found.pairs == []


def test_a_process_that_dies_is_replaced(tmp_path):
    bad = f"{FILE}:Drawn:dies_at=4"
    found = compare([bad, "random"], tmp_path, seeds=2, jobs=1)
    assert list(found["random"].finals()) == [0, 1]
    assert "ended with exit status 3" in found.failures[0]


def test_code_that_changed_on_the_way_is_not_run(tmp_path):
    asked = request(setting("toy-60", budget=2), [contender("random"), contender("evolution")], [str(FILE)])
    asked["contenders"][1][2] = "another"
    tasks = [{"contender": number, "seed": 0, "path": str(tmp_path / f"{number}.json")} for number in (0, 1)]
    answers = io.StringIO()
    lines = ({**asked, "path": sys.path}, *tasks)
    serve(prepared, io.StringIO("".join(json.dumps(line) + "\n" for line in lines)), answers)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [{"ready": True}, {"error": None}, {"error": CHANGED}]
    assert os.listdir(tmp_path) == ["0.json"]


def test_a_process_that_cannot_begin_is_an_error_at_once(tmp_path, capfd):
    asked = request(setting("toy-60", budget=2), [contender("random")], [])
    with pytest.raises(StudyError, match="before its first run"):
        spread([Task(0, 0, tmp_path / "0.json")], prepared.__module__, asked, 1, lambda task, answer: None)
    assert "toy-60" in capfd.readouterr().err


def test_a_kill_in_the_middle_leaves_whole_files(tmp_path):
    slow = f"{FILE}:Drawn:wait=0.02"
    words = ["compare", slow, "--table", "toy-60", "--plugin", str(FILE), "--seeds", "4000", "--budget", "12", "--jobs", "2", "--quiet"]
    command = [sys.executable, "-m", "archwright", *words, "--out", str(tmp_path)]
    for number in (signal.SIGKILL, signal.SIGINT):
        before = len(files(tmp_path))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(files(tmp_path)) < before + 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert before + 3 <= len(files(tmp_path)) < 4000
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "Nothing is lost" in said
    kept = files(tmp_path)
    seeds = sorted(int(Path(name).stem) for name in kept)
    for name in kept:
        assert len(json.loads((tmp_path / name).read_text())["race"]["evaluations"]["at"]) == 12
    found = here([slow], tmp_path, seeds=seeds)
    assert files(tmp_path).keys() == kept.keys()
    assert len(found.summaries[0].runs) == len(kept)


def test_a_stopper_saves_time_and_its_promises_are_no_results(tmp_path):
    table = TOYS.toy_curves()
    full = here(["random"], tmp_path, table=table).summaries[0]
    cut = here(["random"], tmp_path, table=table, stopper="toy-cut")
    assert cut.curves["random"].keys() == {"evaluations", "time"}
    for whole, stopped in zip(full.runs, cut.summaries[0].runs, strict=True):
        assert stopped.at[-1] < whole.at[-1]
        assert stopped.scores[-1] <= 10.0
        assert stopped.scores[-1] == whole.scores[-1]


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = here(["random"], None)
    assert found.folder is None
    assert os.listdir(tmp_path) == []


def test_knobs_are_yaml_and_may_hold_commas():
    from archwright.studies.compare.contender import name_and_knobs

    name, knobs = name_and_knobs("x:a=1e-3,b=[1, 2],c={name: y, z: 1},d=true")
    assert (name, knobs) == ("x", {"a": 1e-3, "b": [1, 2], "c": {"name": "y", "z": 1}, "d": True})


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"controllers": []}, "a list of controllers"),
        ({"controllers": "random"}, "a list of controllers"),
        ({"controllers": ["random", "random"]}, "given twice"),
        ({"controllers": ["evolution:populatoin=3"]}, 'did you mean "population"'),
        ({"controllers": ["evolution:population=0"]}, "does not permit"),
        ({"controllers": [f"{FILE}"]}, ":CLASS for the controller"),
        ({"controllers": [f"{FILE}:Drwan"]}, "it has Drawn, Mute, Cut"),
        ({"controllers": [f"{FILE}:SPACE"]}, "a controller is a class"),
        ({"controllers": [f"{FILE}:Mute"]}, 'has no method "asked"'),
        ({"controllers": [f"{FILE}:Drawn:colour=3"]}, 'no knob "colour"'),
        ({"controllers": ["random:"]}, "names no controller"),
        ({"seeds": 0}, "needs seeds"),
        ({"seeds": [-1]}, "none below 0"),
        ({"budget": 0}, "budget of at least 1"),
        ({"jobs": 0}, "jobs of at least 1"),
        ({"table": "toy-61"}, 'did you mean "toy-60"'),
        ({"params": {"shfit": 1}}, 'did you mean "shift"'),
        ({"objectives": ["scroe"]}, 'did you mean "score"'),
        ({"objectives": ["score:up"]}, "score:max or score:min"),
        ({"objectives": ["score", "score:min"]}, "given twice"),
        ({"stopper": "asah"}, "No stopper is called"),
        ({"stopper": "toy-cut:above=3"}, 'no parameter "above"'),
    ],
)
def test_a_wish_that_cannot_be_is_one_sentence(wish, sentence, tmp_path):
    given = {"controllers": ["random"], "table": "toy-60", "out": tmp_path, "plugins": [str(FILE)], **QUIET, **wish}
    with pytest.raises(ArchwrightError, match=sentence):
        archwright.compare(given.pop("controllers"), **given)
    assert os.listdir(tmp_path) == []


def test_objects_stay_in_this_process(tmp_path):
    with pytest.raises(ConfigError, match="stays in this process"):
        archwright.compare([TOYS.Drawn], table="toy-60", seeds=1, jobs=2, out=tmp_path, **QUIET)
    with pytest.raises(ConfigError, match="takes no parameters"):
        archwright.compare(["random"], table=TOYS.toy(), params={"shift": 1}, seeds=1, out=tmp_path, **QUIET)


def test_random_on_the_table_is_what_the_space_draws(tmp_path):
    found = here(["random"], tmp_path, seeds=1, budget=1)
    architecture, _ = TOYS.SPACE.sample(generator(0, "ask", 0))
    row = TOYS.toy().row(architecture)
    assert found.summaries[0].finals()[0] == TOYS.toy().metrics["score"][row]
    assert found.summaries[0].tested["test_score"].mean == row / 10
