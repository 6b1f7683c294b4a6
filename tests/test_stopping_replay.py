"""Whole studies over recorded curves: virtual time, losses, the oracle, and ``archwright study-stopping``."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pandas
import pytest

import archwright
from archwright.search_space.errors import ArchwrightError, ConfigError
from archwright.search_space.outcomes import Objective
from archwright.search_space.protocols import Verdict
from archwright.studies.command_line import main
from archwright.studies.stopping.oracle import oracle_steps
from archwright.studies.stopping.recorded import load_curves
from archwright.studies.stopping.replay import Replay, drawn, replay
from archwright.studies.stopping.result import interval, summary

from .test_stoppers_risk_bounded import curves_of


class Listener:
    """Stops the candidates it is told to after their first step, and writes down what it hears."""

    def __init__(self, stops=()):
        self.stops, self.heard = set(stops), []

    def started(self, candidate):
        self.heard.append(("started", candidate.number))

    def reported(self, n, report):
        self.heard.append(("reported", n, report.step))

    def verdict(self, n):
        return Verdict(n in self.stops, reason="told to")

    def told(self, n, outcome):
        self.heard.append((outcome.status, n))


@pytest.fixture
def recorded(tmp_path):
    values = curves_of(60, steps=10)
    frame = pandas.DataFrame({f"acc_{step + 1}": values[:, step] for step in range(10)})
    frame["rate"] = np.linspace(0.1, 1, 60)
    frame.to_parquet(tmp_path / "mine.parquet")
    return tmp_path / "mine.parquet"


def small(tmp_path, rows):
    path = tmp_path / "small.parquet"
    pandas.DataFrame({"acc": rows}).to_parquet(path)
    return load_curves(path)


def test_without_a_stopper_everything_is_trained_and_nothing_lost(recorded):
    curves = load_curves(recorded)
    found = replay(curves, drawn(curves, 0), None)
    assert (found.epochs, found.full, found.loss, found.best_stopped, found.completed) == (480, 480, 0.0, False, 48)


def test_workers_run_side_by_side_in_the_order_of_their_numbers(tmp_path):
    curves, listener = small(tmp_path, [[1.0, 2.0, 3.0]] * 3), Listener(stops={0})
    replay(curves, [0, 1, 2], listener, workers=2)
    assert listener.heard == [
        ("started", 0),
        ("started", 1),
        ("reported", 0, 1),
        ("stopped", 0),
        ("started", 2),
        ("reported", 1, 1),
        ("reported", 1, 2),
        ("reported", 2, 1),
        ("reported", 1, 3),
        ("completed", 1),
        ("reported", 2, 2),
        ("reported", 2, 3),
        ("completed", 2),
    ]


def test_a_stopped_best_is_a_loss_by_its_distance_to_the_winner(tmp_path):
    curves = small(tmp_path, [[0.1, 0.2, 0.9], [0.1, 0.2, 0.5], [0.1, 0.2, 0.7]])
    found = replay(curves, [0, 1, 2], Listener(stops={0}))
    assert (found.epochs, found.full, found.best_stopped, found.completed) == (7, 9, True, 2)
    assert found.loss == pytest.approx(0.2)
    assert replay(curves, [0, 1, 2], Listener(stops={0, 1, 2})).loss == math.inf


def test_a_training_that_ended_early_has_failed(tmp_path):
    listener = Listener()
    found = replay(small(tmp_path, [[0.1, 0.2, 0.3], [0.1, 0.2]]), [1, 0], listener)
    assert ("failed", 0) in listener.heard
    assert (found.epochs, found.full, found.loss, found.completed) == (5, 5, 0.0, 1)


def test_each_study_draws_another_four_fifths(recorded):
    curves = load_curves(recorded)
    assert drawn(curves, 3) == drawn(curves, 3) != drawn(curves, 4)
    assert len(set(drawn(curves, 3))) == 48


def test_the_oracle_trains_the_first_and_the_records_to_the_end(tmp_path):
    curves = small(tmp_path, [[0.0, 0.0, final] for final in (0.5, 0.4, 0.505, 0.6, 0.1)])
    assert oracle_steps(curves, range(5), 0.01, whole=2) == (2 * 3 + 1 + 3 + 1, 15)


def test_a_summary_counts_losses_beyond_the_tolerance():
    replays = [Replay(25, 100, loss, loss > 0, 3, {"reach": 2.0}) for loss in (0.0, 0.001, 0.002, 0.01)]
    found = summary("mine", replays, 0.002)
    assert (found.saving, found.loss_rate, found.best_stopped, found.largest_loss) == (4.0, 0.25, 0.75, 0.01)
    assert found.audit == {"reach": 2.0}
    assert interval(0, 100)[1] == pytest.approx(1 - 0.025 ** (1 / 100))


def run(folder, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["archwright", "study-stopping", *words])
        try:
            main()
        except SystemExit as end:
            return end.code or 0
    return 0


def test_the_command_writes_table_json_and_picture_and_goes_on_where_it_was(recorded, capsys):
    words = ["--curves", str(recorded), "--stopper", "risk-bounded:warmup=8", "--stopper", "median", "--jobs", "1", "--plot", "p.svg"]
    assert run(recorded.parent, *words, "--studies", "3", "--format", "json") == 0
    first = capsys.readouterr()
    found = json.loads(first.out)
    assert [item["stopper"] for item in found["stoppers"]] == ["risk-bounded:warmup=8", "median"]
    assert all(item["studies"] == 3 and item["saving"] >= 1 for item in found["stoppers"])
    assert "6 runs to do" in first.err
    assert (recorded.parent / "p.svg").read_text().count("stated risk") == 1
    assert run(recorded.parent, *words, "--studies", "4") == 0
    again = capsys.readouterr()
    assert "2 runs to do (6 on file)" in again.err
    assert "risk-bounded" in again.out
    assert "result.json" in again.out


def test_a_line_cut_short_is_done_again(recorded):
    facts = {"stoppers": ["median"], "studies": 2, "jobs": 1, "out": recorded.parent / "out", "progress": False}
    first = archwright.study_stopping(recorded, **facts)
    assert first.folder is not None
    (file,) = first.folder.glob("median-*.jsonl")
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert archwright.study_stopping(recorded, **facts).to_json() == first.to_json()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stoppers": ["medain"]}, "median"),
        ({"stoppers": ["median", "median"]}, "given twice"),
        ({"stoppers": []}, "list of stoppers"),
        ({"studies": 0}, "at least 1"),
        ({"workers": 0}, "workers of at least 1"),
        ({"tolerance": -1.0}, "not be negative"),
        ({"stoppers": ["median:warmup=0"]}, "warmup"),
    ],
)
def test_mistakes_get_one_sentence_before_anything_runs(recorded, options, sentence):
    with pytest.raises(ArchwrightError, match=sentence):
        archwright.study_stopping(recorded, **{"out": None, "progress": False, **options})


BROKEN = """
from archwright.predictors.registry import stopper


