"""Architectures as data: JSON, validation, immutability; and the words shared between the rooms."""

import json
import math

import pytest

from archwright.search_space.architecture import Architecture, Node, cells_of
from archwright.search_space.errors import ArchitectureError
from archwright.search_space.outcomes import Objective, Outcome, Prediction, Report, gains
from archwright.search_space.protocols import Job
from archwright.search_space.seeds import derive_seed, generator

CELL = Architecture((Node("x", "input"), Node("n", "gelu", ("x",))), "n")


def line(*blocks, **fields):
    nodes = [Node("x", "input")]
    for index, name in enumerate(blocks):
        nodes.append(Node(f"n{index}", name, (nodes[-1].name,)))
    return Architecture(tuple(nodes), nodes[-1].name, **fields)


def test_json_round_trip_with_cells_ports_weights_and_training():
    nodes = (
        Node("x", "input"),
        Node("layer/0", "layer", ("x",), {"branches": [CELL, CELL], "norm": None, "rate": 0.1}),
        Node("layer/1", "layer", ("layer/0", "layer/0:values"), {"branches": [CELL]}, weights="layer/0"),
    )
    whole = Architecture(nodes, "layer/1", ports={"values": "layer/0:values"}, training={"learning_rate": 0.01})
    back = Architecture.from_json(json.loads(json.dumps(whole.to_json())))
    assert back == whole
    assert back.to_text() == whole.to_text()
    assert list(cells_of(back.node("layer/0").params["branches"])) == [CELL, CELL]


def test_a_cell_used_often_is_written_and_read_once():
    calls = [Node("x", "input"), *(Node(f"c{i}", "cell", (f"c{i - 1}" if i else "x",), {"body": CELL}) for i in range(3))]
    whole = Architecture(tuple(calls), "c2")
    written = [node["params"]["body"]["architecture"] for node in whole.to_json()["nodes"][1:]]
    assert written[0] is written[1] is written[2]
    assert whole.to_json()["nodes"][1]["params"]["body"]["architecture"] is not written[0]  # a result of its own for each caller
    read = Architecture.from_json(whole.to_json())
    assert len({id(node.params["body"]) for node in read.nodes[1:]}) == 1
    assert read == whole == Architecture.from_json(whole.to_text())


def test_nodes_given_in_any_order_are_sorted_by_their_inputs():
    shuffled = Architecture((Node("b", "gelu", ("a",)), Node("a", "gelu", ("x",)), Node("x", "input")), "b")
    assert [node.name for node in shuffled.nodes] == ["x", "a", "b"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Architecture((Node("x", "input"), Node("x", "gelu", ("x",))), "x"), 'Two nodes are called "x"'),
        (lambda: Architecture((Node("a", "gelu", ("b",)), Node("b", "gelu", ("a",))), "a"), "form a cycle"),
        (
            lambda: Architecture(
                (
                    Node("x", "input"),
                    Node("a", "gelu", ("layr",)),
                ),
                "a",
            ),
            'reads "layr", which is no node',
        ),
        (lambda: Architecture((Node("x", "input"),), "y"), 'output of the architecture is "y"'),
        (lambda: Architecture((Node("x", "input"),), "x", {"values": "z"}), 'values of the architecture is "z"'),
        (lambda: Architecture((Node("x", "input"), Node("a", "gelu", ("x",), weights="b")), "a"), 'uses the weights of "b"'),
        (lambda: Node("a:b", "gelu"), "holds no colon"),
        (lambda: Node("", "gelu"), "not empty"),
        (lambda: Node("a", "gelu", "x"), "give a tuple"),
        (lambda: Node("a", "gelu", params={"f": print}), 'parameter "f" of node "a"'),
        (lambda: CELL.node("m"), 'no node "m"'),
        (lambda: Architecture.from_json("{"), "not JSON"),
        (lambda: Architecture.from_json({"nodes": []}), "archwright-architecture/1"),
        (lambda: Architecture.from_json({**CELL.to_json(), "nodes": [{"name": "x"}]}), "lacks or misspells"),
        (lambda: Architecture.from_json({**CELL.to_json(), "nodes": [{"name": "x", "blok": "y"}]}), 'unknown field "blok"'),
    ],
)
def test_what_is_no_architecture_is_refused_in_one_sentence(make, words):
    with pytest.raises(ArchitectureError, match=words):
        make()


def test_an_architecture_cannot_be_changed():
    params = {"ratio": [1, 2]}
    node = Node("n", "mlp", ("x",), params)
    params["ratio"].append(3)
    assert node.params["ratio"] == (1, 2)
    with pytest.raises(TypeError):
        node.params["ratio"] = 1
    with pytest.raises(AttributeError):
        CELL.output = "x"


def test_training_enters_the_digest_and_names_do_not():
    plain = line("gelu")
    assert plain.with_training(learning_rate=0.1).digest != plain.digest
    assert plain.with_training(learning_rate=0.1).digest != plain.with_training(learning_rate=0.2).digest
    renamed = Architecture((Node("in", "input"), Node("act", "gelu", ("in",))), "act")
    assert renamed.digest == plain.digest


def test_outcomes_and_reports_survive_json():
    outcome = Outcome("stopped", {"val_accuracy": 0.5}, 3, 1.5, {"val_accuracy": Prediction(0.6, 0.1)}, "hopeless")
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    report = Report(3, {"val_loss": 0.1}, 0.5, True)
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    job = Job(3, line("gelu").to_json(), {"name": "digits", "params": {}}, {"name": "train", "params": {}}, 0, 5, "trials/0003", plugins=[])
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


def test_gains_are_larger_for_better_and_censored_by_prediction():
    objectives = [Objective("val_accuracy"), Objective("params", "min")]
    known = {"val_accuracy": 0.5, "params": 10.0}
    assert gains(Outcome("completed", known), objectives) == (0.5, -10.0)
    stopped = Outcome("stopped", known, predicted={"val_accuracy": Prediction(0.7, 0.1)})
    assert gains(stopped, objectives) == (0.7, -10.0)
    assert gains(stopped.as_duplicate_of(1), objectives) == (0.7, -10.0)
    assert gains(Outcome("failed", known), objectives) is None
    assert gains(Outcome("completed", {"val_accuracy": math.nan, "params": 1.0}), objectives) is None
    assert gains(Outcome("completed", {}), objectives) is None


def test_a_duplicate_costs_nothing():
    twin = Outcome("completed", {"val_accuracy": 0.5}, 12, 30.0).as_duplicate_of(4)
    assert (twin.status, twin.twin, twin.steps, twin.seconds) == ("duplicate", 4, 0, 0.0)


def test_seeds_depend_on_seed_purpose_and_number_alone():
    assert derive_seed(0, "ask", 1) == 2900996349549447749  # on every machine, in every process
    seeds = {derive_seed(s, p, n) for s in range(5) for p in ("ask", "init") for n in range(50)}
    assert len(seeds) == 500
    assert generator(1, "ask", 2).random() == generator(1, "ask", 2).random()
