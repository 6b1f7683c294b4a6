"""Several graphs as one, its nodes ordered by depth, so that a sweep handles all nodes of one depth at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .graph import ParameterGraph
from .vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """n nodes and t tensors of g graphs.

    Args:
        blocks: [n] numbers of blocks.
        traits, trait_values, trait_nodes: [k] number, value and node of every parameter of a block.
        slot_nodes: [t] the node of each tensor, graph by graph in the order of its slots.
        slot_tensors: [t] numbers of their names.
        slot_sizes: [t, 4] numbers of their sizes.
        reads: [n, n] how many times the row's node reads the column's.
        nearness: [n, n] 1 / s for the length s of the shortest path between them, 0 where there is none up to the reach.
        levels: (first, end) of the nodes of each depth.
        graphs: [n] the graph of each node.
        outputs: [g] the node that each graph returns.
    """

    blocks: Tensor
    traits: Tensor
    trait_values: Tensor
    trait_nodes: Tensor
    slot_nodes: Tensor
    slot_tensors: Tensor
    slot_sizes: Tensor
    reads: Tensor
    nearness: Tensor
    levels: tuple[tuple[int, int], ...]
    graphs: Tensor
    outputs: Tensor

    def to(self, like: Tensor) -> GraphBatch:
        """The batch on the device of ``like``, its numbers of the type of ``like``."""
        moved: dict[str, Any] = {name: value.to(like.device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(like.dtype) if value.is_floating_point() else value for name, value in moved.items()})


def batched(graphs: Sequence[ParameterGraph], vocabulary: Vocabulary, reach: int) -> GraphBatch:
    """The graphs as one; virtual edges join nodes up to ``reach`` apart."""
    where = [(depth, index, number) for index, graph in enumerate(graphs) for number, depth in enumerate(graph.depths)]
    where.sort()
    place = {(index, number): row for row, (_, index, number) in enumerate(where)}
    n = len(where)
    reads, nearness = np.zeros((n, n), dtype=np.float32), np.zeros((n, n), dtype=np.float32)
    traits: list[tuple[int, float, int]] = []
    slots: list[tuple[int, int, tuple[int, int, int, int]]] = []
    for index, graph in enumerate(graphs):
        rows = np.array([place[index, number] for number in range(len(graph.nodes))])
        reads[np.ix_(rows, rows)] = graph.reads
        near = (graph.distances >= 1) & (graph.distances <= reach)
        nearness[np.ix_(rows, rows)] = np.where(near, 1.0 / np.maximum(graph.distances, 1.0), 0.0)
        for row, node in zip(rows, graph.nodes, strict=True):
            traits += [(vocabulary.trait(name), value, int(row)) for name, value in node.traits]
        for slot in graph.slots:
            slots.append((int(rows[slot.node]), vocabulary.tensor(slot.local, slot.kind), vocabulary.nearest(slot.sizes)))
    depths = np.array([depth for depth, _, _ in where])
    bounds = [int(np.searchsorted(depths, depth)) for depth in range(int(depths[-1]) + 2)]
    return GraphBatch(
        blocks=torch.tensor([vocabulary.block(graphs[index].nodes[number].block) for _, index, number in where]),
        traits=torch.tensor([number for number, _, _ in traits], dtype=torch.long),
        trait_values=torch.tensor([value for _, value, _ in traits], dtype=torch.float32),
        trait_nodes=torch.tensor([row for _, _, row in traits], dtype=torch.long),
        slot_nodes=torch.tensor([row for row, _, _ in slots], dtype=torch.long),
        slot_tensors=torch.tensor([number for _, number, _ in slots], dtype=torch.long),
        slot_sizes=torch.tensor([sizes for _, _, sizes in slots], dtype=torch.long).reshape(-1, 4),
        reads=torch.from_numpy(reads),
        nearness=torch.from_numpy(nearness),
        levels=tuple(pairwise(bounds)),
        graphs=torch.tensor([index for _, index, _ in where]),
        outputs=torch.tensor([place[index, graph.output] for index, graph in enumerate(graphs)]),
    )
