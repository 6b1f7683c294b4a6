"""The driver: what it asks, what it rejects, what it writes down and in which order."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from archwright.search_space.errors import StudyError
from archwright.search_space.outcomes import Objective, Report
from archwright.search_space.protocols import Job, Proposal, WorkerEvent
from archwright.search_space.seeds import generator
from archwright.studies.config import Bounds
from archwright.studies.leaderboard import leaderboard, pareto_front, ranked
from archwright.studies.study import read_ledger

from .study_toys import SPACE, TINY, Greedy, Median, Workers, begun, completed, curve, header, parts, score_of, story


class Always:
    """Asks for the given values of ``a`` and ``b``, one after the other, then for the last ones again and again."""

    def __init__(self, *values, space=SPACE):
        self.values, self.space, self.told_of = values, space, []

    def ask(self, n):
        values = iter(self.values[min(n, len(self.values) - 1)])
        return Proposal(self.space.run(lambda path, domain: next(values))[1])

    def asked(self, n, trace, note):
        pass

    def told(self, n, outcome):
        self.told_of.append((n, outcome.status, outcome.twin))


def events_of(folder, *kinds):
    return [event for event in story(folder) if event["event"] in kinds]


def test_a_study_evaluates_its_budget(tmp_path):
    study = completed(begun(tmp_path, parts(), 12))
    assert study.ledger.evaluated == study.ledger.counts["completed"] == 12
    assert study.finished
    assert len(leaderboard(study.ledger)) == 12


@pytest.mark.parametrize("slots", [1, 4])
def test_an_ask_is_written_before_the_evaluator_starts(tmp_path, slots):
    class Watching(Workers):
        def start(self, job):
            kinds = [event["event"] for event in story(tmp_path) if event.get("n") == job.number]
            assert kinds == ["asked", "started"]
            super().start(job)

    executor = Watching(slots)
    completed(begun(tmp_path, parts(), 10), executor)
    assert len(executor.jobs) == 10


def test_the_same_seed_gives_the_same_story(tmp_path):
    stories = []
    for name in ("one", "two"):
        completed(begun(tmp_path / name, parts(stopper=Median()), 25))
        stories.append(story(tmp_path / name))
    assert stories[0] == stories[1]


def test_jobs_are_json_and_the_architecture_lies_in_the_trial_folder(tmp_path):
    executor = Workers()
    completed(begun(tmp_path, parts(), 2), executor)
    for job in executor.jobs:
        assert Job.from_json(json.loads(json.dumps(job.to_json()))).architecture == job.architecture
        assert json.loads((tmp_path / "trials" / f"{job.number:04d}" / "architecture.json").read_text()) == job.architecture


# --- duplicates


def test_a_duplicate_is_told_at_once_with_its_twins_outcome_and_costs_nothing(tmp_path):
    controller = Always((1, 1), (2, 2), (1, 1), (3, 3))
    executor = Workers()
    study = completed(begun(tmp_path, parts(controller=controller), 3), executor)
    assert [job.number for job in executor.jobs] == [0, 1, 3]
    assert controller.told_of == [(0, "completed", None), (1, "completed", None), (2, "duplicate", 0), (3, "completed", None)]
    first, again = (event["outcome"] for event in events_of(tmp_path, "told") if event["n"] in (0, 2))
    assert again["metrics"] == first["metrics"]
    assert again["steps"] == 0
    assert study.ledger.counts["duplicate"] == 1


def test_a_duplicate_of_a_running_twin_waits_without_blocking(tmp_path):
    controller = Always((1, 1), (1, 1), (2, 2))
    study = begun(tmp_path, parts(controller=controller), 2)
    jobs = [study.next_job(), study.next_job()]
    assert [job.number for job in jobs] == [0, 2]
    assert study.ledger.waiting == {1: 0}
    assert controller.told_of == []
    for report in curve(jobs[0]):
        study.heard(WorkerEvent(0, "report", report))
    assert controller.told_of == [(0, "completed", None), (1, "duplicate", 0)]
    assert not study.finished


def test_a_duplicate_of_a_stopped_twin_stays_censored(tmp_path):
    study = completed(begun(tmp_path, parts(stopper=Median()), 40))
    stopped = {n for n, trial in study.ledger.trials.items() if trial.outcome.status == "stopped"}
    told = [event["outcome"] for event in events_of(tmp_path, "told")]
    repeats = [outcome for outcome in told if outcome["status"] == "duplicate" and outcome["twin"] in stopped]
    assert repeats
    assert all("predicted" in outcome for outcome in repeats)


def test_an_inexact_digest_never_rejects(tmp_path, monkeypatch):
    monkeypatch.setattr("archwright.search_space.architecture.Architecture.digest", "a1:same~")
    executor = Workers()
    completed(begun(tmp_path, parts(controller=Always((1, 1))), 3), executor)
    assert len(executor.jobs) == 3


def test_after_fifty_rejections_the_next_is_drawn_at_random(tmp_path):
    completed(begun(tmp_path, parts(controller=Always((1, 1))), 2))
    asked = events_of(tmp_path, "asked")
    notes = [event["note"] for event in asked]
    assert notes[:51] == [{}] * 51
    assert notes[51] == {"random": True}
    assert asked[51]["trace"] == SPACE.sample(generator(0, "fallback", 51))[1].to_json()
    assert Counter(event["outcome"]["status"] for event in events_of(tmp_path, "told"))["duplicate"] >= 50


@pytest.mark.parametrize("slots", [1, 3])
def test_an_exhausted_space_ends_with_one_sentence(tmp_path, slots):
    study = completed(begun(tmp_path, parts(TINY), 20), Workers(slots))
    assert study.ledger.evaluated == 3
    assert study.finished
    duplicates = study.ledger.counts["duplicate"]
    assert duplicates >= 550
    sentence = f"space exhausted or too constrained ({duplicates} duplicates, 0 infeasible) after 3 trials"
    assert events_of(tmp_path, "ended")[0]["reason"] == study.ledger.ended == sentence


# --- constraints


def sizes(architecture):
    return {"params": 10 * architecture.training["a"]}


def test_a_broken_constraint_is_told_without_training(tmp_path):
    executor = Workers()
    made = parts(measure=sizes, constraints={"params": Bounds(max=45)})
    study = completed(begun(tmp_path, made, 15), executor)
    assert study.ledger.evaluated == 15
    assert study.ledger.counts["infeasible"] > 0
    assert all(job.architecture["training"]["a"] <= 4 for job in executor.jobs)
    told = [event["outcome"] for event in events_of(tmp_path, "told") if event["outcome"]["status"] == "infeasible"]
    assert all(outcome["reason"] == f"params {outcome['metrics']['params']} is above 45" for outcome in told)


def test_a_repeat_of_an_infeasible_candidate_is_infeasible_and_not_measured_again(tmp_path):
    measured = []
    controller = Always((9, 9), (9, 9), (1, 1))
    made = parts(
        controller=controller,
        measure=lambda architecture: measured.append(1) or sizes(architecture),
        constraints={"params": Bounds(max=45)},
    )
    completed(begun(tmp_path, made, 1))
    assert [status for _, status, _ in controller.told_of] == ["infeasible", "infeasible", "completed"]
    assert len(measured) == 2


def test_constraints_that_nothing_meets_end_the_study_and_say_why(tmp_path):
    made = parts(measure=sizes, constraints={"params": Bounds(max=-1)})
    study = completed(begun(tmp_path, made, 5))
    assert study.ledger.ended.startswith("space exhausted or too constrained (0 duplicates, 550 infeasible) after 0 trials")
    assert "is above -1" in study.ledger.ended


def test_known_metrics_are_part_of_the_outcome(tmp_path):
    study = completed(begun(tmp_path, parts(measure=sizes), 3))
    for trial in study.ledger.trials.values():
        assert trial.outcome.metrics["params"] == trial.known["params"]
        assert set(trial.outcome.metrics) == {"params", "score", "loss"}


# --- what goes wrong with a candidate


def faulty(job):
    """Every third candidate fails in another way."""
    n = job.number
    for report in curve(job):
        if n % 6 == 1 and report.step == 2:
            yield "RuntimeError: no luck"
        elif n % 6 == 3 and report.step == 3:
            yield Report(3, {"score": math.nan}, 0.1)
        elif n % 6 == 5:
            yield Report(report.step, {"other": 1.0}, 0.1, report.last)
        else:
            yield report


@pytest.mark.parametrize("slots", [1, 3])
def test_bad_candidates_fail_with_their_reason_and_the_study_goes_on(tmp_path, slots):
    study = completed(begun(tmp_path, parts(stopper=Median()), 18), Workers(slots, evaluate=faulty))
    assert study.ledger.evaluated == 18
    reasons = {trial.outcome.reason for trial in study.ledger.trials.values() if trial.outcome.status == "failed"}
    assert reasons <= {
        "RuntimeError: no luck",
        "score became nan at step 3",
        'the evaluator reports no "score"; it reports other',
    }
    assert len(reasons) >= 2


def test_a_metric_that_is_no_objective_may_be_nan(tmp_path):
    def evaluate(job):
        yield Report(1, {"score": 0.5, "r2": math.nan}, 0.1, True)

    study = completed(begun(tmp_path, parts(), 1), Workers(evaluate=evaluate))
    assert study.ledger.trials[0].outcome.metrics == {"score": 0.5}
    assert study.ledger.counts["completed"] == 1


def test_a_candidate_that_cannot_be_measured_fails_and_costs_budget(tmp_path):
    def measure(architecture):
        if architecture.training["a"] % 2:
            raise ValueError("odd width\nwith details")
        return {}

    executor = Workers()
    study = completed(begun(tmp_path, parts(measure=measure), 10), executor)
    assert study.ledger.evaluated == 10
    assert study.ledger.counts["failed"] == 10 - len(executor.jobs) > 0
    reasons = {trial.outcome.reason for trial in study.ledger.trials.values() if trial.outcome.status == "failed"}
    assert reasons == {"the candidate cannot be built: ValueError: odd width"}


def test_reports_already_written_and_reports_of_ended_candidates_are_dropped(tmp_path):
    study = begun(tmp_path, parts(), 1)
    job = study.next_job()
    reports = list(curve(job))
    for report in [reports[0], reports[0], reports[1], reports[0], *reports[2:], reports[-1]]:
        study.heard(WorkerEvent(0, "report", report))
    assert [event["step"] for event in events_of(tmp_path, "report")] == [1, 2, 3, 4]
    assert len(events_of(tmp_path, "told")) == 1


def test_a_controller_that_crashes_is_one_sentence(tmp_path):
    class Broken(Greedy):
        def ask(self, n):
            raise IndexError("list index out of range")

    with pytest.raises(StudyError, match="Candidate 0 could not be proposed .*IndexError"):
        begun(tmp_path, parts(controller=Broken()), 1).next_job()


# --- stopping


def test_a_stop_is_written_before_it_is_done_and_told_as_censored(tmp_path):
    executor = Workers()
    study = completed(begun(tmp_path, parts(stopper=Median()), 25), executor)
    assert study.ledger.counts["stopped"] == len(executor.stopped) > 3
    for n in executor.stopped:
        trial = study.ledger.trials[n]
        assert trial.outcome.predicted["score"].mean == trial.outcome.metrics["score"]
        assert trial.outcome.steps < 4
        assert trial.outcome.reason == "below the median"
        kinds = [event["event"] for event in story(tmp_path) if event.get("n") == n]
        assert kinds[-3:] == ["report", "stopping", "told"]


def test_the_stopper_hears_of_evaluated_candidates_only(tmp_path):
    stopper = Median()
    made = parts(stopper=stopper, measure=sizes, constraints={"params": Bounds(max=45)})
    study = completed(begun(tmp_path, made, 20))
    evaluated = {n for n, trial in study.ledger.trials.items() if trial.outcome.status in ("completed", "stopped")}
    assert {said[1] for said in stopper.heard} == evaluated


# --- several objectives


def test_several_objectives_give_a_pareto_front(tmp_path):
    objectives = (Objective("score"), Objective("params", "min"))
    made = parts(controller=Greedy(objectives=objectives), objectives=objectives, measure=sizes)
    facts = {"objectives": [{"metric": "score", "direction": "max"}, {"metric": "params", "direction": "min"}]}
    study = begun(tmp_path, made, 30, **facts)
    completed(study)
    points = {n: (trial.outcome.metrics["score"], -trial.outcome.metrics["params"]) for n, trial in study.ledger.trials.items()}
    front = {trial.number for trial in pareto_front(study.ledger.trials.values(), objectives)}
    for n, (score, size) in points.items():
        beaten = any(s >= score and p >= size and (s, p) != (score, size) for s, p in points.values())
        assert (n in front) == (not beaten)
    order = [trial.number for trial in ranked(study.ledger.trials.values(), objectives)]
    assert set(order[: len(front)]) == front
    assert len(order) == 30


def test_the_leaderboard_puts_completed_before_stopped_and_best_first(tmp_path):
    study = completed(begun(tmp_path, parts(stopper=Median()), 25))
    rows = leaderboard(study.ledger)
    scores = [row["score"] for row in rows if row["status"] == "completed"]
    assert scores == sorted(scores, reverse=True)
    assert [row["status"] for row in rows] == sorted(row["status"] for row in rows)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(leaderboard(study.ledger, 3)) == 3


# --- followers


class Listener:
    def __init__(self):
        self.events, self.closed = [], 0

    def heard(self, event):
        self.events.append(event)

    def close(self):
        self.closed += 1


def test_followers_hear_every_event_after_it_is_written(tmp_path):
    class Reader(Listener):
        def heard(self, event):
            super().heard(event)
            assert len(story(tmp_path)) == len(self.events)

    follower = Reader()
    completed(begun(tmp_path, parts(stopper=Median()), 6, followers=[follower]))
    assert [{k: v for k, v in event.items() if k != "time"} for event in follower.events] == story(tmp_path)
    assert follower.closed == 1


def test_a_follower_that_fails_is_left_out_and_the_study_goes_on(tmp_path):
    class Broken(Listener):
        def heard(self, event):
            raise OSError("server gone")

    healthy = Listener()
    with pytest.warns(RuntimeWarning, match="Broken failed .*server gone.* the study goes on"):
        study = begun(tmp_path, parts(), 4, followers=[Broken(), healthy])
    completed(study)
    assert study.ledger.evaluated == 4
    assert len(healthy.events) == len(story(tmp_path))


def test_a_damaged_event_is_one_sentence(tmp_path):
    (tmp_path / "journal.jsonl").write_text(json.dumps({"event": "study", **header(1)}) + '\n{"event":"told","n":5}\n')
    with pytest.raises(StudyError, match=r'"told" of candidate 5 does not fit'):
        read_ledger(tmp_path)


def test_scores_are_those_of_the_architecture(tmp_path):
    executor = Workers()
    study = completed(begun(tmp_path, parts(), 5), executor)
    for job in executor.jobs:
        assert study.ledger.trials[job.number].outcome.metrics["score"] == score_of(job, 4)
