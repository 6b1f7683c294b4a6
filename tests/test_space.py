"""Spaces: replay, mutation, crossover, enumeration, counting; the laws through the shipped check."""

import math
import random
from collections import Counter

import pytest

from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import Choice, Trace
from archwright.search_space.edits import crossed_values, mutated_values
from archwright.search_space.errors import ReplayError, SpaceError
from archwright.search_space.facts import block
from archwright.search_space.space import NoNeighbour, Space, space
from archwright.search_space.specs import TensorSpec
from archwright.testing import check_space


@block("test-step", kind="mixer")
def step(spec, kind="a", size=1, drop=0.0, width=1):
    """A stand-in with parameters."""


def chain_of(layers, width=1):
    nodes = [Node("input", "input")]
    for index, params in enumerate(layers):
        nodes.append(Node(f"n{index}", "test-step", (nodes[-1].name,), {"width": width, **params}))
    return Architecture(tuple(nodes), nodes[-1].name)


@space("test-stack")
def stack(choose):
    """A stack whose layers have a conditional choice and a real."""
    width = choose.one_of("width", [32, 64, 128])
    layers = []
    for here in choose.repeat("layer", 1, 4):
        kind = here.one_of("kind", ["a", "b"])
        layers.append({"kind": kind, "size": here.integer("size", 1, 4) if kind == "a" else 9, "drop": here.real("drop", 0, 0.5)})
    return chain_of(layers, width)


@space("test-finite")
def finite(choose):
    """Sixteen points and a conditional."""
    layers = [{"kind": here.one_of("kind", ["a", "b"])} for here in choose.repeat("layer", 1, 3)]
    if layers[0]["kind"] == "a":
        layers[0]["size"] = choose.integer("size", 2, 3)
    return chain_of(layers)


@pytest.mark.parametrize("space", [stack, finite], ids=lambda s: s.name)
def test_laws(space):
    report = check_space(space)
    assert report.dead_share == 0
    assert report.changes > 50


def test_the_check_finds_a_dead_choice():
    @space("test-dead")
    def dead(choose):
        choose.one_of("unused", [1, 2])
        return chain_of([{"kind": choose.one_of("kind", ["a", "b"])}])

    with pytest.raises(AssertionError, match="leave the network the same"):
        check_space(dead)


def test_the_check_finds_a_space_that_depends_on_more_than_its_choices():
    calls = Counter()

    @space("test-moody")
    def moody(choose):
        calls["n"] += 1
        return chain_of([{"kind": choose.one_of("kind", ["a", "b"]), "size": calls["n"]}])

    with pytest.raises(AssertionError, match="depend on its choices alone"):
        check_space(moody)


def test_enumeration_is_unique_and_as_long_as_the_size():
    traces = [trace for _, trace in finite.enumerate()]
    by_hand = sum((2 if first == "a" else 1) * 2 ** (depth - 1) for depth in (1, 2, 3) for first in "ab")
    assert len(traces) == len(set(traces)) == by_hand == finite.size().count


def test_an_infinite_space_says_so_and_names_the_choice():
    assert math.isinf(stack.size().count)
    assert str(stack.size()) == "infinite"
    with pytest.raises(SpaceError, match='"layer/0/drop".*give it a step'):
        list(stack.enumerate())


def test_large_spaces_are_estimated_without_bias():
    @space("test-large")
    def large(choose):
        return chain_of(
            [{"kind": here.one_of("kind", ["a", "b"]), "size": here.integer("size", 1, 9)} for here in choose.repeat("layer", 1, 6)]
        )

    exact = sum(18**depth for depth in range(1, 7))
    size = large.size(limit=100, probes=4000)
    assert not size.exact
    assert abs(size.count - exact) < 4 * size.standard_error
    assert size.standard_error < 0.1 * exact