@stopper("test-stopper-that-raises")
class Broken:
    \"\"\"Raises at its first report.\"\"\"

    def __init__(self, objectives, *, seed, budget, trials): ...

    def started(self, candidate): ...

    def reported(self, n, report):
        raise ValueError("one is too many")

    def verdict(self, n): ...

    def told(self, n, outcome): ...
"""


def test_a_stopper_that_raises_ends_the_study_with_its_line(recorded):
    plugin = recorded.parent / "broken.py"
    plugin.write_text(BROKEN)
    with pytest.raises(ArchwrightError, match=r'"test-stopper-that-raises" ended study 0: ValueError: one is too many.*broken\.py'):
        archwright.study_stopping(
            recorded, stoppers=["test-stopper-that-raises"], studies=2, jobs=1, out=None, progress=False, plugins=[str(plugin)]
        )


def test_curves_that_never_end_cannot_be_studied(tmp_path):
    path = tmp_path / "half.parquet"
    pandas.DataFrame({"acc_1": [0.1], "acc_2": [0.2], "acc_3": [None]}).to_parquet(path)
    with pytest.raises(ConfigError, match="ran to the end"):
        archwright.study_stopping(path, out=None, progress=False)


def test_the_objective_is_that_of_the_file(recorded):
    assert load_curves(recorded).objective == Objective("acc", "max")
