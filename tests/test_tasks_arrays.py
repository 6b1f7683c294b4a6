"""Tasks from a user's own arrays: splits, statistics, metrics, and one clear sentence for data that cannot serve."""

import numpy as np
import pytest

from archwright import Task, task
from archwright.evaluators.tasks import load_task
from archwright.evaluators.tasks.splits import split_rows
from archwright.search_space.errors import ArchwrightError, DataError, RegistryError
from archwright.search_space.outcomes import Objective
from archwright.search_space.specs import OutputSpec, TensorSpec


def rows(n=120, columns=4, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, size=(n, columns))


def test_the_kind_of_task_follows_the_target():
    x = rows()
    labelled, valued = Task.from_arrays(x, np.arange(120) % 3), Task.from_arrays(x, x[:, 0])
    assert labelled.output == OutputSpec("classes", 3)
    assert labelled.objective == Objective("val_accuracy", "max")
    assert valued.output == OutputSpec("values", 1)
    assert valued.objective == Objective("val_rmse", "min")


@pytest.mark.parametrize(
    ("shape", "layout", "spec"),
    [
        ((60, 5), None, TensorSpec("table", (5,), (0,) * 5)),
        ((60, 7, 2), None, TensorSpec("sequence", (7, 2))),
        ((60, 7, 6), "image", TensorSpec("image", (1, 7, 6))),
        ((60, 3, 7, 6), None, TensorSpec("image", (3, 7, 6))),
    ],
)
def test_layout_and_shape(shape, layout, spec):
    made = Task.from_arrays(np.random.default_rng(0).normal(size=shape), np.arange(60) % 2, layout=layout)
    assert made.input == spec
    assert made.train.x.shape[1:] == spec.shape
    assert made.train.x.dtype == np.float32


def test_every_row_is_in_exactly_one_split_and_classes_keep_their_shares():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    parts = split_rows(100, labels, ("a", "b", "c"), validation=0.2, test=0.2, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[36, 18, 6], [12, 6, 2], [12, 6, 2]]


