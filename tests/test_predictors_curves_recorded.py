"""Predictors from curves on recorded trainings, and the benchmark that measures them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archwright.search_space.protocols import Observation
from archwright.studies.benchmarks import curve_prediction
from archwright.testing.predictors import made_up_curves

DATA = Path(__file__).parents[2] / "shared/data/curves"
FLOORS = {("metaqnn_cifar10", 5): 0.9, ("deep_resnets_cifar10", 25): 0.65, ("lstm_ptb", 30): 0.85}
"""R squared that one draw of 100 curves to learn from must reach; the means of the benchmark lie well above."""


@pytest.mark.parametrize(("name", "step"), FLOORS)
def test_the_end_of_recorded_trainings_is_foreseen(name, step):
    if not (DATA / f"{name}.parquet").exists():
        pytest.skip(f"{DATA / name}.parquet is not there")
    members = ("last-value", "last-value-line", "curve-ensemble")
    found = curve_prediction.measure(str(DATA), (name, step, 0), members)
    ours = found["curve-ensemble"]
    assert ours["r2"] > FLOORS[name, step]
    assert ours["r2"] > max(found["last-value"]["r2"], found["last-value-line"]["r2"])
    assert ours["spearman"] >= found["last-value"]["spearman"] - 0.02
    assert 0.8 <= ours["coverage90"] <= 0.98
    assert ours["answered"] == 1.0


def test_scores_by_hand():
    history, others = made_up_curves(20, 0), made_up_curves(40, 1)
    asked = [Observation(seen.curve[:11], seen.features) for seen in others]
    finals, last = np.array([seen.final for seen in others]), np.array([seen.curve[10] for seen in others])
    found = curve_prediction.scores("last-value", history, asked, finals, 0)
    best = np.argsort(finals)[-4:]
    assert found["r2"] == pytest.approx(1 - np.square(last - finals).sum() / (40 * finals.var()))
    assert found["bias_best_tenth"] == pytest.approx((last - finals)[best].mean())
    assert found["rmse_best_tenth"] == pytest.approx(np.sqrt(np.square((last - finals)[best]).mean()))


def test_a_run_that_was_cut_off_goes_on_and_measurements_of_other_code_are_left(tmp_path):
    rows = [
        {"code": curve_prediction.code(), "task": ["a", 5, 0], "scores": {"m": 1}},
        {"code": "other", "task": ["a", 5, 1], "scores": {}},
    ]
    path = tmp_path / "draws.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"code": "x", "ta')
    assert curve_prediction.kept(path) == {("a", 5, 0): {"m": 1}}
    assert curve_prediction.kept(tmp_path / "nothing") == {}
