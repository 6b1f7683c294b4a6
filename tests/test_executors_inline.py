"""The inline executor: one job at a time, and every kind of trouble ends as a sentence."""

import math
import signal
from pathlib import Path

import pytest
import torch

from archwright.evaluators.executors.inline import InlineExecutor
from archwright.evaluators.executors.registry import EXECUTORS
from archwright.search_space.errors import ConfigError

from .executor_cases import all_events, make_job


@pytest.fixture
def executor():
    executor = InlineExecutor()
    yield executor
    executor.close()


def reason(executor, job) -> str:
    """The reason of the failure that must end ``job``."""
    executor.start(job)
    last = all_events(executor, job.number)[-1]
    assert last.kind == "failed"
    assert last.report is None
    return last.reason


def test_both_executors_are_registered():
    assert list(EXECUTORS) == ["inline", "ray"]


def test_reports_arrive_in_order_and_the_last_ends_the_job(executor, tmp_path):
    executor.start(make_job(tmp_path, 4, "counts"))
    reports = [event.report for event in all_events(executor, 4)]
    assert [(r.step, r.metrics["score"], r.last) for r in reports] == [(1, 4.0, False), (2, 8.0, False), (3, 12.0, True)]
    with pytest.raises(RuntimeError, match="nothing runs"):
        executor.next_event()
    executor.start(make_job(tmp_path, 5, "counts"))
    assert len(all_events(executor, 5)) == 3


def test_one_slot(executor, tmp_path):
    executor.start(make_job(tmp_path, 1, "counts"))
    with pytest.raises(RuntimeError, match="one slot"):
        executor.start(make_job(tmp_path, 2, "counts"))


def test_stop_closes_the_evaluator_and_frees_the_slot(executor, tmp_path):
    job = make_job(tmp_path, 1, "counts")
    executor.start(job)
    executor.next_event()
    executor.stop(99)
    assert not Path(job.folder, "closed").exists()
    executor.stop(1)
    assert Path(job.folder, "closed").read_text() == "1"
    executor.start(make_job(tmp_path, 2, "counts"))
    assert executor.next_event().number == 2


def test_close_closes_the_evaluator(tmp_path):
    executor = InlineExecutor()
    job = make_job(tmp_path, 1, "counts")
    executor.start(job)
    executor.next_event()
    executor.close()
    assert Path(job.folder, "closed").exists()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("raise", "ValueError: the widths 3 and 4 clash"),
        ("type", "TypeError"),
        ("sys.exit", "the evaluator called sys.exit(3)"),
        ("python memory", "out of memory (MemoryError); make the batch size or the candidates smaller"),
        ("cpu memory", "out of memory ([enforce fail"),
        ("cuda memory", "out of memory (CUDA out of memory. Tried to allocate 20.00 MiB.); make the batch"),
    ],
)
def test_trouble_becomes_one_sentence_and_a_traceback_in_the_folder(executor, tmp_path, how, expected):
    job = make_job(tmp_path, 1, "fails", how=how)
    said = reason(executor, job)
    assert said.startswith(expected)
    assert "\n" not in said
    assert "Traceback" in Path(job.folder, "error.txt").read_text()
    executor.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(executor, 2)) == 3


def test_nan_is_handed_on_for_the_study_to_judge(executor, tmp_path):
    executor.start(make_job(tmp_path, 1, "fails", how="nan", at=3))
    assert math.isnan(all_events(executor, 1)[-1].report.metrics["score"])


def test_a_hang_ends_at_the_time_limit_even_where_the_evaluator_swallows_exceptions(tmp_path):
    before = signal.getsignal(signal.SIGALRM)
    executor = InlineExecutor(time_limit=0.3)
    job = make_job(tmp_path, 1, "fails", how="hang")
    assert reason(executor, job).startswith("time limit of 0.3 s reached after step 2; raise time_limit")
    assert "trouble" in Path(job.folder, "error.txt").read_text()
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    executor.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(executor, 2)) == 3


def test_the_time_limit_counts_all_units_of_a_trial_together(tmp_path):
    executor = InlineExecutor(time_limit=0.35)
    assert "time limit" in reason(executor, make_job(tmp_path, 1, "counts", budget=50, pause=0.1))


def test_an_evaluator_must_mark_its_last_report(tmp_path):
    for limit in (None, 60.0):
        said = reason(InlineExecutor(time_limit=limit), make_job(tmp_path, 1, "empty"))
        assert said.startswith("the evaluator ended without its last report")


def test_an_evaluator_must_yield_reports(executor, tmp_path):
    assert "yielded dict; expected archwright's Report" in reason(executor, make_job(tmp_path, 1, "dicts"))


def test_an_unknown_evaluator_fails_the_candidate_with_the_registry_s_sentence(executor, tmp_path):
    executor.start(make_job(tmp_path, 1, "counts"))
    executor.stop(1)
    assert 'No evaluator is called "case-cuonts"' in reason(executor, make_job(tmp_path, 2, "cuonts"))


def test_metrics_become_plain_numbers(executor, tmp_path):
    executor.start(make_job(tmp_path, 1, "tensors"))
    report = executor.next_event().report
    assert type(report.step) is int
    assert {name: type(value) for name, value in report.metrics.items()} == {"score": float, "threads": float, "seed": float}


def test_steps_already_reported_are_dropped(executor, tmp_path):
    executor.start(make_job(tmp_path, 1, "repeats", budget=5, reported=3))
    assert [event.report.step for event in all_events(executor, 1)] == [4, 5]


def test_a_job_that_was_reported_whole_has_nothing_left_to_say(executor, tmp_path):
    assert "without its last report" in reason(executor, make_job(tmp_path, 1, "repeats", budget=3, reported=3))


def test_threads_are_set_while_open_and_given_back():
    before = torch.get_num_threads()
    executor = InlineExecutor(threads=before + 1)
    assert torch.get_num_threads() == before + 1
    executor.close()
    assert torch.get_num_threads() == before


def test_more_workers_than_one_is_a_mistake():
    with pytest.raises(ConfigError, match="workers is 2; set workers: 1, or engine: ray"):
        InlineExecutor(workers=2)


def test_a_gpu_that_is_not_there_is_a_mistake():
    with pytest.raises(ConfigError, match="gpus: 99 was asked for, but this machine has"):
        InlineExecutor(gpus=99)
