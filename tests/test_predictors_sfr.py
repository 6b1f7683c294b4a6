"""The dual process: its sums, its exactness; and the surrogate that absorbs candidates without being trained again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archwright.evaluators.tables.registry import load_table
from archwright.predictors import sfr
from archwright.predictors.dual_process import DualProcess, gaussian_terms, softmax_terms
from archwright.predictors.encoding.encoder import row_of
from archwright.predictors.sfr import SparseFunctionSpace, trained_on
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Observation
from archwright.search_space.seeds import generator
from archwright.testing import check_surrogate
from archwright.testing.toys import MIXERS, mixers_score

DATA = Path(__file__).parents[2] / "shared/data"


def drawn(count: int, seed: int) -> list[Observation]:
    pairs = [MIXERS.sample(generator(seed, "probe", number)) for number in range(count)]
    return [Observation((), {}, mixers_score(trace), trace, architecture) for architecture, trace in pairs]


def means(surrogate: SparseFunctionSpace, asked: list[Observation]) -> np.ndarray:
    return np.array([one.mean for one in surrogate.predict_many(asked)])


def spreads(surrogate: SparseFunctionSpace, asked: list[Observation]) -> np.ndarray:
    return np.array([one.spread for one in surrogate.predict_many(asked)])


def linear(rows: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width))


def rbf(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(left[:, None] - right[None]).sum(axis=2))


# --- the dual process


@pytest.mark.parametrize(("rows", "width"), [(12, 20), (40, 6)])
def test_a_linear_model_with_every_input_inducing_is_gaussian_process_regression_on_the_residual(rows, width):
    x, asked, delta, noise = linear(rows, width), linear(9, width, 1), 0.7, 0.3
    weights = np.random.default_rng(2).standard_normal(width)
    y = np.sin(x[:, 0]) + x[:, 1]
    prior, cross = x @ x.T / delta, x @ asked.T / delta
    process = DualProcess(prior)
    process.add(prior, *gaussian_terms(y - x @ weights, noise))
    solved = np.linalg.solve(prior + noise * np.eye(rows), np.column_stack([y - x @ weights, cross]))
    own = np.square(asked).sum(axis=1) / delta
    np.testing.assert_allclose(process.correction(cross), cross.T @ solved[:, 0], atol=1e-8)
    np.testing.assert_allclose(process.variance(cross, own), own - (cross * solved[:, 1:]).sum(axis=0), atol=1e-8)


def test_two_batches_equal_one():
    x, asked = linear(30), linear(8, seed=1)
    inducing, y = x[:10], np.cos(x[:, 0])
    whole, parts = DualProcess(rbf(inducing, inducing)), DualProcess(rbf(inducing, inducing))
    whole.add(rbf(inducing, x), *gaussian_terms(y, 0.1))
    parts.add(rbf(inducing, x[:17]), *gaussian_terms(y[:17], 0.1))
    parts.correction(rbf(inducing, asked))
    parts.add(rbf(inducing, x[17:]), *gaussian_terms(y[17:], 0.1))
    cross = rbf(inducing, asked)
    np.testing.assert_allclose(parts.correction(cross), whole.correction(cross), atol=1e-10)
    np.testing.assert_allclose(parts.variance(cross, np.ones(8)), whole.variance(cross, np.ones(8)), atol=1e-10)


def test_variance_shrinks_where_data_are_added_and_is_the_prior_far_away():
    x = linear(12, 2)
    process = DualProcess(rbf(x, x))
    assert process.variance(rbf(x, x), np.ones(12)) == pytest.approx(np.ones(12), abs=1e-6)
    process.add(rbf(x, x[:6]), *gaussian_terms(np.zeros(6), 0.05))
    before = process.variance(rbf(x, x), np.ones(12))
    process.add(rbf(x, x[6:]), *gaussian_terms(np.zeros(6), 0.05))
    after = process.variance(rbf(x, x), np.ones(12))
    assert (before[:6] < 0.06).all()
    assert (after[6:] < 0.06).all()
    assert (after <= before + 1e-12).all()
    far = np.full((3, 2), 40.0)
    assert process.variance(rbf(x, far), np.ones(3)) == pytest.approx(np.ones(3), abs=1e-9)
    assert process.correction(rbf(x, far)) == pytest.approx(np.zeros(3), abs=1e-9)


def test_the_penalty_with_every_input_inducing_is_the_loss_of_the_data():
    x = linear(9, 2)
    process = DualProcess(rbf(x, x))
    curvatures = np.linspace(0.5, 4.0, 9)
    process.add(rbf(x, x), np.zeros(9), curvatures)
    np.testing.assert_allclose(process.penalty(), np.diag(curvatures), atol=1e-5)


def test_the_terms_are_derivatives_of_the_log_likelihood():
    logits, label, step = np.array([0.3, -1.0, 0.8]), 1, 1e-4

    def value(at: np.ndarray) -> float:
        return at[label] - np.log(np.exp(at).sum())

    slopes, curvatures = softmax_terms(np.array([label]), np.exp(logits)[None] / np.exp(logits).sum())
    for one in range(3):
        away = step * np.eye(3)[one]
        assert slopes[0, one] == pytest.approx((value(logits + away) - value(logits - away)) / (2 * step), abs=1e-6)
        bend = (value(logits + away) - 2 * value(logits) + value(logits - away)) / step**2
        assert curvatures[0, one] == pytest.approx(-bend, abs=1e-5)


# --- the surrogate


@pytest.mark.parametrize("absorb", [False, True])
def test_the_surrogate_keeps_the_contract(absorb):
    check_surrogate("sfr", ordered=absorb, absorb=absorb, steps=30)


def test_few_further_candidates_are_absorbed_without_training(monkeypatch):
    trainings = []
    train = sfr.train
    monkeypatch.setattr(sfr, "train", lambda features, *rest, **knobs: trainings.append(len(features)) or train(features, *rest, **knobs))
    history = drawn(46, 0)
    surrogate = SparseFunctionSpace(seed=0, steps=20, min_trials=20, absorb=True)
    for count in range(20, 47):
        surrogate.fit(history[:count])
    assert trainings == [20, 31]
    anew = SparseFunctionSpace(seed=0, steps=20, min_trials=20, absorb=True)
    anew.fit(history)
    asked = drawn(10, 1)
    assert surrogate.predict_many(asked) == anew.predict_many(asked)


def test_update_is_what_fit_does_with_the_rest():
    history, asked = drawn(36, 2), drawn(10, 3)
    one, other = (SparseFunctionSpace(seed=0, steps=30, min_trials=30, absorb=True) for _ in range(2))
    one.fit(history)
    other.fit(history[:30])
    before = means(other, asked)
    other.update(history[30:33])
    other.update(history[33:])
    np.testing.assert_allclose(means(other, asked), means(one, asked), rtol=1e-9)
    assert np.abs(means(other, asked) - before).max() > 1e-3


def test_an_absorbed_candidate_is_known_better_and_others_are_not_known_worse():
    history, added, asked = drawn(30, 4), drawn(4, 5), drawn(20, 6)
    surrogate = SparseFunctionSpace(seed=0, min_trials=30)
    surrogate.fit(history)
    off, doubt, others = (
        np.abs(means(surrogate, added) - [seen.final for seen in added]),
        spreads(surrogate, added),
        spreads(surrogate, asked),
    )
    surrogate.update(added)
    assert np.abs(means(surrogate, added) - [seen.final for seen in added]).mean() < 0.5 * off.mean()
    assert spreads(surrogate, added).mean() < 0.8 * doubt.mean()
    assert spreads(surrogate, asked).mean() < others.mean()


def test_a_score_off_the_scale_is_learned_by_training():
    scores = [0.5, 0.6, 0.7, 0.55, 0.65, 0.62, 0.58, 0.61]
    assert trained_on([*scores, 0.64], 8) == 8
    assert trained_on([*scores, 40.0], 8) == 9
    history = [
        Observation((), {}, score, seen.trace, seen.architecture) for score, seen in zip([*scores, 40.0, 0.6], drawn(10, 7), strict=True)
    ]
    surrogate = SparseFunctionSpace(seed=0, steps=20, absorb=True)
    surrogate.fit(history)
    assert np.isfinite(means(surrogate, history)).all()
    surrogate.update([Observation((), {}, 4000.0, history[0].trace, history[0].architecture)])
    assert np.isfinite(means(surrogate, history)).all()


def test_few_inducing_inputs_serve_many_candidates():
    history, asked = drawn(80, 8), drawn(60, 9)
    surrogate = SparseFunctionSpace(seed=0, n_inducing=16, steps=60)
    surrogate.fit(history)
    assert surrogate.embed(asked).shape == (60, 16)
    truth = np.array([seen.final for seen in asked])
    assert np.square(means(surrogate, asked) - truth).mean() < 0.8 * truth.var()


def test_inner_products_of_embeddings_are_the_kernel():
    history = drawn(24, 10)
    surrogate = SparseFunctionSpace(seed=0, steps=20)
    surrogate.fit(history)
    model = surrogate._fitted.model
    embedded = surrogate.embed(history[:6])
    layers = model.network.layers(surrogate._fitted.encoder([row_of(seen) for seen in history[:6]]))
    np.testing.assert_allclose(embedded @ embedded.T, model.unit * sfr._gram(layers, layers), rtol=1e-5, atol=1e-8)


def test_a_knob_outside_its_domain_is_refused():
    with pytest.raises(ConfigError, match="n_inducing"):
        SparseFunctionSpace(seed=0, n_inducing=4)


def _errors(scores: np.ndarray, pool: list[Observation], draw: int, count: int) -> tuple[list[float], list[float], float]:
    """Mean squared errors on held-out networks while 30 trials come in: absorbed, trained anew; and how often the spread covers."""
    asked = pool[count + 30 :]
    truth = scores[count + 30 :]
    absorbing = SparseFunctionSpace(seed=draw, min_trials=count, absorb=True)
    absorbed, anew = [], []
    for size in range(count + 1, count + 31):
        absorbing.fit(pool[:size])
        absorbed.append(np.square(means(absorbing, asked) - truth).mean())
        if size % 5 == 0:
            retrained = SparseFunctionSpace(seed=draw)
            retrained.fit(pool[:size])
            anew.append(np.square(means(retrained, asked) - truth).mean())
    covered = float(np.mean(np.abs(means(absorbing, asked) - truth) < 1.645 * spreads(absorbing, asked)))
    return absorbed, anew, covered


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "nas").is_dir(), reason="the recorded evaluations are not here (../shared/data)")
@pytest.mark.parametrize(("name", "params"), [("nasbench201", {"dataset": "cifar10"}), ("nasbench-graph", {"dataset": "cora"})])
def test_over_a_stream_of_thirty_trials_the_error_stays_within_a_tenth_of_training_anew(name, params):
    table = load_table(name, {**params, "data": str(DATA)})
    metric = table.metrics[table.objectives[0].metric]
    absorbed, anew, covered = [], [], []
    for draw in range(3):
        pairs = [table.space.sample(generator(draw, "probe", number)) for number in range(290)]
        scores = np.array([float(metric[table.row(architecture)]) for architecture, _ in pairs])
        pool = [Observation((), {}, score, trace, made) for score, (made, trace) in zip(scores, pairs, strict=True)]
        one, other, share = _errors(scores, pool, draw, 60)
        absorbed, anew, covered = absorbed + one, anew + other, [*covered, share]
    ratio = float(np.sqrt(np.mean(absorbed) / np.mean(anew)))
    print(f"{name}: error of absorbing over error of training anew {ratio:.3f}, 90 % intervals cover {np.mean(covered):.1%}")
    assert ratio < 1.1
    assert 0.8 < np.mean(covered) <= 1.0