def test_replay_refuses_a_choice_that_was_never_asked_for():
    _, trace = finite.sample(random.Random(0))
    extra = Trace([*trace, Choice("ghost", trace[0].domain, trace[0].value)])
    with pytest.raises(ReplayError, match='never asked for the recorded choice "ghost"'):
        finite.replay(extra)


def test_mutation_sites_are_picked_by_role_first():
    rng = random.Random(0)
    depth_changed = 0
    while len((trace := stack.sample(rng)[1]).values_by_path()) < 12:
        pass
    values = trace.values_by_path()
    for _ in range(2000):
        edited = mutated_values(trace, rng)
        depth_changed += edited.keys() != values.keys() or edited["layer"] != values["layer"]
    assert 0.12 < depth_changed / 2000 < 0.30  # one of five roles; a swap keeps the keys


def test_deleting_a_layer_renumbers_the_others():
    trace = finite.run(lambda path, domain: {"layer": 3, "layer/0/kind": "b", "layer/1/kind": "a", "layer/2/kind": "b"}.get(path))[1]
    seen = set()
    rng = random.Random(0)
    for _ in range(300):
        values = mutated_values(trace, rng)
        if values["layer"] == 2:
            seen.add((values["layer/0/kind"], values["layer/1/kind"]))
            assert "layer/2/kind" not in values
    assert seen == {("a", "b"), ("b", "b"), ("b", "a")}


def test_an_inserted_layer_is_a_copy_of_a_neighbour_or_drawn():
    trace = finite.run(lambda path, domain: {"layer": 1, "layer/0/kind": "b"}.get(path))[1]
    rng = random.Random(0)
    inserted = [v for v in (mutated_values(trace, rng) for _ in range(300)) if v["layer"] == 2]
    copies = sum("layer/0/kind" in v and "layer/1/kind" in v for v in inserted)
    assert 0 < copies < len(inserted)


def test_crossover_takes_whole_elements_and_draws_nothing():
    rng = random.Random(0)
    for _ in range(100):
        left, right = stack.sample(rng)[1], stack.sample(rng)[1]
        child = crossed_values(left, right, rng)
        elements = {
            tuple(sorted((k.split("/", 2)[2], v) for k, v in t.values_by_path().items() if k.startswith(f"layer/{i}/")))
            for t in (left, right)
            for i in range(4)
        }
        for index in range(child["layer"]):
            assert tuple(sorted((k.split("/", 2)[2], v) for k, v in child.items() if k.startswith(f"layer/{index}/"))) in elements

        def refuse(path, domain):
            raise AssertionError(f"{path} was drawn although a parent has it")

        from archwright.search_space.choices import keeping

        stack.run(keeping(child, refuse))


def test_a_space_of_one_network_has_no_neighbour():
    @space("test-single")
    def single(choose):
        return chain_of([{"kind": choose.one_of("kind", ["a"])}])

    with pytest.raises(NoNeighbour):
        single.mutate(single.sample(random.Random(0))[1], random.Random(0))


def test_a_space_may_ask_for_its_input_and_take_parameters():
    def tall(choose, input, top=2):
        return chain_of([{"kind": choose.one_of("kind", ["a", "b"]), "size": input.width * top}])

    made = Space("tall", tall, ("image",))
    with pytest.raises(SpaceError, match="for_input"):
        made.sample(random.Random(0))
    with pytest.raises(SpaceError, match="made for image data"):
        made.for_input(TensorSpec("table", (3,)))
    bound = made.for_input(TensorSpec("image", (3, 8, 8))).with_params(top=5)
    assert bound.sample(random.Random(0))[0].nodes[1].params["size"] == 15
    with pytest.raises(SpaceError, match='no parameter "bottom"; it has top'):
        made.with_params(bottom=1)


def test_a_space_must_return_an_architecture():
    with pytest.raises(SpaceError, match="returned int; it must return an Architecture"):
        Space("wrong", lambda choose: choose.one_of("k", [1, 2])).sample(random.Random(0))
