"""The benchmark of stopping in studies that train: what is read off the journals."""

from __future__ import annotations

import json

import pytest

from archwright.studies import launch
from archwright.studies.benchmarks import live_stopping as live


def _told(n, status, value, time):
    return {"event": "told", "n": n, "outcome": {"status": status, "metrics": {"val_accuracy": value}}, "time": time}


def _report(n, time):
    return {"event": "report", "n": n, "time": time}


def test_epochs_and_seconds_until_a_value_leave_out_pauses_and_stopped_candidates(tmp_path):
    events = [
        {"event": "study", "time": 0.0},
        _report(0, 10.0),
        _told(0, "completed", 0.8, 11.0),
        _report(1, 20.0),
        _told(1, "stopped", 0.95, 20.0),
        _report(2, 20.0 + 10 * live.SILENCE),  # gone on with after a pause
        _report(2, 25.0 + 10 * live.SILENCE),
        _told(2, "completed", 0.9, 25.0 + 10 * live.SILENCE),
        _told(3, "completed", 0.7, 26.0 + 10 * live.SILENCE),
    ]
    (tmp_path / launch.JOURNAL).write_text("".join(json.dumps(event) + "\n" for event in events))
    steps = list(live.progress(tmp_path))
    assert steps == [(1, 11.0, 0.8), (4, 25.0, 0.9), (4, 26.0, 0.9)]
    assert live.until(steps, 0.85) == (4, 25.0)
    assert live.until(steps, 0.95) is None


def _run(steps, epochs):
    return {"steps": steps, "best": steps[-1][2], "epochs": epochs, "seconds": steps[-1][1]}


def test_a_stopper_is_compared_with_the_unstopped_study_of_its_seed():
    plain = _run([(16, 100.0, 0.80), (32, 200.0, 0.90), (64, 400.0, 0.90)], 64)
    good = _run([(16, 100.0, 0.80), (20, 130.0, 0.899), (30, 200.0, 0.899)], 32)
    bad = _run([(16, 100.0, 0.80)], 16)
    found = live.summary({live.WITHOUT: [plain], "good": [good], "bad": [bad]})
    row = found["good"]["seeds"][0]
    assert row["points_lost"] == pytest.approx(0.1)
    assert not row["lost"]
    assert (row["epochs_saved_times"], row["seconds_saved_times"]) == (2.0, 2.0)
    assert row["epochs_to_the_best_times"] == 32 / 20
    assert found["bad"]["seeds"][0]["lost"]
    assert found["bad"]["means"]["epochs_to_the_best_times"] is None
    assert found["bad"]["means"]["points_lost"] == pytest.approx(10.0)
