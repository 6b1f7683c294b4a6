"""``engine: tune``: a driver's jobs under Ray Tune, with reused actors."""

from pathlib import Path

import pytest

from archwright.evaluators.executors import ray_session
from archwright.evaluators.tune import TuneEngine
from archwright.search_space.errors import ConfigError

from .executor_cases import make_job

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture(scope="module", autouse=True)
def ray_session_of_this_module():
    assert ray_session.connect(None, cpus=4)
    yield
    ray_session.disconnect([], grace=0.0, shutdown=True)


class ListDriver:
    """Hands out a list of jobs and writes down what it hears."""

    def __init__(self, jobs, stop_at=None, error_at=None):
        self.jobs, self.stop_at, self.error_at = list(jobs), stop_at or {}, error_at
        self.events = []

    @property
    def finished(self):
        return not self.jobs

    def next_job(self):
        return self.jobs.pop(0) if self.jobs else None

    def heard(self, event):
        self.events.append(event)
        if len(self.events) == self.error_at:
            raise OSError("the journal's disk is full")
        return event.report is not None and event.report.step == self.stop_at.get(event.number)

    def steps(self, number):
        return [event.report.step for event in self.events if event.number == number and event.report]

    def reasons(self):
        return {event.number: event.reason for event in self.events if event.kind == "failed"}


def run(driver, **options):
    TuneEngine(driver, threads=1, **{"workers": 2, **options}).run()


def test_jobs_reports_stops_and_failures(tmp_path):
    jobs = [
        make_job(tmp_path, 1, "counts"),
        make_job(tmp_path, 2, "counts", budget=9),
        make_job(tmp_path, 3, "fails", how="raise"),
        make_job(tmp_path, 4, "fails", how="hang"),
        make_job(tmp_path, 5, "counts", budget=4, reported=2),
        make_job(tmp_path, 6, "counts"),
    ]
    driver = ListDriver(jobs, stop_at={2: 4})
    run(driver, time_limit=1.0)
    assert [driver.steps(number) for number in range(1, 7)] == [[1, 2, 3], [1, 2, 3, 4], [1, 2], [1, 2], [3, 4], [1, 2, 3]]
    reasons = driver.reasons()
    assert set(reasons) == {3, 4}
    assert reasons[3] == "ValueError: the widths 3 and 4 clash"
    assert reasons[4].startswith("time limit of 1 s reached after step 2")
    assert Path(tmp_path, "0002", "closed").read_text() == "4"
    last = [event.report for event in driver.events if event.number == 6][-1]
    assert (last.metrics, last.last) == ({"score": 18.0}, True)


@pytest.mark.slow
def test_a_killed_worker_s_candidate_continues_once_and_fails_the_second_time(tmp_path):
    jobs = [make_job(tmp_path, 1, "checkpoints", budget=6, deaths=1), make_job(tmp_path, 2, "checkpoints", budget=9, deaths=2)]
    driver = ListDriver(jobs)
    run(driver)
    assert driver.steps(1) == [1, 2, 3, 4, 5, 6]
    assert driver.steps(2) == [1, 2, 3, 4, 5]
    assert driver.reasons() == {2: driver.reasons()[2]}
    assert driver.reasons()[2].startswith("its worker died twice, the last time after step 5")
    starts = Path(tmp_path, "0001", "log").read_text().splitlines()
    assert [line.split("done=")[1].split()[0] for line in starts] == ["0", "3"]


def test_an_error_of_the_driver_ends_the_run_and_is_raised(tmp_path):
    driver = ListDriver([make_job(tmp_path, number, "counts", budget=50, pause=0.05) for number in range(1, 9)], error_at=3)
    with pytest.raises(OSError, match="disk is full"):
        run(driver)
    assert len(driver.events) == 3


def test_nothing_to_do_is_done_at_once():
    run(ListDriver([]))


def test_a_gpu_that_is_not_there_is_a_mistake():
    with pytest.raises(ConfigError, match="Ray finds 0 GPUs"):
        run(ListDriver([]), gpus=1)
