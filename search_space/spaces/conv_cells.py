"""Image networks made of one searched cell, as in NAS-Bench-201."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..architecture import Architecture, Node
from ..choices import Choices
from ..compose import conv_stem, part, pooled_head
from ..space import space

OPERATIONS = {"none": "zero", "skip": "identity", "conv-1x1": "conv-1x1", "conv-3x3": "conv-3x3", "avg-pool-3x3": "avg-pool-3x3"}


@space("conv-cells", task="image")
def conv_cells(
    choose: Choices,
    *,
    channels: int | Sequence[int] = (8, 16),
    stages: int | Sequence[int] = (2, 3),
    cells: int | Sequence[int] = (1, 2),
    nodes: int = 4,
    operations: Sequence[str] = tuple(OPERATIONS),
) -> Architecture:
    """Stages of one searched cell repeated, with a residual block of stride 2 between stages that doubles the channels.

    The cell is a DAG of ``nodes`` feature maps; node j is the sum over i < j of an operation on node i, chosen per edge
    (``none``, ``skip``, 1x1 and 3x3 convolutions, 3x3 average pooling). With ``channels=16, stages=3, cells=5`` this is
    the space of NAS-Bench-201 (2020, 2001.00326), whose 15,625 cells are its points; the published stem and batch norms differ
    in small ways (ours have no scale and shift within cells). A single value asks nothing.
    """
    width = _one(choose, "channels", channels)
    stage_count = _one(choose, "stages", stages)
    per_stage = _one(choose, "cells", cells)
    body = searched_cell(choose.at("cell"), nodes, operations)
    graph = [Node("input", "input"), replace(conv_stem(width), inputs=("input",))]
    for stage in range(stage_count):
        if stage > 0:
            graph.append(part("downsample", graph[-1].name, name=f"downsample-{stage}"))
        for index in range(per_stage):
            graph.append(part("cell", graph[-1].name, name=f"stage-{stage}/cell-{index}", body=body))
    graph.append(part("norm-relu", graph[-1].name, name="norm"))
    graph.append(replace(pooled_head(), inputs=("norm",)))
    return Architecture(tuple(graph), "head")


def searched_cell(choose: Choices, nodes: int, operations: Sequence[str]) -> Architecture:
    """A cell whose node j is the sum over i < j of the chosen operation on node i; its choices are ``op-i-j``."""
    made = [Node("n0", "input", (), {"index": 0})]
    for target in range(1, nodes):
        edges = []
        for source in range(target):
            operation = choose.one_of(f"op-{source}-{target}", operations)
            made.append(part(OPERATIONS.get(operation, operation), f"n{source}", name=f"op-{source}-{target}"))
            edges.append(made[-1].name)
        made.append(part("sum", *edges, name=f"n{target}"))
    return Architecture(tuple(made), f"n{nodes - 1}")


def _one(choose: Choices, name: str, values: int | Sequence[int]) -> int:
    return values if isinstance(values, int) else choose.one_of(name, values)
