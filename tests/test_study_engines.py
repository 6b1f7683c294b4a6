"""The same study under Ray actors and under Ray Tune: workers beside the driver, killed and resumed."""

from __future__ import annotations

import signal
import time

import pytest
import yaml

from archwright.studies.config import make_config
from archwright.studies.journal import read_journal
from archwright.studies.launch import resume, run
from archwright.studies.parts import assemble

from .test_study_launch import PLUGIN, driver, fields

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


@pytest.mark.parametrize("engine", ["ray", "tune"])
def test_every_trial_once_and_the_journal_fixes_the_controller(tmp_path, plugin, engine):
    result = run(fields(plugin, tmp_path, engine=engine, workers=2))
    assert result.ledger.evaluated == 20
    for kind in ("asked", "told"):
        numbers = [event["n"] for event in read_journal(result.folder / "journal.jsonl") if event["event"] == kind]
        assert sorted(numbers) == list(range(result.ledger.asks))
    assert assemble(make_config(result.config)).template["budget"] == 3
    inline = resume(result.folder, "+3", engine="inline", workers=1)
    assert inline.ledger.evaluated == 23


def test_a_killed_driver_leaves_workers_that_end_and_a_study_that_goes_on(tmp_path, plugin):
    path, journal = tmp_path / "study.yaml", tmp_path / "study" / "journal.jsonl"
    path.write_text(yaml.safe_dump(fields(plugin, tmp_path, engine="ray", workers=2, evaluator={"name": "launch-score", "pause": 0.1})))
    process = driver("run", path)
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline and b'"told"' not in (journal.read_bytes() if journal.exists() else b""):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {event["n"] for event in read_journal(journal) if event["event"] == "told"}
    assert before
    result = resume(tmp_path / "study")
    assert result.ledger.evaluated == 20
    events = list(read_journal(journal))
    again = next(index for index, event in enumerate(events) if event["event"] == "resumed")
    assert not before & {event.get("n") for event in events[again + 1 :]}
    steps = [(event["n"], event["step"]) for event in events if event["event"] == "report"]
    assert len(set(steps)) == len(steps)
