"""Training: exact when continued, honest about failures, and nothing left behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archwright import Task, chain, layer, pooled_head, task, tokens
from archwright.evaluators.errors import EvaluationError
from archwright.evaluators.tasks import load_task
from archwright.evaluators.trainer import test_metrics as measure_on_test
from archwright.evaluators.trainer import train
from archwright.evaluators.training import files
from archwright.evaluators.training.loop import Training
from archwright.evaluators.training.recipe import Recipe
from archwright.search_space.protocols import Job
from archwright.testing import check_evaluator


@task("test-trainer-rows")
def rows_task(n=90, valued=False, poisoned=False, loss=None):
    """Three clusters in the plane, or a value that is linear in the plane."""
    draw = np.random.default_rng(0)
    labels = np.arange(n) % 3
    x = draw.normal(size=(n, 2)) + 6.0 * np.eye(3, 2)[labels]
    y = 100.0 + 10.0 * x[:, 0] - 5.0 * x[:, 1] if valued else labels
    made = Task.from_arrays(x, y, loss=loss)
    if poisoned:
        made.train.x[5] = np.nan
    return made


def network(dropout=0.2, **training):
    built = chain(tokens(8), [layer("attention", "mlp", mixer_params={"heads": 2})], pooled_head(dropout=dropout))
    return built.with_training(**training) if training else built


def job(folder, budget=4, number=2, architecture=None, **params):
    made = architecture or network()
    return Job(number, made.to_json(), {"name": "test-trainer-rows", "params": params}, {"name": "train"}, 7, budget, str(folder))


def metrics_of(reports):
    return [dict(report.metrics) for report in reports]


def weights(folder):
    return load_file(Path(folder) / files.WEIGHTS)


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- the contract


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_train_keeps_the_contract_of_evaluators(tmp_path, optimizer):
    check_evaluator("train", replace(job(tmp_path), evaluator={"name": "train", "params": {"optimizer": optimizer}}))


def test_reports_carry_losses_and_the_tasks_metrics(tmp_path):
    reports = list(train(job(tmp_path)))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert set(reports[0].metrics) == {"train_loss", "val_loss", "val_accuracy"}
    valued = list(train(job(tmp_path / "values", valued=True)))
    assert set(valued[0].metrics) == {"train_loss", "val_loss", "val_rmse", "val_mae", "val_r2"}


def test_it_learns(tmp_path):
    last = list(train(job(tmp_path, budget=20), learning_rate=1e-2, batch_size=16))[-1]
    assert last.metrics["val_accuracy"] >= 0.9
    regressor = job(tmp_path / "values", budget=30, architecture=network(dropout=0.0), valued=True)
    valued = list(train(regressor, learning_rate=1e-2, batch_size=8))
    assert valued[-1].metrics["val_r2"] >= 0.8


# --- continuing


def test_killed_and_continued_equals_uninterrupted_bit_for_bit(tmp_path):
    whole = list(train(job(tmp_path / "whole")))
    for epochs in (1, 3):
        running = train(job(tmp_path / str(epochs)))
        first = [next(running) for _ in range(epochs)]
        del running  # what the folder holds is all that a killed process leaves
        rest = list(train(replace(job(tmp_path / str(epochs)), reported=epochs)))
        assert metrics_of(first + rest) == metrics_of(whole)
        assert_same_weights(weights(tmp_path / str(epochs)), weights(tmp_path / "whole"))


def test_a_report_that_was_saved_but_not_journalled_is_repeated_as_it_was(tmp_path):
    running = train(job(tmp_path))
    saved = [next(running) for _ in range(3)]
    running.close()
    assert list(train(replace(job(tmp_path), reported=1)))[:2] == saved[1:]


def test_a_finished_trial_trains_nothing_again(tmp_path, monkeypatch):
    whole = list(train(job(tmp_path)))
    monkeypatch.setattr(Training, "run_epoch", None)
    assert list(train(job(tmp_path))) == whole


@pytest.mark.parametrize("change", [{"number": 3}, {"seed": 8}, {"budget": 5}, {"architecture": network(dropout=0.5).to_json()}])
def test_anothers_checkpoint_is_not_used(tmp_path, change):
    running = train(job(tmp_path))
    next(running), next(running)
    running.close()
    changed = replace(job(tmp_path), **change)
    assert metrics_of(train(changed)) == metrics_of(train(replace(changed, folder=str(tmp_path / "fresh"))))


DAMAGES = [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no archive", lambda data: data[::-1]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_starts_over(tmp_path, damage):
    running = train(job(tmp_path))
    next(running), next(running)
    running.close()
    path = tmp_path / files.CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    assert metrics_of(train(job(tmp_path))) == metrics_of(train(job(tmp_path / "fresh")))


def test_a_pickle_in_place_of_the_checkpoint_is_not_executed(tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "attacked",))

    (tmp_path / files.CHECKPOINT).write_bytes(pickle.dumps(Attack(), protocol=2))
    assert len(list(train(job(tmp_path)))) == 4
    assert not (tmp_path / "attacked").exists()


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    running = train(job(tmp_path))
    next(running)
    before = (tmp_path / files.CHECKPOINT).read_bytes()
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        next(running)
    assert (tmp_path / files.CHECKPOINT).read_bytes() == before


# --- randomness


def test_global_random_state_is_neither_read_nor_changed(tmp_path):
    torch.manual_seed(1)
    first = metrics_of(train(job(tmp_path / "a")))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = metrics_of(train(job(tmp_path / "b")))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second


def test_another_candidate_and_another_study_train_otherwise(tmp_path):
    first, number, seed = (
        metrics_of(train(each)) for each in (job(tmp_path / "a"), job(tmp_path / "b", number=3), replace(job(tmp_path / "c"), seed=8))
    )
    assert first != number
    assert first != seed


def test_epochs_differ_in_order_and_dropout(tmp_path):
    training = Training(job(tmp_path), load_task({"name": "test-trainer-rows"}), Recipe())
    assert len({training._seed(purpose, epoch) for purpose in ("data", "train") for epoch in (1, 2, 3)}) == 6


# --- files


def test_a_finished_folder_holds_weights_and_a_report(tmp_path):
    reports = list(train(job(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [files.WEIGHTS, files.REPORT]
    written = json.loads((tmp_path / files.REPORT).read_text())
    assert written["metrics"] == dict(reports[-1].metrics)
    assert len(written["reports"]) == 4


def test_the_test_split_is_measured_with_the_trained_weights(tmp_path):
    list(train(job(tmp_path, budget=20), learning_rate=1e-2, batch_size=16))
    measured = measure_on_test(job(tmp_path, budget=20))
    assert set(measured) == {"test_loss", "test_accuracy"}
    assert measured["test_accuracy"] >= 0.9
    assert measured == measure_on_test(job(tmp_path, budget=20))


def test_a_stopped_candidate_is_measured_with_its_checkpoint(tmp_path):
    running = train(job(tmp_path))
    next(running)
    running.close()
    assert 0.0 <= measure_on_test(job(tmp_path))["test_accuracy"] <= 1.0


def test_training_never_reads_the_test_split(tmp_path):
    made = load_task({"name": "test-trainer-rows"})
    first = metrics_of(train(job(tmp_path / "a")))
    before = made.test.x.copy()
    try:
        made.test.x[:] = np.nan
        assert metrics_of(train(job(tmp_path / "b"))) == first
    finally:
        made.test.x[:] = before


# --- failures


def test_a_loss_that_is_not_finite_is_a_failure_with_a_reason(tmp_path):
    with pytest.raises(EvaluationError, match=r"The training loss became nan in epoch 1; try a learning rate below 0.0"):
        list(train(job(tmp_path, poisoned=True)))


def test_a_folder_without_weights_is_a_clear_error(tmp_path):
    with pytest.raises(EvaluationError, match="holds no readable weights"):
        measure_on_test(job(tmp_path))
    (tmp_path / files.WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match="holds no readable weights"):
        measure_on_test(job(tmp_path))


TRAINING_MISTAKES = {
    "learning_rte": (0.1, 'training field "learning_rte", unknown to the trainer; did you mean "learning_rate"'),
    "learning_rate": (-0.1, 'sets "learning_rate" to -0.1; expected a number from 1e-07 to 100'),
    "optimizer": ("adan", "sets \"optimizer\" to 'adan'; expected one of adamw, adam, sgd"),
    "batch_size": (0, 'sets "batch_size" to 0; expected an integer from 1'),
}


@pytest.mark.parametrize("field", TRAINING_MISTAKES)
def test_a_wrong_training_field_is_a_clear_error(tmp_path, field):
    value, sentence = TRAINING_MISTAKES[field]
    with pytest.raises(EvaluationError, match=sentence):
        list(train(job(tmp_path, architecture=network(**{field: value}))))


def test_an_unknown_loss_is_a_clear_error(tmp_path):
    with pytest.raises(EvaluationError, match='has the loss "hinge"; expected cross-entropy, mse or a function'):
        list(train(job(tmp_path, loss="hinge")))


# --- what the space chooses


def test_the_architectures_training_fields_override_the_evaluators(tmp_path):
    chosen = network(learning_rate=1e-2, optimizer="sgd", batch_size=16)
    by_space = metrics_of(train(job(tmp_path / "a", architecture=chosen)))
    assert by_space != metrics_of(train(job(tmp_path / "b")))
    plain = job(tmp_path / "c")
    assert by_space == metrics_of(train(plain, learning_rate=1e-2, optimizer="sgd", batch_size=16))


@pytest.mark.slow
def test_a_small_recurrent_network_reads_digits(tmp_path):
    built = chain(tokens(32, patch=4), [layer("rg-lru", "swiglu"), layer("rg-lru", "swiglu")], pooled_head())
    digits = Job(0, built.to_json(), {"name": "digits", "params": {}}, {"name": "train"}, 0, 15, str(tmp_path))
    assert list(train(digits))[-1].metrics["val_accuracy"] >= 0.975
    assert measure_on_test(digits)["test_accuracy"] >= 0.965
