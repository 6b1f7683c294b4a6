"""Reservoir conformal intervals: of time series, by hand and on noise that comes and goes; and of learning curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archwright.predictors.conformal_series import ReservoirIntervals, interval_scores
from archwright.predictors.rescp import ReservoirCurves
from archwright.predictors.reservoir import Reservoir, similarity_weights, weighted_quantile
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Observation
from archwright.testing import check_predictor
from archwright.testing.predictors import made_up_curves

DATA = Path(__file__).parents[2] / "shared/data"
PERIOD = 40


def noisy_sine(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, the forecasts that know everything but the noise, and the phase; the noise is ten times larger at one phase than another."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(count) / PERIOD
    spread = 0.55 - 0.45 * np.cos(phase)
    mean = np.sin(phase)
    return mean + spread * rng.standard_normal(count), mean, phase % (2 * np.pi)


def run(intervals: ReservoirIntervals, values: np.ndarray, forecasts: np.ndarray, seen: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals from step ``seen`` on."""
    intervals.calibrate(values[:seen] - forecasts[:seen], forecasts[:seen])
    ends = []
    for value, forecast in zip(values[seen:], forecasts[seen:], strict=True):
        told = intervals.interval(forecast, forecast)
        ends.append((told.low[0], told.high[0]))
        intervals.observe(value - forecast, forecast)
    low, high = np.array(ends).T
    return low, high


# --- the reservoir, its weights, its quantiles


def test_the_reservoir_forgets_where_it_started_and_has_the_radius_asked_for():
    reservoir = Reservoir(2, 64, radius=0.8, leak=0.5, seed=1)
    assert np.abs(np.linalg.eigvals(reservoir.recurrent)).max() == pytest.approx(0.8)
    states = np.random.default_rng(0).standard_normal((2, 64))
    for inputs in np.random.default_rng(1).standard_normal((200, 2)):
        states = reservoir.step(states, np.stack([inputs, inputs]))
    np.testing.assert_allclose(states[0], states[1], atol=1e-6)
    assert not np.array_equal(reservoir.recurrent, Reservoir(2, 64, radius=0.8, leak=0.5, seed=2).recurrent)


def test_weights_sum_to_one_and_an_infinite_temperature_makes_them_equal():
    states = np.random.default_rng(0).standard_normal((9, 5))
    weights = similarity_weights(states[:3], states, 0.1)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights.argmax(axis=1) == np.arange(3)).all()
    np.testing.assert_allclose(similarity_weights(states[:3], states, float("inf")), 1 / 9)


def test_quantiles_by_hand_and_rising_with_the_share():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([[0.2, 0.5, 0.3]])
    assert [weighted_quantile(values, weights, share)[0] for share in (0.0, 0.5, 0.51, 0.8, 0.81, 1.0, 1.2)] == [1, 1, 2, 2, 3, 3, 3]
    values, weights = np.random.default_rng(0).standard_normal(50), np.random.default_rng(1).dirichlet(np.ones(50), 4)
    rising = np.array([weighted_quantile(values, weights, share) for share in np.linspace(0, 1, 41)])
    assert (np.diff(rising, axis=0) >= 0).all()
    equal = np.full((1, 50), 1 / 50)
    for share in (0.05, 0.1, 0.5, 0.94, 0.95):
        assert weighted_quantile(values, equal, share)[0] == np.quantile(values, share, method="inverted_cdf")


# --- time series


def test_an_infinite_temperature_is_split_conformal_prediction_on_the_window():
    values, forecasts, _ = noisy_sine(260, 0)
    errors = values - forecasts
    low, high = run(ReservoirIntervals(1, seed=0, tau=float("inf"), window=100), values, forecasts, 150)
    for step in range(110):
        window = errors[50 + step : 150 + step]
        assert low[step] - forecasts[150 + step] == pytest.approx(np.quantile(window, 0.05, method="inverted_cdf"), abs=1e-12)
        assert high[step] - forecasts[150 + step] == pytest.approx(np.quantile(window, 0.95, method="inverted_cdf"), abs=1e-12)


def test_a_value_counts_only_after_its_interval():
    values, forecasts, _ = noisy_sine(140, 1)
    low, high = run(ReservoirIntervals(1, seed=0), values, forecasts, 100)
    altered = values.copy()
    altered[120:] = 50.0
    other_low, other_high = run(ReservoirIntervals(1, seed=0), altered, forecasts, 100)
    np.testing.assert_array_equal(low[:21], other_low[:21])
    np.testing.assert_array_equal(high[:21], other_high[:21])
    assert other_high[25] != high[25]


def test_noise_that_comes_and_goes_is_covered_at_every_phase():
    coverage, plain, scores = [], [], []
    for seed in range(3):
        values, forecasts, phase = noisy_sine(1400, seed)
        ends = [run(ReservoirIntervals(1, seed=seed, tau=tau, window=600), values, forecasts, 600) for tau in (0.1, float("inf"))]
        seen, inside = values[600:], [(low <= values[600:]) & (values[600:] <= high) for low, high in ends]
        bins = (phase[600:] / (2 * np.pi) * 8).astype(int)
        by_phase = [[one[bins == number].mean() for number in range(8)] for one in inside]
        coverage.append([inside[0].mean(), np.abs(np.array(by_phase[0]) - 0.9).mean()])
        plain.append(np.abs(np.array(by_phase[1]) - 0.9).mean())
        scores.append([interval_scores(low, high, seen)["winkler"] for low, high in ends])
    marginal, conditional = np.mean(coverage, axis=0)
    print(f"coverage {marginal:.3f}; error by phase {conditional:.3f} against {np.mean(plain):.3f} of split conformal prediction")
    assert 0.87 < marginal < 0.93
    assert conditional < 0.7 * np.mean(plain)
    assert np.mean(scores, axis=0)[0] < np.mean(scores, axis=0)[1]


