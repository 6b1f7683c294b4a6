"""The display: what it counts, and that it needs no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from archwright.studies.config import make_config
from archwright.studies.leaderboard import leaderboard, leaderboard_table, look_further
from archwright.studies.progress import Progress, running_rows

from .study_toys import Killed, Median, Workers, begun, completed, drive, parts, resumed

CONFIG = make_config({"space": "toy", "controller": "greedy"})


def display(folder, terminal=False):
    return Progress(CONFIG, folder, console=Console(file=io.StringIO(), force_terminal=terminal, width=120))


def test_plain_lines_without_a_terminal(tmp_path):
    shown = display(tmp_path)
    study = completed(begun(tmp_path, parts(stopper=Median()), 20, followers=[shown]))
    lines = shown.console.file.getvalue().splitlines()
    told = [line for line in lines if line.startswith("trial ")]
    assert len(told) == 20
    assert sum(" stopped " in line.partition("|")[0] for line in told) == study.ledger.counts["stopped"]
    best = leaderboard(study.ledger)[0]
    assert lines[-1].startswith(f"20/20 · best score {best['score']:.4g} (trial {best['trial']})")
    assert "\x1b" not in shown.console.file.getvalue()


def test_saved_epochs_are_those_the_stopper_left(tmp_path):
    shown = display(tmp_path)
    study = completed(begun(tmp_path, parts(stopper=Median()), 20, followers=[shown]))
    stopped = [trial.outcome for trial in study.ledger.trials.values() if trial.outcome.status == "stopped"]
    assert shown.tally.saved == sum(4 - outcome.steps for outcome in stopped) > 0
    assert shown.tally.counts == study.ledger.counts


def test_running_candidates_with_epoch_and_metric(tmp_path):
    shown = display(tmp_path)
    study = begun(tmp_path, parts(), 20, followers=[shown])
    with pytest.raises(Killed):
        drive(study, Workers(3, dies_after=7))
    rows = running_rows(shown.tally)
    assert len(rows) == 3
    assert [row[0].split()[-1] for row in rows] == [str(n) for n in sorted(study.ledger.running)]
    assert any(row[2].startswith("score ") for row in rows)


def test_a_terminal_gets_the_live_display(tmp_path):
    shown = display(tmp_path, terminal=True)
    completed(begun(tmp_path, parts(), 5, followers=[shown]))
    text = shown.console.file.getvalue()
    assert "\x1b" in text
    assert "5/5" in text


def test_the_past_is_counted_but_not_shown(tmp_path):
    completed(begun(tmp_path, parts(), 6))
    shown = display(tmp_path)
    completed(resumed(tmp_path, parts(), 8, [shown]))
    lines = shown.console.file.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("trial ")]) == 2
    assert any(line.startswith("resumed at 6/") for line in lines)
    assert lines[-1].startswith("8/8")


def test_the_leaderboard_prints_every_row_and_objective(tmp_path):
    study = completed(begun(tmp_path, parts(), 6))
    rows = leaderboard(study.ledger, 4)
    console = Console(file=io.StringIO(), width=200)
    console.print(leaderboard_table(rows, study.ledger.objectives, title="best"))
    text = console.file.getvalue()
    assert "score" in text
    for row in rows:
        assert f"{row['score']:.4g}" in text


def test_look_further_names_the_best():
    assert "archwright show runs/x 7" in look_further("runs/x", 7)
    assert not any("show" in line for line in look_further("runs/x", None))