def test_splits_follow_the_seed_alone():
    labels = np.arange(90) % 3
    first, again, other = (split_rows(90, labels, "abc", validation=0.2, test=0.2, seed=seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_inputs_are_standardised_with_train_statistics_only():
    x = rows(200)
    made = Task.from_arrays(x, np.arange(200) % 2)
    np.testing.assert_allclose(made.train.x.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(made.train.x.std(axis=0), 1.0, atol=1e-5)
    assert np.abs(made.val.x.mean(axis=0)).max() > 1e-4


def test_a_constant_column_stays_finite():
    x = rows()
    x[:, 1] = 7.0
    assert np.isfinite(Task.from_arrays(x, np.arange(120) % 2).train.x).all()


def test_coded_columns_are_left_as_they_are():
    x = np.stack([np.arange(120) % 3, np.arange(120) / 7.0], axis=1)
    made = Task.from_arrays(x, np.arange(120) % 2, categories=[3, 0])
    assert made.input.categories == (3, 0)
    assert set(made.train.x[:, 0]) == {0.0, 1.0, 2.0}


def test_uint8_images_stay_compact_and_carry_their_scaling():
    x = np.random.default_rng(0).integers(0, 256, size=(60, 1, 5, 5), dtype=np.uint8)
    made = Task.from_arrays(x, np.arange(60) % 2)
    assert made.train.x.dtype == np.uint8
    np.testing.assert_allclose(made.input_scaling.apply(made.train.x).mean(), 0.0, atol=1e-5)


def test_labels_of_any_type_become_indices():
    for labels in (["no", "yes"] * 30, [False, True] * 30, [4, 9] * 30):
        made = Task.from_arrays(rows(60), labels)
        assert len(made.classes) == 2
        assert set(made.train.y) == {0, 1}
        assert made.train.y.dtype == np.int64


def test_values_are_standardised_for_the_loss_and_measured_in_their_own_units():
    x = rows()
    made = Task.from_arrays(x, 1000.0 + 50.0 * x[:, 0])
    assert abs(float(made.train.y.mean())) < 1e-5
    off_by_one_deviation = made.measure(made.val.y + 1.0, made.val.y)
    np.testing.assert_allclose(off_by_one_deviation["rmse"], made.target_scaling.std[0], rtol=1e-5)
    np.testing.assert_allclose(off_by_one_deviation["mae"], made.target_scaling.std[0], rtol=1e-5)
    assert made.measure(made.val.y, made.val.y)["r2"] == 1.0


def test_a_users_metric_is_measured_beside_the_standard_ones_and_can_be_the_objective():
    def worst(outputs, targets):
        assert outputs.shape == targets.shape == (24,)
        return np.abs(outputs - targets).max()

    x = rows()
    made = Task.from_arrays(x, x[:, 0], metrics={"worst": worst}, objective="-val_worst")
    assert made.objective == Objective("val_worst", "min")
    assert set(made.measure(made.val.y, made.val.y)) == {"rmse", "mae", "r2", "worst"}


def test_several_values_per_row():
    x = rows()
    made = Task.from_arrays(x, x[:, :2])
    assert made.output == OutputSpec("values", 2)
    assert made.measure(made.val.y, made.val.y)["rmse"] == 0.0


BAD = {
    "lengths differ": (lambda: Task.from_arrays(rows(), np.arange(7)), r"y has shape \(7,\), but x has 120 rows"),
    "no rows": (lambda: Task.from_arrays(np.zeros((0, 3)), []), "no samples"),
    "missing value": (lambda: Task.from_arrays(np.full((60, 2), np.nan), np.arange(60) % 2), "missing or infinite value"),
    "missing target": (lambda: Task.from_arrays(rows(60), np.full(60, np.nan)), "y holds a missing"),
    "text": (lambda: Task.from_arrays(np.array([["a"]] * 60), np.arange(60) % 2), "expected numbers"),
    "one class": (lambda: Task.from_arrays(rows(60), np.ones(60, int)), "one class '1' in all 60 rows"),
    "constant": (lambda: Task.from_arrays(rows(60), np.ones(60)), "nothing to learn"),
    "small class": (lambda: Task.from_arrays(rows(60), [0] * 58 + [1] * 2), 'class "1" has 2 rows'),
    "few rows": (lambda: Task.from_arrays(rows(2), [0.5, 1.5]), "The data has 2 rows"),
    "axes": (lambda: Task.from_arrays(rows(60), np.arange(60) % 2, layout="image"), r"expected 3 or 4 axes for the layout image"),
    "shares": (lambda: Task.from_arrays(rows(60), np.arange(60) % 2, validation=0.6, test=0.5), "together below 1"),
    "objective": (lambda: Task.from_arrays(rows(60), np.arange(60) % 2, objective="val_rmse"), "val_loss, val_accuracy"),
    "kind": (lambda: Task.from_arrays(rows(60), np.arange(60) % 2, kind="class"), "expected one of auto, classes, values"),
    "text values": (lambda: Task.from_arrays(rows(60), ["a", "b"] * 30, kind="values"), "must be numbers"),
    "matrix of labels": (lambda: Task.from_arrays(rows(60), np.ones((60, 2), int)), "class labels are one per row"),
    "codes": (lambda: Task.from_arrays(rows(60, 2), np.arange(60) % 2, categories=[3, 0]), "must hold codes 0 to 2"),
    "count of categories": (lambda: Task.from_arrays(rows(60, 2), np.arange(60) % 2, categories=[3]), "1 entries, but x has 2 columns"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_gets_one_clear_sentence(mistake):
    make, sentence = BAD[mistake]
    with pytest.raises(DataError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_registered_task_is_loaded_once():
    calls = []

    @task("test-tasks-counted")
    def counted(n=60):
        calls.append(n)
        return Task.from_arrays(rows(n), np.arange(n) % 2)

    spec = {"name": "test-tasks-counted", "params": {"n": 90}}
    assert load_task(spec) is load_task(spec)
    assert len(load_task({"name": "test-tasks-counted", "params": {}}).train) == 36
    assert calls == [90, 60]


def test_a_task_that_cannot_be_loaded_says_why():
    @task("test-tasks-none")
    def none():
        return None

    with pytest.raises(DataError, match="returned NoneType; it must return a Task"):
        load_task({"name": "test-tasks-none"})
    with pytest.raises(DataError, match="unexpected keyword argument 'seeds'"):
        load_task({"name": "digits", "params": {"seeds": 1}})
    with pytest.raises(RegistryError, match='did you mean "digits"'):
        load_task({"name": "digit"})


def test_an_error_inside_a_users_task_is_not_hidden():
    @task("test-tasks-broken")
    def broken():
        return len(None)

    with pytest.raises(TypeError, match="NoneType") as caught:
        load_task({"name": "test-tasks-broken"})
    assert not isinstance(caught.value, ArchwrightError)
