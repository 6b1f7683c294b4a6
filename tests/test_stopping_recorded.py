"""Recorded learning curves of any Parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest

from archwright.search_space.errors import ConfigError
from archwright.studies.stopping.recorded import load_curves

DATA = Path(__file__).parents[2] / "shared" / "data" / "curves"


def _file(folder: Path, **columns: object) -> Path:
    path = folder / "mine.parquet"
    pandas.DataFrame(columns).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "metric", "direction", "log"),
    [
        ("metaqnn_cifar10", (1000, 20), "acc", "max", False),
        ("deep_resnets_cifar10", (486, 50), "acc", "max", False),
        ("lstm_ptb", (280, 60), "ppl", "min", True),
        ("nasbench_nlp_wikitext2_a", (171, 50), "val_losses", "min", True),
    ],
)
def test_the_shared_collections_need_no_option(name: str, shape: tuple[int, int], metric: str, direction: str, log: bool) -> None:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip("the recorded curves of ../shared/data are not here")
    found = load_curves(path)
    assert (found.name, found.curves.shape, found.metric, found.direction, found.log) == (name, shape, metric, direction, log)
    assert len(found.features) == len(found) == shape[0]
    assert all(found.features)
    best = found.values[np.nanargmax(found.finals), -1]
    assert best == (np.nanmax if direction == "max" else np.nanmin)(found.values[:, -1])


def test_columns_of_steps_may_start_at_0_or_1_and_features_are_as_predictors_see_them(tmp_path: Path) -> None:
    path = _file(
        tmp_path, rate=[0.001, 0.1], depth=[2, 3], one=[1, 1], run_id=[7, 8], acc_0=[0.1, 0.2], acc_1=[0.3, None], acc_2=[0.5, 0.4]
    )
    found = load_curves(path)
    assert found.metric == "acc"
    assert np.array_equal(found.curves, [[0.1, 0.3, 0.5], [0.2, np.nan, 0.4]], equal_nan=True)
    assert found.features == [{"rate": pytest.approx(np.log(0.001)), "depth": 2.0}, {"rate": pytest.approx(np.log(0.1)), "depth": 3.0}]


def test_lists_may_end_early_and_a_loss_is_made_small(tmp_path: Path) -> None:
    path = _file(tmp_path, val_loss=[[2.0, 1.0, 0.5], [3.0, np.inf]], train_loss=[[1.0, 1.0, 1.0], [1.0, 1.0]])
    found = load_curves(path)
    assert (found.metric, found.direction, found.log) == ("val_loss", "min", True)
    assert np.allclose(found.curves, -np.log([[2.0, 1.0, 0.5], [3.0, np.nan, np.nan]]), equal_nan=True)
    assert np.isnan(found.finals[1])


def test_an_option_overrides_what_the_name_says(tmp_path: Path) -> None:
    path = _file(tmp_path, train_loss=[[2.0, 1.0, -0.5]], test_score=[[1.0, 2.0, 3.0]])
    found = load_curves(path, metric="train_loss", direction="max")
    assert (found.direction, found.log) == ("max", False)
    below_zero = load_curves(path, metric="train_loss")
    assert not below_zero.log, "a metric that is not positive throughout has no logarithm"
    assert np.array_equal(below_zero.curves, [[-2.0, -1.0, 0.5]])


@pytest.mark.parametrize(
    ("columns", "options", "sentence"),
    [
        ({"a": [1.0]}, {}, "has no learning curve"),
        ({"x": [[1.0, 2.0, 3.0]], "y": [[1.0, 2.0, 3.0]]}, {}, r"several curves \(x, y\)"),
        ({"x": [[1.0, 2.0, 3.0]]}, {"metric": "xx"}, 'no curve "xx"'),
        ({"x": [[1.0, 2.0, 3.0]]}, {"direction": "up"}, "must be max or min"),
        ({"x": [[1.0, 2.0]]}, {}, "fewer than 3 steps"),
    ],
)
def test_a_wrong_file_gets_one_sentence(tmp_path: Path, columns: dict[str, object], options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_curves(_file(tmp_path, **columns), **options)


def test_a_file_that_is_none_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_text("nothing")
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        load_curves(tmp_path / "no.parquet")
