"""The learning-curve predictor: its contract, its features, and the figures its paper promises."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import numpy as np
import pytest

from archwright.predictors.curves.lesson import lesson_of
from archwright.predictors.curves.svr import CurveSVR, vectors
from archwright.predictors.features import candidate_features
from archwright.predictors.registry import PREDICTORS
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import drawing, record, replaying
from archwright.search_space.errors import ConfigError, RegistryError
from archwright.search_space.protocols import Candidate, Observation
from archwright.testing import check_predictor
from archwright.testing.predictors import made_up_curves

EMPTY = Architecture((Node("input", "input"),), "input")


def test_keeps_the_contract():
    check_predictor("curve-svr")


@pytest.mark.parametrize("regressor", ["nu-svr-linear", "ols", pytest.param("rf", marks=pytest.mark.slow)])
def test_every_regressor_keeps_the_contract(regressor):
    check_predictor("curve-svr", regressor=regressor, folds=5)


def test_the_vector_matches_features_and_differences_by_hand():
    assert vectors(np.array([[0.1]]), np.array([[7.0]])).tolist() == [[7.0, 0.1]]
    assert vectors(np.array([[0.5, 0.75, 0.875]]), np.array([[7.0]])).tolist() == [[7.0, 0.5, 0.75, 0.875, 0.25, 0.125, -0.125]]


@pytest.mark.parametrize("step", [2, 3, 7])
def test_the_vector_has_features_and_three_numbers_per_step_less_three(step):
    seen = made_up_curves(12, 0)
    lesson = lesson_of(seen, tuple(sorted(seen[0].features)), step, 0)
    assert vectors(lesson.curves, lesson.features).shape == (12, len(seen[0].features) + 3 * step - 3)


def test_the_features_knob_says_what_is_used():
    seen = made_up_curves(12, 0)
    for features, used in (("curve", ()), ("curve+hp", ("choice/rate",)), ("all", ("choice/rate", "architecture/size"))):
        predictor = CurveSVR(seed=0, features=features)
        predictor.fit(seen)
        without = Observation(seen[0].curve[:3], {name: seen[0].features[name] for name in used})
        assert predictor.predict(Observation(seen[0].curve[:3], seen[0].features)) == predictor.predict(without)


def test_few_curves_are_seen_in_three_ways_and_the_truer_view_counts_more():
    """Finals that are twice a feature: what sees features weighs more than what sees the curve alone."""
    seen = made_up_curves(60, 0)
    names = tuple(sorted(seen[0].features))
    lesson = lesson_of([replace(one, final=2 * one.features[names[0]]) for one in seen], names, 4, 0)
    members = CurveSVR(seed=0, folds=3).learned(lesson).members
    assert len(members) == 3
    assert sum(member.weight for member in members) == pytest.approx(1)
    assert min(member.weight for member in members) == members[2].weight < 0.01
    many = lesson_of(made_up_curves(200, 0), names, 4, 0)
    assert [member.weight for member in CurveSVR(seed=0).learned(many).members] == [1.0]


def test_a_candidate_is_coded_by_value_depth_and_counts():
    def space(choose):
        choose.real("rate", 1e-4, 1.0, log=True)
        choose.one_of("width", [16, 32])
        choose.one_of("norm", ["layer", None])
        return [(here.one_of("mixer", ["a", "b"]), here.integer("heads", 1, 9)) for here in choose.repeat("layer", 1, 3)]

    _, drawn = record(space, drawing(random.Random(1)))
    values = {"rate": 0.01, "width": 32, "norm": None, "layer": 2}
    values |= {"layer/0/mixer": "a", "layer/0/heads": 2, "layer/1/mixer": "a", "layer/1/heads": 8}
    trace = record(space, lambda path, domain: values[path])[1]
    assert record(space, replaying(drawn))[1] == drawn
    features = candidate_features(Candidate(0, trace, EMPTY, {"params": math.e - 1, "gap": -3.0, "broken": math.nan}))
    assert features == pytest.approx({
        "architecture/params": 1.0, "architecture/gap": -3.0, "choice/rate": math.log(0.01), "choice/width": 32.0, "choice/norm=None": 1.0,
        "choice/layer": 2.0, "choice/layer/*/mixer=a": 2.0, "choice/layer/*/heads": 5.0,
    })  # fmt: skip


def test_says_nothing_before_enough_curves_are_known():
    seen = made_up_curves(9, 0)
    predictor = CurveSVR(seed=0, min_trials=10)
    predictor.fit(seen)
    assert predictor.predict(seen[0]) is None
    assert CurveSVR(seed=0).predict(seen[0]) is None


def test_short_curves_do_not_teach_longer_lengths():
    short = [Observation(seen.curve[:3], seen.features, seen.final) for seen in made_up_curves(15, 0)]
    predictor = CurveSVR(seed=0)
    predictor.fit(short)
    assert predictor.predict(Observation((0.1, 0.2, 0.3), {})) is not None
    assert predictor.predict(Observation((0.1, 0.2, 0.3, 0.4), {})) is None


def test_equal_finals_and_constant_features_do_no_harm():
    predictor = CurveSVR(seed=0)
    predictor.fit([Observation((0.5, 0.5, 0.5), {"architecture/same": 1.0}, 0.5)] * 12)
    told = predictor.predict(Observation((0.5, 0.5), {"architecture/same": 2.0}))
    assert told is not None
    assert told.mean == pytest.approx(0.5)
    assert told.spread == pytest.approx(0.0, abs=1e-9)


def test_one_absurd_curve_does_not_blind_it():
    history, asked = made_up_curves(30, 0), made_up_curves(20, 1)
    broken = Observation((1e6,) * 12, history[0].features, -1e6)
    errors = []
    for seen in (history, [*history, broken]):
        predictor = CurveSVR(seed=0)
        predictor.fit(seen)
        errors.append(_error(predictor, asked, 6))
    assert errors[1] < 2 * errors[0]


def test_it_is_registered_with_its_knobs_and_paper():
    entry = PREDICTORS["curve-svr"]
    assert {"regressor", "nu", "min_trials", "features"} <= set(entry.knobs)
    assert "1705.10823" in entry.paper
    with pytest.raises(RegistryError, match="curve-svr"):
        PREDICTORS["curve-svm"]


def test_a_knob_outside_its_domain_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r'"nu".*0\.95'):
        CurveSVR(seed=0, nu=0.95)
    with pytest.raises(ConfigError, match="regressor"):
        CurveSVR(seed=0, regressor="svr")


def _error(predictor: CurveSVR, asked: list[Observation], step: int) -> float:
    """Root mean square error of the predictions at ``step``."""
    predicted = [predictor.predict(Observation(seen.curve[:step], seen.features)) for seen in asked]
    return math.sqrt(statistics.mean((p.mean - seen.final) ** 2 for p, seen in zip(predicted, asked, strict=True)))


def _fitted(seed: int, count: int = 100, **knobs) -> CurveSVR:
    predictor = CurveSVR(seed=seed, **knobs)
    predictor.fit(made_up_curves(count, seed, steps=20))
    return predictor


@pytest.mark.slow
def test_beats_the_last_value_and_least_squares_on_it_in_ten_of_ten_seeds():
    for seed in range(10):
        history, asked = made_up_curves(100, seed, steps=20), made_up_curves(100, 1000 + seed, steps=20)
        ours = _error(_fitted(seed), asked, 5)
        last = math.sqrt(statistics.mean((seen.curve[4] - seen.final) ** 2 for seen in asked))
        slope, intercept = statistics.linear_regression([seen.curve[4] for seen in history], [seen.final for seen in history])
        line = math.sqrt(statistics.mean((slope * seen.curve[4] + intercept - seen.final) ** 2 for seen in asked))
        assert ours < last, seed
        assert ours < line, seed


def _seen_through_noise(count: int, seed: int) -> list[Observation]:
    """Curves observed with noise whose finals are exact, so that every further step has something to tell."""
    noisy, exact = (made_up_curves(count, seed, 20, noise=noise) for noise in (0.02, 0.0))
    return [Observation(seen.curve, seen.features, true.final) for seen, true in zip(noisy, exact, strict=True)]


@pytest.mark.slow
def test_longer_curves_are_predicted_better_on_average():
    errors = {step: [] for step in (2, 5, 10, 15)}
    for seed in range(4):
        predictor, asked = CurveSVR(seed=seed, features="curve"), _seen_through_noise(100, 1000 + seed)
        predictor.fit(_seen_through_noise(100, seed))
        for step, found in errors.items():
            found.append(_error(predictor, asked, step))
    means = [statistics.mean(found) for found in errors.values()]
    assert means == sorted(means, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", [12, 40, 100])
def test_intervals_hold_what_they_promise(count):
    inside = []
    for seed in range(6):
        predictor = _fitted(seed, count)
        for seen in made_up_curves(50, 1000 + seed, steps=20):
            told = predictor.predict(Observation(seen.curve[:5], seen.features))
            inside.append(abs(told.mean - seen.final) <= 1.96 * told.spread)
    assert 0.85 <= statistics.mean(inside) <= 1.0
