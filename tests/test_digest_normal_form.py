"""The normal form: what it merges, what it keeps apart, and that it computes what the architecture computes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from archwright.search_space.architecture import Architecture, Node, port_of, source_of
from archwright.search_space.errors import ArchitectureError, RegistryError
from archwright.search_space.normal_form import normalise

from .digest_blocks import graph, renamed, test_blocks


@pytest.fixture(autouse=True, scope="module")
def _blocks() -> Iterator[None]:
    with test_blocks():
        yield


CONV = ("test-conv", "x")
CELL = graph("b", a=CONV, b=("test-pool", "a"))
TWO_IN = Architecture(
    (
        Node("p", "input", (), {"index": 0}),
        Node("q", "input", (), {"index": 1}),
        Node("c", "test-conv", ("q",)),
        Node("s", "sum", ("p", "c")),
    ),
    "s",
)
VALUED = Architecture((Node("p", "input"), Node("v", "test-values", ("p",)), Node("c", "test-conv", ("v",))), "c", {"values": "v:values"})
WITH_PORT = Architecture((Node("p", "input"), Node("v", "input", (), {"port": "values"}), Node("c", "test-linear", ("p", "v"))), "c")

SAME = {
    "node names and order": (graph("b", a=CONV, b=("test-pool", "a")), graph("k", z=CONV, k=("test-pool", "z"))),
    "dead nodes": (graph("a", a=CONV), graph("a", a=CONV, dead=("test-linear", "a"))),
    "dead sharing partner": (graph("a", a=CONV), graph("a", dead=CONV, a=(*CONV, {"weights": "dead"}))),
    "identity": (graph("b", a=CONV, b=("test-pool", "a")), graph("b", a=CONV, i=("identity", "a"), b=("test-pool", "i"))),
    "identity at the output": (graph("a", a=CONV), graph("i", a=CONV, i=("identity", "a"))),
    "only an identity": (graph("x"), graph("i", i=("identity", "x"))),
    "zero branch of a sum": (graph("s", a=CONV, s=("sum", "x", "a")), graph("s", a=CONV, z=("zero", "a"), s=("sum", "x", "z", "a"))),
    "zero through a conv": (graph("z", z=("zero", "x")), graph("a", z=("zero", "x"), a=("test-conv", "z"))),
    "zero through a sum": (graph("z", z=("zero", "x")), graph("s", z=("zero", "x"), s=("sum", "z", "z"))),
    "zero of anything at the output": (graph("z", z=("zero", "x")), graph("z", a=("test-resize", "x"), z=("zero", "a"))),
    "zero through a product of zeros": (graph("z", z=("zero", "x")), graph("a", z=("zero", "x"), a=("test-product", "z", "z"))),
    "sum of one": (graph("a", a=CONV), graph("s", a=CONV, s=("sum", "a"))),
    "sum of one after a zero": (graph("a", a=CONV), graph("s", a=CONV, z=("zero", "x"), s=("sum", "z", "a"))),
    "order of a sum": (graph("s", a=CONV, s=("sum", "x", "a")), graph("s", a=CONV, s=("sum", "a", "x"))),
    "nested sum": (
        graph("s", a=CONV, b=CONV, s=("sum", "a", "b", "x")),
        graph("t", a=CONV, b=CONV, s=("sum", "a", "b"), t=("sum", "s", "x")),
    ),
    "inner sum used elsewhere": (
        graph("t", a=CONV, s=("sum", "x", "a"), c=("test-conv", "s"), t=("sum", "x", "a", "c")),
        graph("t", a=CONV, s=("sum", "x", "a"), c=("test-conv", "s"), t=("sum", "s", "c")),
    ),
    "inner sum read twice": (graph("t", t=("sum", *"xxxx")), graph("t", s=("sum", "x", "x"), t=("sum", "s", "s"))),
    "repeated pool": (
        graph("m", a=("test-pool", "x"), m=("test-mix", "a", "a")),
        graph("m", a=("test-pool", "x"), b=("test-pool", "x"), m=("test-mix", "a", "b")),
    ),
    "repeated pool after other merges": (
        graph("m", a=("test-pool", "x"), m=("test-mix", "a", "a")),
        graph("m", i=("identity", "x"), s=("sum", "i"), a=("test-pool", "s"), b=("test-pool", "x"), m=("test-mix", "a", "b")),
    ),
    "sharing without parameters": (
        graph("m", a=("test-dropout", "x"), b=("test-dropout", "x"), m=("test-mix", "a", "b")),
        graph("m", a=("test-dropout", "x"), b=("test-dropout", "x", {"weights": "a"}), m=("test-mix", "a", "b")),
    ),
    "who owns shared weights": (
        graph("b", a=CONV, b=("test-conv", "a", {"weights": "a"})),
        graph("b", b=("test-conv", "a"), a=(*CONV, {"weights": "b"})),
    ),
    "chain of sharing": (
        graph("c", a=CONV, b=("test-conv", "a", {"weights": "a"}), c=("test-conv", "b", {"weights": "a"})),
        graph("c", a=CONV, b=("test-conv", "a", {"weights": "a"}), c=("test-conv", "b", {"weights": "b"})),
    ),
    "called cell": (graph("b", a=CONV, b=("test-pool", "a")), graph("c", c=("cell", "x", {"body": CELL}))),
    "cell in a cell": (
        graph("b", a=CONV, b=("test-pool", "a")),
        graph("c", c=("cell", "x", {"body": graph("d", d=("cell", "x", {"body": CELL}))})),
    ),
    "cell of two inputs": (
        graph("s", a=CONV, c=("test-conv", "x"), s=("sum", "a", "c")),
        graph("k", a=CONV, k=("cell", "a", "x", {"body": TWO_IN})),
    ),
    "port of a cell": (
        graph("s", v=("test-values", "x"), c=("test-conv", "v"), s=("test-linear", "c", "v:values")),
        graph("s", k=("cell", "x", {"body": VALUED}), s=("test-linear", "k", "k:values")),
    ),
    "port into a cell": (
        graph("s", v=("test-values", "x"), s=("test-linear", "v", "v:values")),
        graph("k", v=("test-values", "x"), k=("cell", "v", "v:values", {"body": WITH_PORT, "ports": ["values"]})),
    ),
    "loop of one": (graph("c", c=("cell", "x", {"body": CELL})), graph("c", c=("loop", "x", {"body": CELL, "times": 1}))),
    "loop of two is tied copies": (
        graph("d", a=CONV, b=("test-pool", "a"), c=("test-conv", "b", {"weights": "a"}), d=("test-pool", "c")),
        graph("c", c=("loop", "x", {"body": CELL, "times": 2})),
    ),
    "shared cells are tied node by node": (
        graph("d", a=CONV, b=("test-pool", "a"), c=("test-conv", "b", {"weights": "a"}), d=("test-pool", "c")),
        graph("d", c=("cell", "x", {"body": CELL}), d=("cell", "c", {"body": CELL, "weights": "c"})),
    ),
    "loop inside a shared loop": (
        graph("c", c=("loop", "x", {"body": CELL, "times": 4})),
        graph("d", d=("loop", "x", {"body": graph("c", c=("loop", "x", {"body": CELL, "times": 2})), "times": 2})),
    ),
    "normal cells in parameters": (
        graph("b", b=("test-branches", "x", {"branches": [graph("a", a=CONV)]})),
        graph("b", b=("test-branches", "x", {"branches": [graph("s", a=CONV, i=("identity", "a"), z=("zero", "x"), s=("sum", "i", "z"))]})),
    ),
    "default parameter": (graph("k", k=("test-knobs", "x")), graph("k", k=("test-knobs", "x", {"heads": 4, "rate": 0.5, "size": 3}))),
    "type of a knob": (
        graph("k", k=("test-knobs", "x", {"heads": 2, "rate": 1.0})),
        graph("k", k=("test-knobs", "x", {"heads": 2.0, "rate": 1})),
    ),
    "type of an option": (graph("k", k=("test-knobs", "x", {"size": 5})), graph("k", k=("test-knobs", "x", {"size": 5.0}))),
    "default parameter of a norm": (
        graph("c", c=("close", "x", {"norm": "test-knobs"})),
        graph("c", c=("close", "x", {"norm": "test-knobs", "norm_params": {"heads": 4.0}})),
    ),
    "parameters of no norm": (graph("c", c=("close", "x")), graph("c", c=("close", "x", {"norm": None, "norm_params": {"heads": 5}}))),
    "default knob of a rule": (
        graph("c", o=("open", "x", {"rule": "test-rule"}), c=("close", "o")),
        graph("c", o=("open", "x", {"rule": "test-rule", "streams": 2.0}), c=("close", "o")),
    ),
}

APART = {
    "x + x and x": (graph("x"), graph("s", s=("sum", "x", "x"))),
    "x + x through identities": (graph("x"), graph("s", i=("identity", "x"), s=("sum", "i", "x"))),
    "x + x and x + x + x": (graph("s", s=("sum", "x", "x")), graph("s", s=("sum", "x", "x", "x"))),
    "one conv used twice and two convs": (
        graph("m", a=CONV, m=("test-mix", "a", "a")),
        graph("m", a=CONV, b=CONV, m=("test-mix", "a", "b")),
    ),
    "two convs and two tied convs": (
        graph("m", a=CONV, b=CONV, m=("test-mix", "a", "b")),
        graph("m", a=CONV, b=(*CONV, {"weights": "a"}), m=("test-mix", "a", "b")),
    ),
    "one conv used twice and two tied convs": (
        graph("m", a=CONV, m=("test-mix", "a", "a")),
        graph("m", a=CONV, b=(*CONV, {"weights": "a"}), m=("test-mix", "a", "b")),
    ),
    "one dropout and two": (
        graph("m", a=("test-dropout", "x"), m=("test-mix", "a", "a")),
        graph("m", a=("test-dropout", "x"), b=("test-dropout", "x"), m=("test-mix", "a", "b")),
    ),
    "which convs are tied": (
        graph("d", a=CONV, b=("test-conv", "a"), c=("test-conv", "b", {"weights": "a"}), d=("test-conv", "c", {"weights": "b"})),
        graph("d", a=CONV, b=("test-conv", "a"), c=("test-conv", "b", {"weights": "b"}), d=("test-conv", "c", {"weights": "a"})),
    ),
    "order of ordered inputs": (graph("c", a=CONV, c=("concat", "x", "a")), graph("c", a=CONV, c=("concat", "a", "x"))),
    "a block that does not keep zero": (graph("z", z=("zero", "x")), graph("a", z=("zero", "x"), a=("test-linear", "z"))),
    "a zero among other inputs": (graph("z", z=("zero", "x")), graph("a", z=("zero", "x"), a=("test-product", "x", "z"))),
    "zeros of two shapes": (
        graph("c", z=("zero", "x"), c=("concat", "x", "z")),
        graph("c", r=("test-resize", "x"), z=("zero", "r"), c=("concat", "x", "z")),
    ),
    "concat of a zero": (graph("c", c=("concat", "x")), graph("c", z=("zero", "x"), c=("concat", "x", "z"))),
    "output and port": (graph("v", v=("test-values", "x")), graph("v:values", v=("test-values", "x"))),
    "port and output as input": (
        graph("s", v=("test-values", "x"), s=("test-linear", "v", "v:values")),
        graph("s", v=("test-values", "x"), s=("test-linear", "v", "v")),
    ),
    "names of ports": (graph("v", ports={"a": "x"}, v=CONV), graph("v", ports={"b": "x"}, v=CONV)),
    "loop of two and untied copies": (
        graph("d", a=CONV, b=("test-pool", "a"), c=("test-conv", "b"), d=("test-pool", "c")),
        graph("c", c=("loop", "x", {"body": CELL, "times": 2})),
    ),
    "loops of two and three": (
        graph("c", c=("loop", "x", {"body": CELL, "times": 2})),
        graph("c", c=("loop", "x", {"body": CELL, "times": 3})),
    ),
    "a cell called twice and shared cells": (
        graph("d", c=("cell", "x", {"body": CELL}), d=("cell", "c", {"body": CELL})),
        graph("d", c=("cell", "x", {"body": CELL}), d=("cell", "c", {"body": CELL, "weights": "c"})),
    ),
    "other parameter": (graph("k", k=("test-knobs", "x")), graph("k", k=("test-knobs", "x", {"heads": 5}))),
    "number and text": (graph("k", k=("test-knobs", "x", {"size": 5})), graph("k", k=("test-knobs", "x", {"size": "5"}))),
    "cells in parameters": (
        graph("b", b=("test-branches", "x", {"branches": [graph("a", a=CONV)]})),
        graph("b", b=("test-branches", "x", {"branches": [graph("a", a=("test-pool", "x"))]})),
    ),
    "index of a cell's input": (
        graph(
            "b",
            b=(
                "test-branches",
                "x",
                "x",
                {"body": Architecture((Node("x", "input", (), {"index": 0}), Node("a", "test-conv", ("x",))), "a")},
            ),
        ),
        graph(
            "b",
            b=(
                "test-branches",
                "x",
                "x",
                {"body": Architecture((Node("x", "input", (), {"index": 1}), Node("a", "test-conv", ("x",))), "a")},
            ),
        ),
    ),
    "parameter of a norm": (
        graph("c", c=("close", "x", {"norm": "test-knobs"})),
        graph("c", c=("close", "x", {"norm": "test-knobs", "norm_params": {"heads": 5}})),
    ),
    "knob of a rule": (
        graph("c", o=("open", "x", {"rule": "test-rule"}), c=("close", "o")),
        graph("c", o=("open", "x", {"rule": "test-rule", "streams": 3}), c=("close", "o")),
    ),
    "training": (graph("a", a=CONV), graph("a", a=CONV).with_training(learning_rate=0.1)),
}


@pytest.mark.parametrize("case", SAME)
def test_same_networks_have_one_digest(case: str) -> None:
    one, other = SAME[case]
    assert one.digest == other.digest


@pytest.mark.parametrize("case", APART)
def test_other_networks_have_other_digests(case: str) -> None:
    one, other = APART[case]
    assert one.digest != other.digest


@pytest.mark.parametrize("case", [*SAME, *APART])
def test_normal_form_is_its_own_normal_form(case: str) -> None:
    for architecture in (SAME | APART)[case]:
        normal = normalise(architecture)
        assert normal.digest == architecture.digest
        assert normalise(normal) == normal


def test_digest_has_its_version_and_survives_json() -> None:
    architecture = APART["which convs are tied"][0]
    assert architecture.digest.startswith("a1:")
    assert len(architecture.digest) == 3 + 32
    assert Architecture.from_json(architecture.to_text()).digest == architecture.digest


def test_whole_floats_of_training_are_integers() -> None:
    a = graph("a", a=CONV)
    assert a.with_training(batch_size=32).digest == a.with_training(batch_size=32.0).digest
    assert a.with_training(nesterov=True).digest != a.with_training(nesterov=1).digest


def test_unknown_block_names_the_plugin_option() -> None:
    with pytest.raises(RegistryError, match=r'No block is called "test-cnv".*--plugin'):
        _ = graph("a", a=("test-cnv", "x")).digest


def test_call_without_an_input_of_its_body_is_refused() -> None:
    with pytest.raises(ArchitectureError, match='"k" reads input 1, which the call does not give'):
        _ = graph("k", k=("cell", "x", {"body": TWO_IN})).digest


def test_sharing_with_another_body_is_refused() -> None:
    other = graph("c", c=("test-conv", "x"))
    with pytest.raises(ArchitectureError, match="share the weights of a node with the same body"):
        _ = graph("d", c=("cell", "x", {"body": CELL}), d=("cell", "c", {"body": other, "weights": "c"})).digest


def test_reading_a_port_that_a_cell_does_not_give_is_refused() -> None:
    with pytest.raises(ArchitectureError, match='"k:values" reads a port that "k" does not give'):
        _ = graph("k:values", k=("cell", "x", {"body": CELL})).digest


def test_sums_doubled_forty_times_are_counted_not_written_out() -> None:
    doubled = {f"s{number}": ("sum", *[f"s{number - 1}" if number else "x"] * 2) for number in range(40)}
    assert graph("s39", **doubled).digest != graph("s38", **doubled).digest
    with pytest.raises(ArchitectureError, match="terms"):
        normalise(graph("s39", **doubled))


# --- the normal form computes the same function


def _evaluate(architecture: Architecture, x: float, parameters: dict[str, float]) -> float:
    """The architecture as a function of a number, with one parameter for each node."""
    values: dict[str, float] = {}

    def read(reference: str) -> float:
        return values[source_of(reference)] + (0.25 if port_of(reference) else 0.0)

    for node in architecture.nodes:
        inputs = [read(reference) for reference in node.inputs]
        own = parameters[node.name]
        match node.block:
            case "input":
                values[node.name] = x
            case "identity":
                values[node.name] = inputs[0]
            case "zero":
                values[node.name] = 0.0
            case "sum":
                values[node.name] = math.fsum(inputs)
            case "test-conv":
                values[node.name] = own * math.tanh(inputs[0])
            case "test-linear" | "test-values":
                values[node.name] = own * math.fsum((k + 1) * value for k, value in enumerate(inputs)) + 0.1
            case "test-pool":
                values[node.name] = math.sin(inputs[0])
            case "test-product":
                values[node.name] = math.prod(inputs)
            case _:
                raise AssertionError(f"this function gives the block {node.block} no value")
    return read(architecture.output)


def random_architecture(rng: random.Random, size: int) -> Architecture:
    nodes = [Node("x", "input")]
    kinds = ["identity", "zero", "sum", "sum", "test-conv", "test-linear", "test-pool", "test-product", "test-values"]
    for number in range(size):
        kind = rng.choice(kinds)
        arity = rng.randint(1, 3) if kind in ("sum", "test-product", "test-linear") else 1
        inputs = []
        for _ in range(arity):
            source = rng.choice(nodes)
            inputs.append(f"{source.name}:values" if source.block == "test-values" and rng.random() < 0.3 else source.name)
        owners = [node.name for node in nodes if node.block == kind and node.weights is None]
        weights = rng.choice(owners) if owners and kind in ("test-conv", "test-linear") and rng.random() < 0.3 else None
        nodes.append(Node(f"n{number}", kind, tuple(inputs), {}, weights))
    return Architecture(tuple(nodes), nodes[-1].name)


@pytest.mark.parametrize("seed", range(150))
def test_normal_form_computes_the_same_function(seed: int) -> None:
    rng = random.Random(seed)
    architecture = random_architecture(rng, rng.randint(2, 12))
    own = {node.name: rng.uniform(0.5, 1.5) for node in architecture.nodes}
    parameters = {node.name: own[node.weights or node.name] for node in architecture.nodes}  # names survive normalisation
    for x in (-1.3, 0.4, 2.0):
        assert _evaluate(normalise(architecture), x, parameters) == pytest.approx(
            _evaluate(architecture, x, parameters), rel=1e-9, abs=1e-12
        )


@pytest.mark.parametrize("seed", range(100))
def test_renaming_and_reordering_never_change_the_digest(seed: int) -> None:
    rng = random.Random(seed)
    architecture = random_architecture(rng, rng.randint(2, 14))
    assert renamed(architecture, rng).digest == architecture.digest
