"""The three views of an architecture: networkx, text, SVG."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.layout import layered
from archwright.search_space.outline import folded

from .digest_blocks import graph, test_blocks


@pytest.fixture(autouse=True, scope="module")
def _blocks() -> Iterator[None]:
    with test_blocks():
        yield


def _branch(name: str, block: str, **params: object) -> Architecture:
    return Architecture((Node(f"in-{name}", "input"), Node(name, block, (f"in-{name}",), params)), name)


def stack(layers: int = 4, **changed: object) -> Architecture:
    """open, equal layers of two branches, close; ``changed`` are params of the last layer's first branch."""
    nodes = [Node("x", "input"), Node("open", "test-conv", ("x",), {"rule": "pre-norm"})]
    for number in range(layers):
        first = changed if number == layers - 1 else {}
        cells = [_branch(f"a{number}", "test-knobs", **first), _branch(f"b{number}", "test-linear", expansion=4)]
        nodes.append(Node(f"layer/{number}", "test-branches", (nodes[-1].name,), {"branches": cells, "norm": "rmsnorm"}))
    return Architecture((*nodes, Node("close", "test-conv", (nodes[-1].name,))), "close")


TANGLE = graph(
    "s", v=("test-values", "x"), c=("test-conv", "v"), t=("test-conv", "x", {"weights": "c"}), s=("sum", "x", "c", "c", "v:values")
)


# --- networkx


def test_networkx_keeps_positions_ports_and_repeated_edges() -> None:
    made = TANGLE.to_networkx()
    edges = sorted((data["position"], source, data["port"]) for source, _, data in made.in_edges("s", data=True))
    assert edges == [(0, "x", ""), (1, "c", ""), (2, "c", ""), (3, "v", "values")]
    assert made.nodes["t"] == {"block": "test-conv", "params": {}, "weights": "c"}
    assert made.graph["output"] == "s"


# --- text


def test_text_lists_nodes_cells_inputs_and_training() -> None:
    lines = str(stack(3, heads=8).with_training(optimizer="adamw", learning_rate=0.0010)).splitlines()
    assert lines == [
        "x             input",
        "open          test-conv(rule=pre-norm)        ← x",
        "layer/0..1    test-branches(norm=rmsnorm) ×2  ← open",
        "  branches 1  test-knobs",
        "  branches 2  test-linear(expansion=4)",
        "layer/2       test-branches(norm=rmsnorm)     ← layer/0..1",
        "  branches 1  test-knobs(heads=8)",
        "  branches 2  test-linear(expansion=4)",
        "close         test-conv                       ← layer/2",
        "output                                        ← close",
        "training      optimizer=adamw, learning_rate=0.001",
    ]


def test_text_indents_cells_that_are_no_chain() -> None:
    text = str(graph("b", b=("test-branches", "x", {"body": TANGLE})))
    assert "  body:" in text.splitlines()
    assert re.search(r"^    s +sum +← x, c, c, v:values$", text, re.MULTILINE)
    assert re.search(r"^    t +test-conv, weights of c +← x$", text, re.MULTILINE)


# --- folding


def test_equal_layers_fold_whatever_the_nodes_of_their_cells_are_called() -> None:
    assert [(run.name, run.count) for run in folded(stack(4))] == [("x", 1), ("open", 1), ("layer/0..3", 4), ("close", 1)]


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(graph("b", a=("test-conv", "x"), b=("test-conv", "a", {"size": 3})), id="other parameters"),
        pytest.param(graph("s", a=("test-conv", "x"), b=("test-conv", "a"), s=("sum", "a", "b")), id="first read elsewhere"),
        pytest.param(graph("b", a=("test-conv", "x"), b=("test-conv", "a", {"weights": "a"})), id="shared weights"),
        pytest.param(graph("b", ports={"early": "a"}, a=("test-conv", "x"), b=("test-conv", "a")), id="first given out"),
        pytest.param(graph("b", a=("test-values", "x"), b=("test-values", "a:values")), id="reads a port"),
    ],
)
def test_layers_that_differ_are_not_folded(architecture: Architecture) -> None:
    assert all(run.count == 1 for run in folded(architecture))


# --- SVG


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_svg_is_a_document_that_shows_every_block_parameter_and_port() -> None:
    texts = _texts(graph("h", b=("test-branches", "x", {"body": TANGLE, "gate": "on"}), h=("test-linear", "b")).to_svg())
    for expected in ("input", "test-branches", "gate=on", "body", "test-values", "values", "weights of c", "test-linear", "output", "op"):
        assert expected in texts
    assert not any(text == "mixer" for text in texts), "the legend names a kind that does not occur"


def test_svg_shows_folded_layers_once_with_their_count() -> None:
    texts = _texts(stack(5).to_svg())
    assert texts.count("test-branches") == 1
    assert "×5" in texts
    assert "layer/0..4" in texts


def test_svg_escapes_text() -> None:
    svg = graph("a", a=("test-conv", "x", {"note": '<b> & "q"'})).to_svg()
    assert 'note=<b> & "q"' in _texts(svg)


def test_svg_draws_a_block_that_is_not_registered() -> None:
    assert "someone-elses" in _texts(graph("a", a=("someone-elses", "x")).to_svg())


def test_svg_fits_its_canvas_and_draws_each_input_as_an_arrow() -> None:
    root = ElementTree.fromstring(TANGLE.to_svg())
    filled = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") not in (None, "none")]
    assert len(filled) == sum(len(node.inputs) for node in TANGLE.nodes) + 1  # and the one into "output"
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    points = [tuple(map(float, p)) for path in filled for p in re.findall(r"M([\d.]+),([\d.]+)", path.attrib["d"])]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_svg_is_the_same_every_time() -> None:
    assert TANGLE.to_svg() == Architecture.from_json(TANGLE.to_json()).to_svg()


# --- layout


def _random_edges(rng: random.Random, count: int) -> list[tuple[int, int]]:
    return [(rng.randrange(target), target) for target in range(1, count) for _ in range(rng.randint(0, 3))]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_keep_apart_and_edges_run_down(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(3, 30)
    sizes = [(rng.uniform(20, 120), rng.uniform(15, 60)) for _ in range(count)]
    edges = _random_edges(rng, count)
    layout = layered(sizes, edges, gap=(22, 34))
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(layout.centres, sizes, strict=True)]
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert left >= -1e-6
        assert right <= layout.size[0] + 1e-6
        assert bottom <= layout.size[1] + 1e-6
        for other in boxes[:number]:
            beside = right <= other[0] - 21.9 or other[2] <= left - 21.9
            assert beside or bottom <= other[1] - 33.9 or other[3] <= top - 33.9
    for (source, target), lanes in zip(edges, layout.lanes, strict=True):
        assert boxes[source][3] < boxes[target][1]
        for x, upper, lower in lanes:
            assert not any(left < x < right and top < lower and upper < bottom for left, top, right, bottom in boxes)


def test_a_chain_stands_in_one_line() -> None:
    layout = layered([(30, 20), (90, 20), (50, 20), (10, 10)], [(0, 1), (1, 2), (2, 3)])
    assert {round(x, 6) for x, _ in layout.centres} == {45.0}


def test_crossings_that_can_be_avoided_are() -> None:
    """Two threads given in crossed order are drawn side by side."""
    layout = layered([(20, 20)] * 6, [(0, 3), (1, 2), (2, 4), (3, 5)])
    x = [centre for centre, _ in layout.centres]
    assert (x[0] - x[1]) * (x[3] - x[2]) > 0
    assert (x[3] - x[2]) * (x[5] - x[4]) > 0
