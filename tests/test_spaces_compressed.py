"""Residual networks, and the students of a teacher: what may go, what may shrink, and that every student is a network."""

from __future__ import annotations

import random

import pytest
import torch

from archwright import SPACES, TensorSpec, build
from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.choices import value_name
from archwright.search_space.compose import chain, layer, part, pooled_head, tokens
from archwright.search_space.cost import cost
from archwright.search_space.errors import BuildError, SpaceError
from archwright.search_space.spaces.compressed import compressed_space, descriptors, student, teacher_plan
from archwright.search_space.spaces.resnet import residual_network
from archwright.search_space.spaces.teacher import DESCRIPTOR, FACTORS, shrunk
from archwright.testing.blocks import check_block
from archwright.testing.spaces import check_space

from .build_toys import CLASSES
from .compression_toys import striped_teacher

GREY = TensorSpec("image", (1, 28, 28))
SMALL = TensorSpec("image", (3, 16, 16))


def everything(path, domain):
    return domain.values()[-1]


def least(path, domain):
    return domain.values()[0]


def run(architecture: Architecture, spec: TensorSpec = SMALL):
    x = torch.rand(2, *spec.shape, generator=torch.Generator().manual_seed(0))
    y = build(architecture, spec, CLASSES)(x)
    assert y.shape == (2, 10)
    assert y.isfinite().all()


# --- residual networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"width": 8, "hidden": 4, "stride": 2}, {"kernel_size": 1, "width": 24, "hidden": 1}])
def test_the_basic_block_keeps_the_laws(params):
    check_block("basic-block", None, **params)


@pytest.mark.parametrize(("width", "hidden", "stride"), [(16, 16, 1), (16, 5, 1), (32, 32, 2), (8, 16, 1)])
def test_parameters_of_a_basic_block_are_as_said(width, hidden, stride):
    nodes = (Node("x", "input"), part("basic-block", "x", name="b", width=width, hidden=hidden, stride=stride), part("pooled-head", "b"))
    shortcut = 0 if (width, stride) == (16, 1) else 16 * width + 2 * width
    head = width * 10 + 10
    expected = 9 * hidden * (16 + width) + 2 * (hidden + width) + shortcut + head
    assert cost(Architecture(nodes, "pooled-head"), TensorSpec("image", (16, 8, 8)), CLASSES).params == expected


def test_a_basic_block_refuses_an_even_kernel():
    nodes = (Node("x", "input"), part("basic-block", "x", name="b", kernel_size=2), part("pooled-head", "b"))
    with pytest.raises(BuildError, match="odd kernel_size"):
        build(Architecture(nodes, "pooled-head"), SMALL, CLASSES)


def test_the_residual_network_of_fourteen_layers():
    assert cost(residual_network(), GREY, CLASSES).params == 174_970
    assert len(residual_network(blocks=4).nodes) == len(residual_network().nodes) + 6


def test_the_space_of_residual_networks_keeps_the_laws():
    assert check_space(SPACES["resnet"].obj, SMALL, samples=6).dead_share == 0.0
    values = {"width": 16, "blocks-0": 2, "blocks-1": 2, "blocks-2": 2}
    assert SPACES["resnet"].obj.complete(values, random.Random(0))[0] == residual_network()


# --- the teacher as a space ------------------------------------------------------------------------------------------------


def test_keeping_all_is_the_teacher_unchanged():
    for teacher in (residual_network(), striped_teacher(8), residual_network((8, 16), 1)):
        unchanged, trace = compressed_space(teacher).run(everything)
        assert unchanged == teacher
        assert {value_name(c.value) for c in trace if c.path.endswith("keep")} == {"true"}
        assert {c.value for c in trace if not c.path.endswith(("keep", "layer"))} == {1.0}


def test_the_laws_of_a_space():
    space = SPACES["compressed"].obj
    report = check_space(space, GREY, samples=6)
    assert report.dead_share == 0.0
    assert report.changes > 60


def test_every_factor_gives_another_value():
    for shape in (2, 3, 5, 8, 16, 64):
        nodes = (Node("x", "input"), part("conv-stem", "x", name="stem", width=shape, kernel_size=3), part("pooled-head", "stem"))
        (only,) = teacher_plan(Architecture(nodes, "pooled-head")).layers
        values = [shrunk("width", shape, factor) for factor in only.factors["width"]]
        assert len(set(values)) == len(values)
        assert set(values) == {shrunk("width", shape, factor) for factor in FACTORS}
        assert only.factors["width"][-1] == 1.0


TEACHERS = {
    "resnet": lambda rng: SPACES["resnet"].obj.for_input(SMALL).sample(rng)[0],
    "nasbench-macro": lambda rng: SPACES["nasbench-macro"].obj.sample(rng)[0],
    "fbnet": lambda rng: SPACES["fbnet"].obj.sample(rng)[0],
    "conv-cells": lambda rng: SPACES["conv-cells"].obj.sample(rng)[0],
    "token-mixers": lambda rng: SPACES["token-mixers"].obj.for_input(SMALL).sample(rng)[0],
}


@pytest.mark.parametrize("kind", list(TEACHERS))
def test_every_student_builds_and_runs(kind):
    rng = random.Random(3)
    for _ in range(1 if kind == "fbnet" else 2):
        teacher = TEACHERS[kind](rng)
        space = compressed_space(teacher)
        assert space.run(everything)[0] == teacher
        for _ in range(3):
            run(space.sample(rng)[0])
        run(space.run(least)[0])


