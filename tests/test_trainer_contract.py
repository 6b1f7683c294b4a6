"""The contract of evaluators: the shipped ones keep it, and the check catches those that do not."""

import json
from pathlib import Path

import pytest

from archwright.evaluators.registry import EVALUATORS
from archwright.search_space.outcomes import Report
from archwright.search_space.protocols import Job
from archwright.testing import check_evaluator
from archwright.testing.toys import toy_architecture


def toy_job(folder, budget=4, **params):
    evaluator = {"name": "instant", "params": params}
    return Job(3, toy_architecture(a=1).to_json(), {}, evaluator, seed=0, budget=budget, folder=str(folder))


def test_instant_keeps_the_contract(tmp_path):
    check_evaluator("instant", toy_job(tmp_path))


def test_instant_scores_by_the_architecture_alone(tmp_path):
    instant = EVALUATORS["instant"].obj
    job = toy_job(tmp_path)
    other = Job(9, toy_architecture(a=2).to_json(), {}, job.evaluator, seed=5, budget=4, folder="")
    final = [list(instant(each, metric="m"))[-1].metrics["m"] for each in (job, toy_job("elsewhere"), other)]
    assert final[0] == final[1] != final[2]
    assert all(0.0 <= value < 1.0 for value in final)


def test_instant_gives_as_many_reports_as_asked_for(tmp_path):
    assert len(list(EVALUATORS["instant"].obj(toy_job(tmp_path), steps=7))) == 7


def starts_at_zero(job):
    for step in range(job.budget):
        yield Report(step, {"m": 0.0}, last=step == job.budget - 1)


def marks_no_last(job):
    for step in range(1, job.budget + 1):
        yield Report(step, {"m": 0.0})


def marks_every_report(job):
    for step in range(1, job.budget + 1):
        yield Report(step, {"m": 0.0}, last=True)


def starts_over(job):
    for step in range(1, job.budget + 1):
        yield Report(step, {"m": 0.0}, last=step == job.budget)


def forgets_its_state(job):
    total = 0.0
    for step in range(job.reported + 1, job.budget + 1):
        total += step
        yield Report(step, {"m": total}, last=step == job.budget)


def counts_its_runs(job):
    path = Path(job.folder).parent / "runs"
    runs = int(path.read_text()) if path.exists() else 0
    path.write_text(str(runs + 1))
    for step in range(job.reported + 1, job.budget + 1):
        yield Report(step, {"m": float(runs)}, last=step == job.budget)


def reports_no_plain_number(job):
    for step in range(1, job.budget + 1):
        yield Report(step, {"m": object()}, last=step == job.budget)


def returns_a_list(job):
    return [Report(1, {"m": 0.0}), Report(2, {"m": 0.0}, last=True)]


def loses_what_it_did_not_deliver(job):
    path = Path(job.folder, "done.json")
    done = json.loads(path.read_text()) if path.exists() else 0
    for step in range(done + 1, job.budget + 1):
        path.write_text(str(step))
        yield Report(step, {"m": 0.0}, last=step == job.budget)


BROKEN = {
    starts_at_zero: "the first step is 0",
    marks_no_last: r"marked last are those of the steps \[\]",
    marks_every_report: r"marked last are those of the steps \[1, 2, 3, 4\]",
    starts_over: r"closed after step 1 and continued, the evaluator reports the steps \[1, 2, 3, 4\]; expected \[2, 3, 4\]",
    forgets_its_state: "closed after step 1 and continued, step 2 has",
    counts_its_runs: "again on an empty folder, step 1 has",
    reports_no_plain_number: "is not plain JSON",
    returns_a_list: "it must be a generator",
    loses_what_it_did_not_deliver: "continued by a study that lost its reports",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_evaluator_is_caught(broken, tmp_path):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_evaluator(broken, toy_job(tmp_path))
