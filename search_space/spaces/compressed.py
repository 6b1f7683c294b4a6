"""The students of a teacher: each of its layers kept or removed, and the sizes of those that stay shrunk."""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cache
from typing import Any

from ..architecture import Architecture, source_of
from ..choices import Choices
from ..space import Space, space
from .resnet import residual_network
from .teacher import WIDTH, Teacher, shrunk, stride_of, takes_stride, teacher_of, teacher_text

KEEP = "keep"


@space("compressed")
def compressed(choose: Choices, *, teacher: Any = None) -> Architecture:
    """Networks made from ``teacher`` by removing layers and shrinking the sizes of the others.

    For each layer l the choice ``layer/l/keep``, where it can go; where it stays, a factor of 0.1, 0.2, ..., 1 for its ``width``,
    ``hidden`` channels, ``expansion`` and (where it has no stride) ``kernel_size``: new value = max(1, round(factor * old)).
    Factors that give one value are offered once. What follows is repaired: the next layer reads the new width, takes over a
    stride, and values that are added up shrink by one factor. Keeping all with factors of 1 is the teacher itself. Nodes keep the
    teacher's names.

    N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning (2018, 1709.06030).

    Args:
        teacher: an :class:`Architecture`, its JSON, or the path of an ``architecture.json`` or of an exported network; by default
            the residual network with 16, 32 and 64 channels and two basic blocks a stage.

    Raises:
        SpaceError: there is no such teacher, or nothing of it can be removed or shrunk.
    """
    plan = teacher_plan(teacher)
    removed: set[str] = set()
    factors: dict[tuple[str, str], float] = {}
    scopes = choose.repeat("layer", len(plan.layers), len(plan.layers))
    for layer, here in zip(plan.layers, scopes, strict=True):
        if layer.removable and not here.one_of(KEEP, [False, True]):
            removed.add(layer.name)
            continue
        for variable, options in layer.factors.items():
            owner = plan.group(layer.name) if variable == WIDTH else layer.name
            factors[owner, variable] = here.one_of(variable, options)
    return student(plan, removed, factors)


def compressed_space(teacher: Any = None) -> Space:
    """The students of this teacher as a space of their own."""
    made: Space = compressed.with_params(teacher=None if teacher is None else teacher_text(teacher))
    return made


def teacher_plan(teacher: Any = None) -> Teacher:
    """What may be taken away from the teacher, as :func:`compressed` takes it."""
    return teacher_of(_default_text() if teacher is None else teacher_text(teacher))


@cache
def _default_text() -> str:
    return residual_network().to_text()


def descriptors(space: Space) -> dict[str, tuple[float, ...]] | None:
    """The descriptor of each layer by its scope (``layer/3``); None for a space of another kind."""
    if space.function is not compressed.function:
        return None
    layers = teacher_plan(space.params.get("teacher")).layers
    return {f"layer/{index}": layer.descriptor for index, layer in enumerate(layers)}


def student(plan: Teacher, removed: Set[str], factors: Mapping[tuple[str, str], float]) -> Architecture:
    """The teacher without the nodes ``removed``, its sizes times ``factors`` by (node, or group of widths; variable)."""
    teacher = plan.architecture
    stands: dict[str, str] = {}  # a removed node -> what is read in its place
    owed: dict[str, int] = {}  # a node -> the strides of removed layers before it that nobody has taken over
    nodes = []
    for node in teacher.nodes:
        due = max((owed[source_of(reference)] for reference in node.inputs), default=1)
        inputs = tuple(stands.get(reference, reference) for reference in node.inputs)
        if node.name in removed:
            stands[node.name], owed[node.name] = inputs[0], due * stride_of(node)
            continue
        params = dict(node.params)
        for variable in params:
            factor = factors.get((plan.group(node.name) if variable == WIDTH else node.name, variable), 1.0)
            if factor != 1.0:
                params[variable] = shrunk(variable, params[variable], factor, plan.unit(node, variable))
        if due > 1 and takes_stride(node):
            params["stride"], due = due * stride_of(node), 1
        owed[node.name] = due
        nodes.append(type(node)(node.name, node.block, inputs, params, node.weights))
    return Architecture(tuple(nodes), stands.get(teacher.output, teacher.output), teacher.ports, teacher.training)