def _with_sums() -> Architecture:
    """Convolutions with a shortcut around two of them, and a wider one after."""
    nodes = (
        Node("input", "input"),
        part("conv-stem", "input", name="stem", width=8),
        part("conv-stem", "stem", name="a", width=20),
        part("conv-stem", "a", name="b", width=8),
        part("sum", "stem", "b", name="sum"),
        part("conv-3x3", "sum", name="c"),
        part("pointwise-conv", "c", name="d", width=12, stride=2),
        part("pooled-head", "d", name="head"),
    )
    return Architecture(nodes, "head")


def test_widths_that_are_added_up_shrink_by_one_factor():
    plan = teacher_plan(_with_sums())
    found = {layer.name: set(layer.factors) for layer in plan.layers}
    assert found == {"stem": {"width"}, "a": {"width"}, "c": set(), "d": {"width"}}
    assert {layer.name for layer in plan.layers if layer.removable} == {"c"}
    half = student(plan, {"c"}, {(plan.group("stem"), "width"): 0.5})
    assert [half.node(name).params["width"] for name in ("stem", "a", "b", "d")] == [4, 20, 4, 12]
    run(half)
    space, rng = compressed_space(_with_sums()), random.Random(0)
    for _ in range(10):
        run(space.sample(rng)[0])


def test_the_next_layer_takes_over_a_stride_and_reads_the_new_width():
    plan = teacher_plan(residual_network())
    small = student(plan, {"stage-0/block-1", "stage-1/block-0", "stage-1/block-1", "stage-2/block-0"}, {})
    last = small.node("stage-2/block-1")
    assert last.inputs == ("stage-0/block-0",)
    assert last.params["stride"] == 4
    run(small, GREY)
    run(student(plan, {layer.name for layer in plan.layers if layer.removable}, {}), GREY)


def test_a_layer_whose_values_others_need_stays():
    teacher = chain(
        tokens(16), [layer("attention", "mlp"), layer("gru", "mlp"), layer("attention")], pooled_head(), residual="value-residual"
    )
    names = {found.name: found.removable for found in teacher_plan(teacher).layers}
    assert names == {"layer-1": True, "layer-2": True}
    for removed in ({"layer-1"}, {"layer-2"}, {"layer-1", "layer-2"}):
        run(student(teacher_plan(teacher), removed, {}))


def test_the_width_of_a_stream_shrinks_in_steps_that_heads_divide():
    teacher = chain(tokens(64), [layer("attention", "mlp"), layer("gru", "mlp")], pooled_head())
    plan = teacher_plan(teacher)
    (stem,) = [found for found in plan.layers if found.factors]
    widths = [student(plan, set(), {(plan.group(stem.name), "width"): factor}).node(stem.name) for factor in stem.factors["width"]]
    assert [node.params["width"] for node in widths] == list(range(8, 65, 8))
    half = student(plan, {"layer-0"}, {(plan.group(stem.name), "width"): 0.5})
    run(half)
    assert cost(half, SMALL, CLASSES).params < 0.25 * cost(teacher, SMALL, CLASSES).params


def test_a_cell_with_a_width_of_its_own_keeps_that_of_the_network():
    def teacher(inner: dict[str, int]) -> Architecture:
        body = Architecture((Node("x", "input"), part("pointwise-conv", "x", name="op", **inner)), "op")
        nodes = (Node("input", "input"), part("conv-stem", "input", name="stem", width=16), part("cell", "stem", name="a", body=body))
        return Architecture((*nodes, part("conv-stem", "a", name="b", width=8), part("pooled-head", "b", name="head")), "head")

    assert [found.name for found in teacher_plan(teacher({})).layers if found.factors] == ["stem", "b"]
    assert [found.name for found in teacher_plan(teacher({"width": 16})).layers if found.factors] == ["b"]


def test_tied_layers_stay():
    nodes = (
        Node("input", "input"),
        part("conv-stem", "input", name="stem", width=8),
        part("basic-block", "stem", name="a", width=8, hidden=8),
        part("basic-block", "a", name="b", width=8, hidden=8, weights="a"),
        part("pooled-head", "b", name="head"),
    )
    assert [layer.name for layer in teacher_plan(Architecture(nodes, "head")).layers] == ["stem"]


def test_descriptors_stand_by_scope_and_are_of_the_order_of_one():
    space = compressed_space(residual_network())
    found = descriptors(space)
    assert list(found) == [f"layer/{index}" for index in range(7)]
    assert all(len(row) == len(DESCRIPTOR) and all(0 <= value <= 1 for value in row) for row in found.values())
    assert found["layer/1"] == found["layer/2"] != found["layer/3"]
    assert descriptors(SPACES["resnet"].obj) is None


def test_a_teacher_in_a_file(tmp_path):
    teacher = striped_teacher(4)
    (tmp_path / "architecture.json").write_text(teacher.to_text())
    for given in (tmp_path, tmp_path / "architecture.json", str(tmp_path), teacher.to_json(), teacher.to_text()):
        assert compressed_space(given).run(everything)[0] == teacher


def test_mistakes(tmp_path):
    with pytest.raises(SpaceError, match="no teacher at"):
        compressed_space(tmp_path / "nothing.json")
    bare = Architecture((Node("input", "input"), part("pooled-head", "input", name="head")), "head")
    with pytest.raises(SpaceError, match="no layer that can be removed"):
        compressed_space(bare).run(everything)
