"""The benchmark of predicted weights: its figures, and that a run goes on where it was stopped."""

import math

import pytest

from archwright.studies.benchmarks.warm_start import epochs_to, main, measured


def test_epochs_to_an_accuracy():
    assert epochs_to([0.1, 0.5, 0.4, 0.9], 0.5) == 2
    assert epochs_to([0.1, 0.5], 0.6) == math.inf


def test_what_both_starts_need_is_counted_on_the_networks_trained_from_both():
    rows = [
        {"network": 0, "start": "drawn", "curve": [0.5, 0.7, 0.8], "seconds": 1.0},
        {"network": 0, "start": "predicted", "curve": [0.73, 0.75, 0.77], "seconds": 3.0, "untrained": 0.4},
        {"network": 1, "start": "drawn", "curve": [0.9, 0.9, 0.9], "seconds": 2.0},
    ]
    found = measured(rows, 3)
    assert found["networks"] == 1
    assert found["epochs_to_0.9"] == {"drawn": 3.0, "predicted": 1.0}
    assert found["epochs_to_0.98"] == {"drawn": 3.0, "predicted": 4.0}
    assert found["reached_0.98"] == {"drawn": 1.0, "predicted": 0.0}
    assert found["final_difference"] == pytest.approx(-0.03)
    assert found["untrained_accuracy"] == 0.4
    assert found["seconds_per_training"] == 2.0


@pytest.mark.slow
def test_a_small_run_goes_on_where_it_was_stopped(tmp_path, capsys):
    small = ["--task", "digits", "--steps", "2", "--meta-batch", "2", "--architectures", "3", "--epochs", "1", "--no-save"]
    folder = ["--folder", str(tmp_path)]
    main([*small, *folder, "--held-out", "1"])
    lines = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert len(lines) == 2
    (tmp_path / "curves.jsonl").write_text(f"{lines[0]}\n")
    capsys.readouterr()
    main([*small, *folder, "--held-out", "1"])
    again = (tmp_path / "curves.jsonl").read_text().splitlines()
    assert again[0] == lines[0]
    assert again[1].partition('"seconds"')[0] == lines[1].partition('"seconds"')[0]
    assert "step 2 of 2" not in capsys.readouterr().out
