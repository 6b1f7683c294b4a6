"""The Ray executor: jobs and events as JSON, streaming, stops, time limits, and workers that die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archwright.evaluators.executors import ray_session
from archwright.evaluators.executors.ray_pool import RayExecutor
from archwright.evaluators.executors.ray_session import check_capacity, threads_per_worker
from archwright.evaluators.executors.ray_worker import Worker, event_from_text, event_text
from archwright.search_space.errors import ArchwrightError, ConfigError
from archwright.search_space.outcomes import Report
from archwright.search_space.protocols import WorkerEvent

from .executor_cases import all_events, make_job


@pytest.fixture(scope="module", autouse=True)
def ray_session_of_this_module():
    assert ray_session.connect(None, cpus=4)
    yield
    ray_session.disconnect([], grace=0.0, shutdown=True)


@pytest.fixture(scope="module")
def shared():
    executor = RayExecutor(workers=2, threads=1)
    yield executor
    executor.close()


@pytest.fixture
def limited():
    executor = RayExecutor(workers=1, threads=1, time_limit=1.0)
    yield executor
    executor.close()


def until(condition, seconds=20.0):
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def log_of(job) -> list[str]:
    return Path(job.folder, "log").read_text().splitlines()


def test_two_jobs_run_side_by_side_each_with_its_reports_in_order(shared, tmp_path):
    shared.start(make_job(tmp_path, 1, "meets", budget=4, other=2))
    shared.start(make_job(tmp_path, 2, "meets", budget=4, other=1))
    with pytest.raises(RuntimeError, match="all 2 workers are busy"):
        shared.start(make_job(tmp_path, 3, "counts"))
    events = [shared.next_event() for _ in range(8)]
    for number in (1, 2):
        reports = [event.report for event in events if event.number == number]
        assert [(r.step, r.metrics["score"]) for r in reports] == [(step, float(step * number)) for step in (1, 2, 3, 4)]
        assert [r.last for r in reports] == [False, False, False, True]
    with pytest.raises(RuntimeError, match="nothing runs"):
        shared.next_event()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("raise", "ValueError: the widths 3 and 4 clash"),
        ("python memory", "out of memory (MemoryError)"),
        ("cuda memory", "out of memory (CUDA out of memory"),
        ("sys.exit", "the evaluator called sys.exit(3)"),
    ],
)
def test_trouble_becomes_one_sentence_and_the_worker_goes_on(shared, tmp_path, how, expected):
    job = make_job(tmp_path, 1, "fails", how=how)
    shared.start(job)
    *reports, failed = all_events(shared, 1)
    assert [event.report.step for event in reports] == [1, 2]
    assert failed.kind == "failed"
    assert failed.reason.startswith(expected)
    assert "Traceback" in Path(job.folder, "error.txt").read_text()
    shared.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(shared, 2)) == 3


def test_nan_and_foreign_numbers_arrive_as_plain_floats(shared, tmp_path):
    shared.start(make_job(tmp_path, 1, "fails", how="nan", at=3))
    value = all_events(shared, 1)[-1].report.metrics["score"]
    assert value != value
    shared.start(make_job(tmp_path, 2, "tensors"))
    assert shared.next_event().report.metrics == {"score": 0.5, "threads": 1.0, "seed": 7.0}


def test_stop_closes_the_evaluator_on_the_worker_and_silences_the_job(shared, tmp_path):
    job = make_job(tmp_path, 1, "counts", budget=1000, pause=0.02)
    shared.start(job)
    shared.next_event()
    shared.stop(1)
    until(lambda: Path(job.folder, "closed").exists() and Path(job.folder, "closed").read_text())
    assert int(Path(job.folder, "closed").read_text()) < 1000
    shared.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(shared, 2)) == 3


def test_a_job_started_right_after_a_stop_runs_when_the_unit_under_way_is_done(shared, tmp_path):
    for number in (1, 2):
        shared.start(make_job(tmp_path, number, "counts", budget=50, pause=0.2))
    shared.stop(1)
    shared.stop(2)
    shared.start(make_job(tmp_path, 3, "counts"))
    shared.start(make_job(tmp_path, 4, "counts"))
    assert sorted(shared.next_event().number for _ in range(6)) == [3, 3, 3, 4, 4, 4]


def test_a_killed_worker_is_replaced_and_its_candidate_continues_from_its_folder(shared, tmp_path):
    job = make_job(tmp_path, 1, "checkpoints", budget=6, deaths=1)
    shared.start(job)
    events = all_events(shared, 1)
    assert [event.report.step for event in events] == [1, 2, 3, 4, 5, 6]
    first, second = log_of(job)
    assert first.startswith("start reported=0 done=0")
    assert second.startswith("start reported=2 done=3")
    assert first.split("pid=")[1] != second.split("pid=")[1]


def test_a_worker_killed_from_outside_costs_no_step_twice(shared, tmp_path):
    job = make_job(tmp_path, 1, "checkpoints", budget=8, pause=0.1)
    shared.start(job)
    steps = [shared.next_event().report.step]
    os.kill(int(log_of(job)[0].split("pid=")[1]), signal.SIGKILL)
    steps += [event.report.step for event in all_events(shared, 1)]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(log_of(job)) == 2


def test_reports_repeated_after_a_restart_are_dropped(shared, tmp_path):
    shared.start(make_job(tmp_path, 1, "repeats", budget=5, reported=3))
    assert [event.report.step for event in all_events(shared, 1)] == [4, 5]


@pytest.mark.parametrize(("evaluator", "params", "steps"), [("checkpoints", {"deaths": 2}, 5), ("fails", {"how": "os._exit"}, 2)])
def test_a_second_death_is_the_candidate_s_failure(shared, tmp_path, evaluator, params, steps):
    shared.start(make_job(tmp_path, 1, evaluator, budget=9, **params))
    *reports, failed = all_events(shared, 1)
    assert [event.report.step for event in reports] == list(range(1, steps + 1))
    assert failed.kind == "failed"
    assert failed.reason.startswith("its worker died twice, the last time after step")
    shared.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(shared, 2)) == 3


def test_a_hang_ends_at_the_time_limit_and_the_worker_is_replaced(limited, tmp_path):
    limited.start(make_job(tmp_path, 1, "fails", how="hang"))
    *reports, failed = all_events(limited, 1)
    assert len(reports) == 2
    assert failed.reason.startswith("time limit of 1 s reached after step 2")
    limited.start(make_job(tmp_path, 2, "counts"))
    assert len(all_events(limited, 2)) == 3


def test_a_stopped_job_that_hangs_does_not_cost_the_next_one_its_time(limited, tmp_path):
    limited.start(make_job(tmp_path, 1, "fails", how="hang"))
    limited.next_event()
    limited.stop(1)
    limited.start(make_job(tmp_path, 2, "counts", budget=3, pause=0.1))
    assert [event.report.step for event in all_events(limited, 2)] == [1, 2, 3]


def test_closing_closes_the_evaluators_and_leaves_a_session_that_is_not_its_own(tmp_path):
    import ray

    executor = RayExecutor(workers=1, threads=1)
    job = make_job(tmp_path, 1, "counts", budget=1000, pause=0.02)
    executor.start(job)
    executor.next_event()
    executor.close()
    executor.close()
    assert Path(job.folder, "closed").exists()
    assert ray.is_initialized()


def test_a_gpu_that_is_not_there_is_a_mistake():
    with pytest.raises(ConfigError, match=r"workers: 1 with gpus: 1 each were asked for, but Ray finds 0 GPUs"):
        RayExecutor(workers=1, gpus=1, threads=1)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("nonsense", 'The ray.address "nonsense" is not of the form host:port'), ("127.0.0.1:1", 'No Ray cluster answers at "127.0.0.1:1"')],
)
def test_an_address_without_a_cluster_is_a_mistake(address, sentence):
    with pytest.raises(ConfigError, match=sentence):
        RayExecutor(workers=1, address=address)


def test_capacity_counts_whole_and_shared_gpus_per_machine():
    two_machines = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 2.0}]
    check_capacity(two_machines, workers=6, gpus=0.5, threads=2)
    check_capacity(two_machines, workers=1, gpus=2, threads=2)
    with pytest.raises(ConfigError, match="enough for 3 of them"):
        check_capacity(two_machines, workers=4, gpus=0.6, threads=2)
    with pytest.raises(ConfigError, match="enough for 1 of them"):
        check_capacity(two_machines, workers=2, gpus=2, threads=2)
    with pytest.raises(ConfigError, match="a fraction below 1"):
        check_capacity(two_machines, workers=1, gpus=1.5, threads=2)
    with pytest.raises(ConfigError, match="CPUs for 2 of them"):
        check_capacity(two_machines, workers=4, gpus=0, threads=5)


@pytest.mark.parametrize(("machines", "workers", "share"), [([8], 2, 4), ([2], 4, 1), ([8, 8], 2, 8), ([2, 16], 3, 2)])
def test_threads_are_an_equal_share_that_fits_every_machine(machines, workers, share):
    assert threads_per_worker([{"CPU": float(cpus)} for cpus in machines], workers) == share


def test_everything_listens_on_the_loopback_interface_only():
    import ray

    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}


def test_events_survive_the_way_as_text():
    for event in (WorkerEvent(3, "report", Report(2, {"a": 0.1}, 1.5, True)), WorkerEvent(4, "failed", reason="too wide")):
        assert event_from_text(event_text(event, 5)) == (5, event)


def step_of(text) -> tuple[int, int]:
    """Place and step of a report as text."""
    place, event = event_from_text(text)
    return place, event.report.step


def test_answers_that_overtake_each_other_are_put_in_order(shared, tmp_path):
    shared.start(make_job(tmp_path, 1, "counts", budget=4))
    slot = next(slot for slot in shared._pool if slot.job is not None)
    answers = []
    while len(answers) < 2:
        of, *answer = shared._answers.get(timeout=20)
        if of is slot and answer[1] == slot._ticket:
            answers.append(answer)
        else:
            of.hear(*answer)
    assert slot.hear(*answers[1]) == []
    assert [event.report.step for event in slot.hear(*answers[0])] == [1, 2]
    assert [event.report.step for event in all_events(shared, 1)] == [3, 4]


def test_a_worker_ignores_what_belongs_to_an_earlier_job(tmp_path):
    worker = Worker(threads=1)
    text = json.dumps(make_job(tmp_path, 1, "counts").to_json())
    assert step_of(worker.pull(5, text)) == (1, 1)
    assert worker.pull(4, text) is None
    assert worker.pull(4, None) is None
    worker.finish(4)
    worker.stop(4)
    assert step_of(worker.pull(5, None)) == (2, 2)
    worker.stop(5)
    assert worker.pull(5, None) is None
    assert (tmp_path / "0001" / "closed").exists()


def test_workers_that_cannot_start_end_the_study_with_a_sentence(monkeypatch, tmp_path):
    executor = RayExecutor(workers=1, threads=1)
    try:
        slot = executor._pool[0]
        error = RuntimeError("No module named archwright")
        monkeypatch.setattr(slot, "_replace", lambda: None)
        for _ in range(2):
            slot._trouble(error, 0, False)
        with pytest.raises(ArchwrightError, match="cannot start .No module named archwright."):
            slot._trouble(error, 0, False)
    finally:
        executor.close()


@pytest.mark.slow
def test_starting_working_dying_and_closing_print_nothing(tmp_path):
    """In a process of its own, as Ray reads its settings when it is imported."""
    script = tmp_path / "quiet.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "from archwright.evaluators.executors.ray_pool import RayExecutor\n"
        "from tests.executor_cases import all_events, make_job\n"
        "executor = RayExecutor(workers=1, threads=1)\n"
        "executor.start(make_job(pathlib.Path(sys.argv[1]), 1, 'checkpoints', budget=4, deaths=1))\n"
        "assert len(all_events(executor, 1)) == 4\n"
        "time.sleep(1)\n"
        "executor.close()\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)}, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
