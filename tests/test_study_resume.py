"""Resume: a study cut anywhere goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil

import pytest

from archwright.search_space.errors import StudyError
from archwright.search_space.space import Space
from archwright.studies.config import Bounds
from archwright.studies.leaderboard import leaderboard
from archwright.testing.toys import toy_architecture

from .study_toys import TINY, Greedy, Killed, Median, Workers, begun, completed, drive, parts, resumed, story


def sizes(architecture):
    return {"params": 10 * architecture.training["a"]}


def full():
    """Every kind of event: duplicates, infeasible candidates, stops."""
    return parts(stopper=Median(), measure=sizes, constraints={"params": Bounds(max=75)})


def cut(source, target, length):
    """A copy of a study whose journal holds the first ``length`` bytes, as after a SIGKILL."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    (target / "journal.jsonl").write_bytes((source / "journal.jsonl").read_bytes()[:length])


def test_cut_after_every_event_the_study_ends_the_same(tmp_path):
    whole = completed(begun(tmp_path / "whole", full(), 14))
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kinds = {json.loads(line)["event"] for line in lines}
    assert kinds == {"study", "asked", "started", "report", "stopping", "told", "ended"}
    length = len(lines[0])
    for line in lines[1:]:
        cut(tmp_path / "whole", tmp_path / "cut", length)
        study = completed(resumed(tmp_path / "cut", full()))
        assert story(tmp_path / "cut") == story(tmp_path / "whole"), line
        assert leaderboard(study.ledger) == leaderboard(whole.ledger)
        length += len(line)


def test_cut_twice_at_the_same_place(tmp_path):
    completed(begun(tmp_path / "whole", full(), 12))
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for index in range(1, len(lines)):
        cut(tmp_path / "whole", tmp_path / "cut", sum(map(len, lines[:index])))
        first = resumed(tmp_path / "cut", full())
        first.close()
        completed(resumed(tmp_path / "cut", full()))
        assert story(tmp_path / "cut") == story(tmp_path / "whole"), lines[index]


def test_killed_in_the_middle_of_a_line(tmp_path):
    completed(begun(tmp_path / "whole", full(), 8))
    data = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    for length in range(data.index(b"\n") + 1, len(data), 97):
        cut(tmp_path / "whole", tmp_path / "cut", length)
        completed(resumed(tmp_path / "cut", full()))
        assert story(tmp_path / "cut") == story(tmp_path / "whole")


def test_feeding_restores_controller_and_stopper_exactly(tmp_path):
    live = full()
    study = begun(tmp_path, live, 30)
    with pytest.raises(Killed):
        drive(study, Workers(dies_after=50))
    study.close()
    fed = full()
    again = resumed(tmp_path, fed)
    assert fed.controller.heard == live.controller.heard
    assert fed.stopper.heard == live.stopper.heard
    assert again.ledger.counts == study.ledger.counts
    n = again.ledger.asks
    assert [fed.controller.ask(n + i) for i in range(5)] == [live.controller.ask(n + i) for i in range(5)]


@pytest.mark.parametrize("dies_after", range(3, 50, 7))
def test_with_workers_no_trial_is_lost_and_none_is_evaluated_twice(tmp_path, dies_after):
    first = Workers(4, seed=1, dies_after=dies_after)
    study = begun(tmp_path, full(), 20)
    with pytest.raises(Killed):
        drive(study, first)
    ended = {n for n, trial in study.ledger.trials.items() if trial.outcome}
    running = {n: trial.step for n, trial in study.ledger.running.items()}
    study.close()
    second = Workers(4, seed=2)
    whole = completed(resumed(tmp_path, full()), second)
    assert whole.ledger.evaluated == 20
    assert not ended & {job.number for job in second.jobs}
    assert {job.number: job.reported for job in second.jobs if job.number in running} == running
    for kind in ("asked", "told"):
        numbers = [event["n"] for event in story(tmp_path) if event["event"] == kind]
        assert sorted(numbers) == list(range(whole.ledger.asks))
    steps = [(event["n"], event["step"]) for event in story(tmp_path) if event["event"] == "report"]
    assert len(set(steps)) == len(steps)


def test_nothing_is_measured_again(tmp_path):
    study = begun(tmp_path, full(), 10)
    with pytest.raises(Killed):
        drive(study, Workers(dies_after=20))
    study.close()

    def never(architecture):
        raise AssertionError("measured again")

    made = full()
    made.measure = never
    assert resumed(tmp_path, made).ledger.asks == study.ledger.asks


def test_a_finished_study_is_extended_as_if_it_had_been_planned(tmp_path):
    completed(begun(tmp_path / "long", full(), 20))
    completed(begun(tmp_path / "short", full(), 12))
    study = completed(resumed(tmp_path / "short", full(), 20))
    assert study.ledger.wanted == study.ledger.evaluated == 20
    told = [[event for event in story(tmp_path / name) if event["event"] == "told"] for name in ("long", "short")]
    assert told[0] == told[1]


def test_an_extension_survives_a_crash(tmp_path):
    completed(begun(tmp_path, full(), 6))
    study = resumed(tmp_path, full(), 14)
    with pytest.raises(Killed):
        drive(study, Workers(dies_after=5))
    study.close()
    assert completed(resumed(tmp_path, full())).ledger.evaluated == 14


def test_an_exhausted_study_stays_exhausted_when_cut_and_resumed(tmp_path):
    completed(begun(tmp_path / "whole", parts(TINY), 9))
    data = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    cut(tmp_path / "whole", tmp_path / "cut", len(data) * 2 // 3)
    study = completed(resumed(tmp_path / "cut", parts(TINY)))
    assert story(tmp_path / "cut") == story(tmp_path / "whole")
    assert study.ledger.ended


def test_a_space_that_changed_is_one_sentence(tmp_path):
    study = begun(tmp_path, parts(), 5)
    with pytest.raises(Killed):
        drive(study, Workers(dies_after=2))
    study.close()
    other = Space("toy", lambda choose: toy_architecture(a=choose.integer("a", 0, 9), b=choose.integer("b", 0, 9), c=1))
    with pytest.raises(StudyError, match="builds another network for candidate 0"):
        resumed(tmp_path, parts(other, controller=Greedy(other)))


def test_a_running_candidate_whose_folder_is_gone_gets_it_again(tmp_path):
    study = begun(tmp_path, parts(), 5)
    with pytest.raises(Killed):
        drive(study, Workers(dies_after=2))
    study.close()
    shutil.rmtree(tmp_path / "trials")
    job = resumed(tmp_path, parts()).next_job()
    assert json.loads((tmp_path / "trials" / "0000" / "architecture.json").read_text()) == job.architecture
    assert job.reported == 2


def test_followers_hear_the_past_first(tmp_path):
    class Listener:
        def __init__(self):
            self.events = []

        def heard(self, event):
            self.events.append(event["event"])

        def close(self):
            pass

    completed(begun(tmp_path, parts(), 3))
    follower = Listener()
    completed(resumed(tmp_path, parts(), 4, [follower]))
    again = follower.events.index("resumed")
    assert follower.events[0] == "study"
    assert follower.events[again : again + 2] == ["resumed", "extended"]
    assert follower.events[:again].count("told") == 3