def test_every_step_of_a_horizon_has_its_own_errors():
    rng = np.random.default_rng(2)
    errors = rng.standard_normal((300, 3)) * [0.1, 1.0, 10.0]
    intervals = ReservoirIntervals(1, seed=0).calibrate(errors, np.zeros((300, 1)))
    told = intervals.interval(np.zeros(3), 0.0)
    assert (np.diff(told.high - told.low) > 0).all()
    intervals.observe([0.1, np.nan, np.nan], 0.0)
    before = intervals.interval(np.zeros(3), 0.0)
    intervals.complete(1, 1, 1e6)
    after = intervals.interval(np.zeros(3), 0.0)
    assert (before.high[0], before.high[2]) == (after.high[0], after.high[2])
    assert len(intervals.weights(0.0)) == 301


def test_nothing_is_trained():
    intervals = ReservoirIntervals(1, seed=0)
    kept = intervals.reservoir.recurrent.copy(), intervals.reservoir.reading.copy(), intervals.reservoir.bias.copy()
    values, forecasts, _ = noisy_sine(120, 3)
    run(intervals, values, forecasts, 80)
    for before, after in zip(kept, (intervals.reservoir.recurrent, intervals.reservoir.reading, intervals.reservoir.bias), strict=True):
        np.testing.assert_array_equal(before, after)
    assert np.isinf(ReservoirIntervals(1, seed=0).interval(0.5, 0.0).high)


def test_old_errors_fade_and_the_window_forgets():
    intervals = ReservoirIntervals(0, seed=0, tau=float("inf"), decay=0.1, window=50)
    intervals.calibrate(np.random.default_rng(0).standard_normal(200), np.zeros((200, 0)))
    weights = intervals.weights([])
    assert len(weights) == 50
    np.testing.assert_allclose(weights[1:] / weights[:-1], np.exp(0.1))


def test_scores_by_hand():
    found = interval_scores([0.0, 0.0, 0.0], [1.0, 2.0, 1.0], [0.5, 3.0, -0.5], level=0.8)
    assert found == pytest.approx({"coverage": 1 / 3, "width": 4 / 3, "winkler": (1 + (2 + 10) + (1 + 5)) / 3})


@pytest.mark.parametrize("knobs", [{"tau": 0.0}, {"units": 3}, {"rho": 2.0}, {"window": 5}])
def test_knobs_outside_their_domains_are_refused(knobs):
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        ReservoirIntervals(1, seed=0, **knobs)


# --- learning curves


def test_the_predictor_keeps_the_contract():
    check_predictor("rescp")


def test_intervals_hold_nine_finals_in_ten():
    held = []
    for seed in range(5):
        predictor = ReservoirCurves(seed=seed)
        predictor.fit(made_up_curves(80, seed, noise=0.02))
        asked = made_up_curves(100, 100 + seed, noise=0.02)
        ends = predictor.intervals([Observation(seen.curve[:5], seen.features) for seen in asked])
        held += [low <= seen.final <= high for (low, high), seen in zip(ends, asked, strict=True)]
    assert 0.85 < np.mean(held) < 0.96


def test_intervals_and_predictions_are_missing_together():
    predictor = ReservoirCurves(seed=0)
    asked = [Observation((0.5, 0.6)), Observation(()), Observation((0.5, float("nan")))]
    assert predictor.intervals(asked) == [None, None, None]
    predictor.fit(made_up_curves(30, 0))
    found = predictor.intervals([Observation(made_up_curves(1, 3)[0].curve[:4]), *asked[1:]])
    assert found[1:] == [None, None]
    low, high = found[0]
    assert low < high


@pytest.mark.skipif(not (DATA / "curves").is_dir(), reason="the recorded curves are not here (../shared/data)")
@pytest.mark.parametrize(("name", "step"), [("metaqnn_cifar10", 5), ("deep_resnets_cifar10", 12)])
def test_intervals_hold_on_recorded_curves(name, step):
    import pandas as pd

    table = pd.read_parquet(DATA / f"curves/{name}.parquet").filter(regex="^acc_").to_numpy(dtype=float)
    table = table[np.isfinite(table).all(axis=1)]
    held, spread = [], []
    for draw in range(6):
        order = np.random.default_rng(draw).permutation(len(table))
        predictor = ReservoirCurves(seed=draw)
        predictor.fit([Observation(tuple(curve), {}, curve[-1]) for curve in table[order[:100]]])
        asked = table[order[100:300]]
        ends = predictor.intervals([Observation(tuple(curve[:step])) for curve in asked])
        told = predictor.predict_many([Observation(tuple(curve[:step])) for curve in asked])
        held += [low <= curve[-1] <= high for (low, high), curve in zip(ends, asked, strict=True)]
        spread += [abs(one.mean - curve[-1]) <= 1.645 * one.spread for one, curve in zip(told, asked, strict=True)]
    print(f"{name} after {step}: {np.mean(held):.1%} inside the interval, {np.mean(spread):.1%} within 1.645 spreads")
    assert 0.86 < np.mean(held) < 0.96
