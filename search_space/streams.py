"""What building must know of a flat graph first: who is on which stream, and who shares parameters with whom."""

from __future__ import annotations

from .architecture import Architecture
from .errors import BuildError
from .inlining import FlatGraph, FlatNode
from .network import key_of


class Streams:
    """Which open each layer and close belongs to, and the writes of each layer, counted along the stream."""

    def __init__(self, flat: FlatGraph, where: str) -> None:
        self.flat = flat
        self.opened_at: dict[int, int] = {}
        self.writes: dict[int, dict[str, int]] = {}
        for number, node in enumerate(flat.nodes):
            if node.block == "open":
                self.opened_at[number] = number
                self.writes[number] = {}
            elif node.block in ("layer", "close") and node.inputs:
                source, port = node.inputs[0]
                if source in self.opened_at and not port and flat.nodes[source].block != "close":
                    self.opened_at[number] = self.opened_at[source]
                if node.block == "layer" and number in self.opened_at:
                    self._count(number, node, where)

    def _count(self, number: int, node: FlatNode, where: str) -> None:
        branches = node.params.get("branches")
        if not isinstance(branches, tuple) or not branches or not all(isinstance(cell, Architecture) for cell in branches):
            raise BuildError(f'Node "{where}{node.name}" ("layer") has the branches {branches!r}; give a tuple of architectures.')
        self.writes[self.opened_at[number]][node.name] = len(branches)

    def of(self, number: int) -> str | None:
        opened = self.opened_at.get(number)
        return None if opened is None or opened == number else key_of(self.flat.nodes[opened].name)


def owners(flat: FlatGraph) -> dict[int, int]:
    """For each node that shares parameters, the first node of its group."""
    owner: dict[int, int] = {}
    root = list(range(len(flat.nodes)))

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for one, other in flat.ties:
        first, second = sorted((find(one), find(other)))
        root[second] = first
    for number in range(len(root)):
        if find(number) != number:
            owner[number] = find(number)
    return owner
