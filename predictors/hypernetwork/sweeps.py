"""Gated message passing along a directed graph, forward in its order and then backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .batch import GraphBatch


class GatedSweeps(nn.Module):
    """T rounds of a sweep over in-neighbours in the order of the graph, then one over out-neighbours in reverse.

    ``m_v = sum_{u in N(v)} MLP(h_u) + sum_{u: s_vu <= s_max} MLP_sp(h_u) / s_vu`` with the shortest path length s, then
    ``h_v <- GRU(m_v, h_v)``; a node sees what the sweep has already changed. One GRU and two MLPs serve all nodes and both sweeps.
    Direct neighbours have s = 1 and count in both sums. Nodes of one depth do not see each other and go together.

    Args:
        d: width of the states.
        rounds: T.
        virtual_edges: False leaves the second sum out.
    """

    def __init__(self, d: int, *, rounds: int = 1, virtual_edges: bool = True) -> None:
        super().__init__()
        self.rounds = rounds
        self.gate = nn.GRUCell(d, d)
        self.direct = _mlp(d)
        self.virtual = _mlp(d) if virtual_edges else None

    def forward(self, h: Tensor, batch: GraphBatch) -> Tensor:
        """States after all rounds: [n, d] -> [n, d]."""
        for _ in range(self.rounds):
            h = self._sweep(h, batch.reads, batch.nearness, batch.levels)
            turned = tuple((len(h) - end, len(h) - first) for first, end in reversed(batch.levels))
            h = self._sweep(h.flip(0), batch.reads.T.flip(0, 1), batch.nearness.T.flip(0, 1), turned).flip(0)
        return h

    def _sweep(self, h: Tensor, reads: Tensor, nearness: Tensor, levels: tuple[tuple[int, int], ...]) -> Tensor:
        states: list[Tensor] = []
        said: list[Tensor] = []
        hinted: list[Tensor] = []
        for first, end in levels:
            message = h.new_zeros(end - first, h.shape[1])
            if first:
                message = message + reads[first:end, :first] @ torch.cat(said)
                if self.virtual is not None:
                    message = message + nearness[first:end, :first] @ torch.cat(hinted)
            states.append(self.gate(message, h[first:end]))
            said.append(self.direct(states[-1]))
            if self.virtual is not None:
                hinted.append(self.virtual(states[-1]))
        return torch.cat(states)


def _mlp(d: int) -> nn.Sequential:
    """Two layers that keep the scale of what they read, so that messages count from the start."""
    first, last = nn.Linear(d, d), nn.Linear(d, d)
    for linear in (first, last):
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
    return nn.Sequential(first, nn.ReLU(), last)
