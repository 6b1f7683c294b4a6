"""The language of choices: paths, domains, traces and the functions that answer."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archwright.search_space.choices import (
    Choice,
    Integer,
    OneOf,
    Real,
    Trace,
    drawing,
    keeping,
    record,
    replaying,
    role_of,
    round_real,
)
from archwright.search_space.errors import ReplayError, SpaceError


def stack(choose):
    width = choose.one_of("width", [32, 64])
    layers = []
    for here in choose.repeat("layer", 1, 4):
        mixer = here.one_of("mixer", ["attention", "gru"])
        heads = here.integer("heads", 1, 4) if mixer == "attention" else None
        layers.append((here.path, mixer, heads, here.real("drop", 0.0, 0.5)))
    return width, layers


def test_paths_carry_their_scope_and_roles_drop_the_index():
    _, trace = record(stack, lambda path, domain: 2 if path == "layer" else domain.draw(random.Random(0)))
    assert [c.path for c in trace if c.path.endswith("mixer")] == ["layer/0/mixer", "layer/1/mixer"]
    assert {c.role for c in trace if c.path.endswith("mixer")} == {"layer/*/mixer"}
    assert role_of("stage/2/layer/10/k") == "stage/*/layer/*/k"


def test_the_same_path_asked_twice_is_an_error_that_says_reuse():
    def twice(choose):
        return choose.one_of("width", [1, 2]), choose.one_of("width", [1, 2])

    with pytest.raises(SpaceError, match="asked twice.*ask once and reuse the value"):
        record(twice, drawing(random.Random(0)))


def test_the_same_path_through_two_scope_objects_is_still_an_error():
    def twice(choose):
        return choose.at("part").one_of("k", [1, 2]), choose.at("part").one_of("k", [1, 2])

    with pytest.raises(SpaceError, match='"part/k" was asked twice'):
        record(twice, drawing(random.Random(0)))


def test_coupled_choices_are_variables():
    (width, layers), trace = record(stack, drawing(random.Random(3)))
    assert sum(c.path == "width" for c in trace) == 1
    assert all(len(item) == 4 for item in layers)
    assert width in (32, 64)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda c: c.one_of("a", []), "no options"),
        (lambda c: c.one_of("a", [1, 1]), "twice"),
        (lambda c: c.one_of("a", [object()]), "strings, numbers, booleans or None"),
        (lambda c: c.one_of("a/b", [1]), "cannot be named"),
        (lambda c: c.one_of("0", [1]), "cannot be named"),
        (lambda c: c.integer("a", 3, 2), "empty range"),
        (lambda c: c.integer("a", 0, 2, log=True), "logarithmic"),
        (lambda c: c.real("a", 0, 1, step=0), "step"),
        (lambda c: list(c.repeat("a", -1, 2)), "0 or more"),
    ],
)
def test_meaningless_questions_are_refused_in_one_sentence(ask, words):
    with pytest.raises(SpaceError, match=words):
        record(ask, drawing(random.Random(0)))


def test_true_and_one_are_different_options():
    domain = OneOf((True, False))
    assert domain.permits(True)
    assert not domain.permits(1)
    assert not Integer(0, 3).permits(True)


@given(st.integers(0, 10_000))
def test_replay_gives_the_same_result_and_trace(seed):
    built, trace = record(stack, drawing(random.Random(seed)))
    assert record(stack, replaying(trace)) == (built, trace)


def test_strict_replay_never_draws():
    _, trace = record(stack, drawing(random.Random(1)))
    with pytest.raises(ReplayError, match='asks for "width"'):
        record(stack, replaying(Trace(c for c in trace if c.path != "width")))
    wrong = Trace(Choice(c.path, c.domain, 999) if c.path == "width" else c for c in trace)
    with pytest.raises(ReplayError, match='999 of "width" is not permitted'):
        record(stack, replaying(wrong))


def test_keeping_keeps_what_is_permitted_and_draws_the_rest():
    def conditional(choose):
        op = choose.one_of("op", ["conv", "attention"])
        return choose.one_of("size", [1, 3, 5] if op == "conv" else ["full", "local"])

    assert record(conditional, keeping({"op": "conv", "size": 3}, drawing(random.Random(0))))[0] == 3
    assert record(conditional, keeping({"op": "attention", "size": 3}, drawing(random.Random(0))))[0] in ("full", "local")


@given(st.integers(0, 10_000))
def test_traces_survive_json_exactly(seed):
    _, trace = record(stack, drawing(random.Random(seed)))
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_every_kind_of_domain_survives_json():
    domains = [
        OneOf(("a", 1, None, True)),
        Integer(2, 64, 2),
        Integer(1, 512, log=True),
        Integer(0, 3, repeat=True),
        Real(0.0, 1.0, 0.1),
        Real(1e-4, 1, log=True),
    ]
    trace = Trace(Choice(f"c{i}", domain, domain.draw(random.Random(i))) for i, domain in enumerate(domains))
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_reals_are_rounded_to_six_significant_digits_and_grids_from_the_index():
    assert Real(0.0, 1.0, 0.1).values() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    value, _ = record(lambda c: c.real("x", 0, 1), drawing(random.Random(5)))
    assert value == round_real(value)
    assert not Real(0.0, 1.0, 0.1).permits(0.15)


@given(
    st.integers(0, 1000),
    st.sampled_from([Integer(1, 100, log=True), Integer(3, 50, 7), Real(1e-5, 1e-1, log=True), Real(0.0, 1.0, 0.25), OneOf((1, "a"))]),
)
def test_draws_are_permitted(seed, domain):
    assert domain.permits(domain.draw(random.Random(seed)))


def test_logarithmic_integers_are_drawn_evenly_per_octave():
    rng = random.Random(0)
    draws = [Integer(1, 1023, log=True).draw(rng) for _ in range(8000)]
    low, high = sum(d < 32 for d in draws), sum(d >= 32 for d in draws)
    assert 0.9 < low / high < 1.1
