"""Whole studies through the launcher: folders, locks, plug-ins, kills, what a user sees."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from archwright.search_space.errors import ArchwrightError, ConfigError, StudyError
from archwright.studies.config import load_config
from archwright.studies.journal import read_journal
from archwright.studies.launch import resume, run
from archwright.studies.lock import StudyLock, is_running
from archwright.studies.result import StudyResult

PLUGIN = '''
import hashlib, os, pathlib, time
from archwright.evaluators.registry import evaluator
from archwright.predictors.registry import stopper
from archwright.search_space.outcomes import Prediction, Report
from archwright.search_space.protocols import Verdict
from archwright.search_space.space import space
from archwright.testing.toys import toy_architecture


@space("launch-toy")
def launch_toy(choose):
    return toy_architecture(**{name: choose.integer(name, 0, 9) for name in "abc"})


@space("without-choice")
def without_choice(choose):
    return toy_architecture(a=1)


@space("broken-space")
def broken_space(choose):
    return toy_architecture(a=choose.one_of("a", [1, 2]) + undefined_name)


@evaluator("launch-score")
def launch_score(job, pause=0.0, fail=()):
    """A score from the architecture alone; leaves a mark in its folder for every step it works."""
    text = str(sorted(job.architecture["training"].items())).encode()
    level = int.from_bytes(hashlib.sha256(text).digest()[:4], "big") / 2**32
    for step in range(job.reported + 1, job.budget + 1):
        time.sleep(pause)
        if job.number in fail:
            raise ValueError(f"candidate {job.number} was told to fail")
        with open(pathlib.Path(job.folder) / "worked.txt", "a") as marks:
            marks.write(f"{step}\\n")
        yield Report(step, {"score": level * (1 - 0.5 ** step)}, 0.0, last=step == job.budget)


@stopper("launch-median")
class LaunchMedian:
    def __init__(self, objectives, *, seed, budget, trials):
        self.curves = {}

    def started(self, candidate):
        self.curves[candidate.number] = {}

    def reported(self, n, report):
        self.curves[n][report.step] = report.metrics["score"]

    def verdict(self, n):
        step, value = max(self.curves[n].items())
        others = sorted(c[step] for m, c in self.curves.items() if m != n and step in c)
        stop = len(others) >= 4 and value < others[len(others) // 2]
        return Verdict(stop, {"score": Prediction(value, 0.1)} if stop else {}, "below the median" if stop else "")

    def told(self, n, outcome):
        pass
'''


@pytest.fixture
def plugin(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def fields(plugin: Path, folder: Path, **more) -> dict:
    given = {
        "name": "study",
        "space": f"{plugin}:launch_toy",
        "controller": "evolution",
        "evaluator": "launch-score",
        "stopper": "launch-median",
        "objectives": "score",
        "trials": 20,
        "epochs": 3,
        "tracking": "off",
        "threads": 1,
        "folder": str(folder),
    }
    return {**given, **more}


def comparable(result: StudyResult) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in result.leaderboard()]


def test_a_study_from_yaml_leaves_what_it_promises(tmp_path, plugin):
    path = tmp_path / "my_study.yaml"
    path.write_text(yaml.safe_dump(fields(Path("mine.py"), tmp_path / "runs", name=None)))
    result = run(path)
    assert result.folder == tmp_path / "runs" / "my_study"
    assert result.counts["completed"] + result.counts["stopped"] == 20
    assert result.counts["stopped"] > 0
    assert 0 < result.epochs_saved < 1
    assert result.best()[0]["score"] == max(row["score"] for row in result.leaderboard() if row["status"] == "completed")
    assert result.architecture(result.best()[0]["trial"]).digest == result.best()[0]["digest"]
    config = load_config(result.folder / "study.yaml")
    assert config.name == "my_study"
    assert config.space.name == f"{plugin.resolve()}:launch_toy"
    assert StudyResult.read(result.folder).leaderboard() == result.leaderboard()
    first = next(read_journal(result.folder / "journal.jsonl"))
    assert first["config"] == config.to_json()
    assert [set(item) for item in first["plugins"]] == [{"path", "sha256"}]


def test_the_same_study_twice_is_the_same_and_gets_its_own_folder(tmp_path, plugin):
    results = [run(fields(plugin, tmp_path / "runs", name=None)) for _ in range(2)]
    assert [result.name for result in results] == ["launch-toy", "launch-toy-2"]
    assert comparable(results[0]) == comparable(results[1])


def test_another_seed_is_another_study(tmp_path, plugin):
    one, two = (run(fields(plugin, tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert comparable(one) != comparable(two)


def test_a_taken_name_is_refused_and_nothing_is_touched(tmp_path, plugin):
    run(fields(plugin, tmp_path, trials=2))
    before = (tmp_path / "study" / "journal.jsonl").read_bytes()
    with pytest.raises(StudyError, match='The study name "study" is taken'):
        run(fields(plugin, tmp_path, trials=2))
    assert (tmp_path / "study" / "journal.jsonl").read_bytes() == before


def test_failures_are_recorded_with_their_reason(tmp_path, plugin):
    result = run(fields(plugin, tmp_path, evaluator={"name": "launch-score", "fail": [1, 3]}))
    reasons = {n: trial.outcome.reason for n, trial in result.ledger.trials.items() if trial.outcome.status == "failed"}
    assert set(reasons) == {1, 3}
    assert "candidate 1 was told to fail" in reasons[1]
    assert result.ledger.evaluated == 20


def test_a_hang_past_its_limit_fails_and_the_study_goes_on(tmp_path, plugin):
    result = run(fields(plugin, tmp_path, trials=2, time_limit=0.2, evaluator={"name": "launch-score", "pause": 5.0}))
    assert result.counts["failed"] == 2
    assert "0.2" in result.ledger.trials[0].outcome.reason


WRONG = [
    ({"space": "lunch-toy"}, 'No space is called "lunch-toy"'),
    ({"space": "mine.py:lunch_toy"}, "did you mean"),
    ({"space": "nowhere.py:f"}, "cannot be read"),
    ({"space": "{plugin}:without_choice"}, "asks no question"),
    ({"space": "{plugin}:broken_space"}, "NameError"),
    ({"space": "{plugin}:PurePath"}, "has no"),
    ({"controller": "evolutoin"}, 'did you mean "evolution"'),
    ({"controller": {"name": "evolution", "populaton": 3}}, 'did you mean "population"'),
    ({"evaluator": "launch-scores"}, "launch-score"),
    ({"evaluator": {"name": "launch-score", "pauze": 1}}, 'did you mean "pause"'),
    ({"stopper": "launch-mean"}, "launch-median"),
    ({"objectives": []}, "no objectives"),
    ({"constraints": {"params": "<= 5"}}, "give a task"),
    ({"plugins": ["missing.py"]}, "cannot be read"),
    ({"task": "digitz"}, "digits"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, plugin, change, sentence, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {key: value.format(plugin=plugin) if isinstance(value, str) else value for key, value in change.items()}
    if "space" in given:
        given["plugins"] = [str(plugin)]
    with pytest.raises(ArchwrightError) as caught:
        run({**fields(plugin, tmp_path / "runs"), **given})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs" / "study").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, plugin):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        run(fields(plugin, tmp_path / "file"))


def test_a_gpu_on_a_machine_without_one_is_one_sentence(tmp_path, plugin):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="no CUDA device"):
        run(fields(plugin, tmp_path, gpus=1))
    assert not (tmp_path / "study").exists()


# --- resume


def test_extending_in_two_spellings(tmp_path, plugin):
    whole = run(fields(plugin, tmp_path / "whole", trials=20))
    run(fields(plugin, tmp_path, trials=10))
    assert resume(tmp_path / "study", "+5").ledger.evaluated == 15
    assert comparable(resume(tmp_path / "study", 20)) == comparable(whole)


def test_resuming_a_finished_study_changes_nothing(tmp_path, plugin):
    result = run(fields(plugin, tmp_path, trials=4))
    before = (tmp_path / "study" / "journal.jsonl").read_bytes()
    assert resume(tmp_path / "study").leaderboard() == result.leaderboard()
    assert (tmp_path / "study" / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(("trials", "sentence"), [(1, "has begun 4 trials already"), ("many", "a whole number"), ("-3", "a whole number")])
def test_a_senseless_number_of_trials_is_one_sentence(tmp_path, plugin, trials, sentence):
    run(fields(plugin, tmp_path, trials=4))
    with pytest.raises(ConfigError, match=sentence):
        resume(tmp_path / "study", trials)


def test_a_folder_without_a_study_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="holds no study"):
        resume(tmp_path)


def test_only_fields_of_the_machine_change_on_resume(tmp_path, plugin):
    run(fields(plugin, tmp_path, trials=2))
    with pytest.raises(ConfigError, match='The field "seed" cannot change'):
        resume(tmp_path / "study", 3, seed=1)
    assert resume(tmp_path / "study", 3, time_limit=60.0).ledger.evaluated == 3


def test_a_changed_plugin_is_refused_and_a_moved_one_is_found(tmp_path, plugin):
    run(fields(plugin, tmp_path, trials=3))
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    plugin.rename(moved)
    with pytest.raises(ArchwrightError, match="cannot be read"):
        resume(tmp_path / "study", 4)
    assert resume(tmp_path / "study", 4, plugins=[str(moved)]).ledger.evaluated == 4
    plugin.write_text(PLUGIN + "\n# changed\n")
    with pytest.raises(StudyError, match=r"mine.py.* has changed since the study began"):
        resume(tmp_path / "study", 5)


def test_a_study_killed_before_its_first_event_begins(tmp_path, plugin):
    whole = run(fields(plugin, tmp_path / "whole", trials=5))
    run(fields(plugin, tmp_path, trials=5))
    (tmp_path / "study" / "journal.jsonl").write_bytes(b'{"event":"stu')
    assert comparable(resume(tmp_path / "study")) == comparable(whole)


DRIVER = """
import sys, yaml
from archwright.studies.launch import resume, run
what, path = sys.argv[1:]
resume(path) if what == "resume" else run(yaml.safe_load(open(path)))
"""


def driver(what: str, path: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", DRIVER, what, str(path)], stderr=subprocess.PIPE, text=True)


def test_killed_at_random_moments_the_leaderboard_is_that_of_the_whole_study(tmp_path, plugin):
    evaluator = {"name": "launch-score", "pause": 0.004}
    whole = run(fields(plugin, tmp_path / "whole", evaluator=evaluator, trials=60))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(fields(plugin, tmp_path, evaluator=evaluator, trials=60)))
    rng, journal = random.Random(7), tmp_path / "study" / "journal.jsonl"
    what, where, size = "run", path, 0
    for _ in range(3):
        process = driver(what, where)
        target = size + rng.randrange(2000, 14_000)
        deadline = time.monotonic() + 60
        while process.poll() is None and (not journal.exists() or journal.stat().st_size < target) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        what, where, size = "resume", tmp_path / "study", journal.stat().st_size
    result = resume(tmp_path / "study")
    assert comparable(result) == comparable(whole)
    for kind in ("asked", "told"):
        numbers = [event["n"] for event in read_journal(journal) if event["event"] == kind]
        assert numbers == sorted(set(numbers))
    for n, trial in result.ledger.trials.items():
        steps = (tmp_path / "study" / "trials" / f"{n:04d}" / "worked.txt").read_text().split()
        assert sorted(set(map(int, steps))) == list(range(1, trial.outcome.steps + 1))


class Interrupts:
    """A follower that presses Ctrl-C after some candidates."""

    def __init__(self, after):
        self.left, self.closed = after, 0

    def heard(self, event):
        self.left -= event["event"] == "told"
        if self.left == 0:
            self.left = -1
            raise KeyboardInterrupt

    def close(self):
        self.closed += 1


def test_interrupted_by_the_user_it_goes_on_later(tmp_path, plugin):
    whole = run(fields(plugin, tmp_path / "whole"))
    follower = Interrupts(7)
    with pytest.raises(KeyboardInterrupt):
        run(fields(plugin, tmp_path), followers=[follower])
    assert follower.closed == 1
    assert not is_running(tmp_path / "study")
    assert comparable(resume(tmp_path / "study")) == comparable(whole)


def test_followers_that_cannot_be_made_leave_no_folder(tmp_path, plugin):
    def broken(config, folder, header):
        raise StudyError("no such server")

    with pytest.raises(StudyError, match="no such server"):
        run(fields(plugin, tmp_path), followers=broken)
    assert not (tmp_path / "study").exists()


# --- the lock


def test_a_second_driver_is_refused_and_told_who_holds_the_study(tmp_path):
    with StudyLock(tmp_path):
        with pytest.raises(StudyError, match=rf"already run by process {os.getpid()} on .* since 2"), StudyLock(tmp_path):
            pass
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    with StudyLock(tmp_path):
        pass


def test_a_running_study_refuses_a_second_driver_and_a_kill_leaves_no_lock(tmp_path, plugin):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(fields(plugin, tmp_path, evaluator={"name": "launch-score", "pause": 0.2}, trials=200)))
    process = driver("run", path)
    holder = tmp_path / "study" / "driver.json"
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "study" / "journal.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(StudyError, match=f"already run by process {process.pid} on "):
            resume(tmp_path / "study")
    finally:
        process.kill()
        process.communicate()
    assert not is_running(tmp_path / "study")
    assert json.loads(holder.read_text())["pid"] == process.pid
    with StudyLock(tmp_path / "study"):
        pass
