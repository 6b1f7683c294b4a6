"""The built-in tasks: digits, tables from CSV and Parquet, images from .npz."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archwright.evaluators.tasks import load_task
from archwright.evaluators.tasks.augment import random_affine, random_shift
from archwright.evaluators.tasks.columns import encode_columns
from archwright.search_space.errors import DataError
from archwright.search_space.outcomes import Objective
from archwright.search_space.specs import OutputSpec, TensorSpec

FASHION = Path(__file__).parents[2] / "shared/data/images/fashion_mnist.npz"


def table(path, target="y", **params):
    return load_task({"name": "table", "params": {"path": str(path), "target": target, **params}})


def images(path, **params):
    return load_task({"name": "images", "params": {"path": str(path), **params}})


# --- digits


def test_digits():
    task = load_task({"name": "digits"})
    assert task.input == TensorSpec("image", (1, 8, 8))
    assert task.output == OutputSpec("classes", 10)
    assert [len(split) for split in (task.train, task.val, task.test)] == [1079, 359, 359]
    assert task.objective == Objective("val_accuracy", "max")
    shares = np.bincount(task.val.y) / 359
    np.testing.assert_allclose(shares, 0.1, atol=0.01)


def test_digits_are_jittered_in_training_unless_told_otherwise():
    assert load_task({"name": "digits"}).augment is not None
    assert load_task({"name": "digits", "params": {"shift": 0, "degrees": 0, "scale": 0}}).augment is None


def test_digits_splits_are_disjoint_images():
    task = load_task({"name": "digits"})
    seen = [{image.tobytes() for image in split.x} for split in (task.train, task.val, task.test)]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 1797


# --- tables


@pytest.fixture
def people():
    draw = np.random.default_rng(0)
    n = 200
    return pd.DataFrame(
        {
            "age": draw.integers(18, 90, n).astype(float),
            "town": draw.choice(["Bern", "Graz", "Linz"], n),
            "member": draw.random(n) < 0.5,
            "y": draw.choice(["no", "yes"], n),
        }
    )


def write(frame, path):
    (frame.to_parquet if path.suffix == ".parquet" else frame.to_csv)(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_column_types_are_inferred(people, tmp_path, suffix):
    task = table(write(people, tmp_path / f"people{suffix}"))
    assert task.input == TensorSpec("table", (3,), (0, 4, 0))
    assert task.classes == ("no", "yes")
    assert set(task.train.x[:, 1]) == {0.0, 1.0, 2.0}
    np.testing.assert_allclose(task.train.x[:, 0].mean(), 0.0, atol=1e-5)


def test_the_kind_of_a_numeric_target(people, tmp_path):
    kinds = {"few integers": np.arange(200) % 5, "many integers": np.arange(200), "reals": np.linspace(0, 1, 200)}
    found = {name: table(write(people.assign(y=y), tmp_path / f"{name}.csv")).output for name, y in kinds.items()}
    assert found == {"few integers": OutputSpec("classes", 5), "many integers": OutputSpec("values", 1), "reals": OutputSpec("values", 1)}
    assert table(tmp_path / "few integers.csv", kind="values").output == OutputSpec("values", 1)


def test_missing_numbers_become_the_train_median_and_are_marked():
    frame = pd.DataFrame({"a": [1.0, np.nan, 5.0, 3.0, 1000.0, np.nan]})
    x, categories = encode_columns(frame, np.array([0, 1, 2, 3]))
    assert x[:, 0].tolist() == [1.0, 3.0, 5.0, 3.0, 1000.0, 3.0]
    assert x[:, 1].tolist() == [0, 1, 0, 0, 0, 1]
    assert categories == (0, 0)


def test_levels_are_those_of_the_train_rows():
    frame = pd.DataFrame({"a": ["x", "y", None, "x", "z", None]})
    x, categories = encode_columns(frame, np.array([0, 1, 2, 3]))
    assert categories == (4,)  # x, y, other, missing
    assert x[:, 0].tolist() == [0, 1, 3, 0, 2, 3]


def test_a_level_missing_only_outside_the_train_rows_is_other():
    x, categories = encode_columns(pd.DataFrame({"a": ["x", "y", None, "z"]}), np.array([0, 1]))
    assert categories == (3,)
    assert x[:, 0].tolist() == [0, 1, 2, 2]


def test_rare_levels_are_joined():
    frame = pd.DataFrame({"a": [f"level {i % 100}" for i in range(1000)]})
    x, categories = encode_columns(frame, np.arange(1000))
    assert categories == (65,)
    assert (x == 64).sum() == 360


def test_text_that_never_repeats_is_left_out_with_a_warning():
    frame = pd.DataFrame({"id": [f"row {i}" for i in range(200)], "b": np.arange(200.0)})
    with pytest.warns(UserWarning, match='"id" differs in every row'):
        x, _ = encode_columns(frame, np.arange(200))
    assert x.shape == (200, 1)


def test_dates_become_numbers_with_a_warning(people, tmp_path):
    dates = pd.date_range("2021-01-01", periods=200, freq="D").astype(str)
    path = write(people.assign(day=dates)[["day", "y"]], tmp_path / "dates.csv")
    with pytest.warns(UserWarning, match='"day" is read as the numbers year, month, day, weekday, hour'):
        task = table(path)
    assert task.input.shape == (3,)  # the year and the hour do not vary


def test_columns_that_do_not_vary_are_left_out(people, tmp_path):
    task = table(write(people.assign(same=1, void=None, word="w"), tmp_path / "same.csv"))
    assert task.input.shape == (3,)


def test_rows_without_a_target_are_left_out_with_a_count(people, tmp_path):
    people.loc[:9, "y"] = None
    with pytest.warns(UserWarning, match='10 of 200 rows lack the target "y"'):
        task = table(write(people, tmp_path / "holes.csv"))
    assert sum(map(len, (task.train, task.val, task.test))) == 190


def test_features_can_be_named(people, tmp_path):
    assert table(write(people, tmp_path / "p.csv"), features=["age"]).input.shape == (1,)


def test_statistics_do_not_see_validation_and_test_rows(people, tmp_path):
    first = table(write(people, tmp_path / "a.csv"))
    ages = people["age"].to_numpy()
    in_train = np.isin(first.train.x[:, 0] * ages.std() + ages.mean(), ages).mean()
    assert in_train < 1.0  # standardised by other numbers than those of the whole file
    np.testing.assert_allclose(first.train.x[:, 0].std(), 1.0, atol=1e-5)


def test_a_changed_file_is_read_again(people, tmp_path):
    path = write(people, tmp_path / "grows.csv")
    assert len(table(path).train) == 120
    write(pd.concat([people, people]), path)
    assert len(table(path).train) == 240


TABLE_MISTAKES = {
    "no file": (None, {}, "There is no file"),
    "no column": ("a,y\n1,0\n", {"target": "yy"}, 'no column "yy" for the target; did you mean "y"\\? Its columns are a, y'),
    "no feature": ("a,y\n1,0\n", {"features": ["b"]}, 'no column "b" for the feature; its columns are a, y'),
    "only a target": ("y\n1\n2\n", {}, 'no column to predict "y" from'),
    "one class": ("a,y\n1,no\n2,no\n3,no\n", {}, "In the column \"y\": The target has the one class 'no'"),
    "no target value": ("a,y\n1,\n2,\n", {}, "missing in all 2 rows"),
    "no rows": ("a,y\n", {}, "no rows"),
    "empty": ("", {}, "cannot be read as CSV"),
    "text as values": ("a,y\n1,no\n2,yes\n", {"kind": "values"}, "holds text, such as 'no'"),
    "nothing varies": ("a,y\n" + "1,0\n1,1\n" * 9, {}, "None of the 1 feature columns varies"),
}


@pytest.mark.parametrize("mistake", TABLE_MISTAKES)
def test_a_table_that_cannot_serve_gets_one_clear_sentence(tmp_path, mistake):
    text, params, sentence = TABLE_MISTAKES[mistake]
    path = tmp_path / "data.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=sentence) as caught:
        table(path, **params)
    assert "\n" not in str(caught.value)


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    (tmp_path / "fake.parquet").write_bytes(b"not parquet at all")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DataError, match="neither CSV nor Parquet by its name"):
        table(tmp_path / "sheet.xlsx")
    for name in ("fake.parquet", "binary.csv"):
        with pytest.raises(DataError, match="cannot be read as CSV or Parquet"):
            table(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read as CSV or Parquet"):
        table(tmp_path / "folder.csv")


# --- images


def arrays(n=60, shape=(6, 5), dtype=np.uint8):
    draw = np.random.default_rng(0)
    return draw.integers(0, 255, size=(n, *shape)).astype(dtype), np.arange(n) % 3


@pytest.mark.parametrize(("shape", "channels"), [((6, 5), 1), ((6, 5, 3), 3), ((3, 6, 5), 3)])
def test_axes_of_images(tmp_path, shape, channels):
    x, y = arrays(shape=shape)
    np.savez(tmp_path / "i.npz", x=x, y=y)
    task = images(tmp_path / "i.npz")
    assert task.input == TensorSpec("image", (channels, 6, 5))
    assert [len(split) for split in (task.train, task.val, task.test)] == [36, 12, 12]
    assert task.train.x.dtype == np.uint8


def test_the_files_own_test_split_is_kept(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "i.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    task = images(tmp_path / "i.npz", limit_train=12)
    assert [len(split) for split in (task.train, task.val, task.test)] == [12, 12, 9]
    assert (task.test.x[:, 0] == x[:9]).all()
    assert (task.test.y == y[:9]).all()


def test_images_that_cannot_serve_get_one_clear_sentence(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "named.npz", images=x, y=y)
    np.savez(tmp_path / "sizes.npz", x_train=x, y_train=y, x_test=x[:, 1:], y_test=y)
    np.savez(tmp_path / "labels.npz", x_train=x, y_train=y, x_test=x, y_test=y + 1)
    np.savez(tmp_path / "objects.npz", x=np.array([{}] * 3, dtype=object), y=np.arange(3))
    np.save(tmp_path / "single.npz.npy", x)
    (tmp_path / "text.npz").write_text("no archive")
    mistakes = {
        "absent.npz": "There is no file",
        "named.npz": r'lacks the array "x" \(of x, y\)',
        "sizes.npz": r"image\(1, 6, 5\) and x_test image\(1, 5, 5\)",
        "labels.npz": 'the label "3" that y_train lacks',
        "objects.npz": "no .npz file of plain arrays",
        "single.npz.npy": "no .npz file of plain arrays",
        "text.npz": "no .npz file of plain arrays",
    }
    for name, sentence in mistakes.items():
        with pytest.raises(DataError, match=sentence):
            images(tmp_path / name)


@pytest.mark.skipif(not FASHION.exists(), reason="Fashion-MNIST is not at ../shared/data/images")
def test_fashion_mnist():
    task = images(FASHION, limit_train=1000)
    assert task.input == TensorSpec("image", (1, 28, 28))
    assert len(task.train) == 1000
    assert len(task.test) == 10_000
    assert len(task.classes) == 10


# --- augmentation


def test_random_shift_moves_each_image_by_whole_pixels():
    x = torch.rand(200, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    shifted = random_shift(1)(x, torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(x, (1,) * 4, mode="replicate")
    moves = [padded[:, :, i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    which = torch.stack([(move == shifted).flatten(1).all(dim=1) for move in moves], dim=1)
    assert which.any(dim=1).all()
    assert which.any(dim=0).all()


def test_random_affine_of_nothing_changes_nothing():
    x = torch.rand(6, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(random_affine(0.0, 0.0, 0.0)(x, torch.Generator().manual_seed(1)), x)


def test_random_affine_moves_a_spot_no_further_than_asked():
    x = torch.zeros(500, 1, 9, 9)
    x[:, :, 4, 4] = 1.0
    moved = random_affine(1.0, 0.0, 0.0)(x, torch.Generator().manual_seed(1))[:, 0]
    places = torch.arange(9.0) - 4.0
    down, across = (moved.sum(2) * places).sum(1), (moved.sum(1) * places).sum(1)
    for offset in (down, across):
        assert 0.95 < float(offset.abs().max()) <= 1.0 + 1e-5
        assert abs(float(offset.mean())) < 0.1
    torch.testing.assert_close(moved.sum((1, 2)), torch.ones(500))


def test_random_affine_turns_about_the_centre():
    x = torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    turned = random_affine(0.0, 30.0, 0.0)(x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(turned[:, :, 4, 4], x[:, :, 4, 4])
    assert not torch.allclose(turned, x, atol=1e-2)


@pytest.mark.parametrize("augment", [random_shift(2), random_affine(1.0, 10.0, 0.1)], ids=["shift", "affine"])
def test_augmentation_draws_from_its_generator_alone(augment):
    x = torch.rand(8, 1, 5, 5)
    before = torch.get_rng_state()
    first, again = (augment(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
