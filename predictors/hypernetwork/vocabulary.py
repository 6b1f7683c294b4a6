"""The names and sizes a hypernetwork has embeddings for; what it never met shares one, sizes take that of the nearest known one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from .graph import ParameterGraph, Sizes


@dataclass(frozen=True)
class Vocabulary:
    """Known names, in order; number 0 of each table is for the unknown, the first name has number 1.

    Args:
        blocks: of nodes.
        traits: names of their parameters.
        tensors: names of tensors within their nodes, each with its kind (``weight|matrix``).
        channels: sizes of the first two axes of tensors.
        kernels: sizes of the other axes.
    """

    blocks: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    channels: tuple[int, ...] = (1,)
    kernels: tuple[int, ...] = (1,)

    @classmethod
    def of(cls, graphs: Iterable[ParameterGraph]) -> Vocabulary:
        """Everything that occurs in ``graphs``, whatever their order."""
        blocks, traits, tensors = set[str](), set[str](), set[str]()
        channels, kernels = {1}, {1}
        for graph in graphs:
            for node in graph.nodes:
                blocks.add(node.block)
                traits.update(name for name, _ in node.traits)
            for slot in graph.slots:
                tensors.add(f"{slot.local}|{slot.kind}")
                channels.update(slot.sizes[:2])
                kernels.update(slot.sizes[2:])
        return cls(tuple(sorted(blocks)), tuple(sorted(traits)), tuple(sorted(tensors)), tuple(sorted(channels)), tuple(sorted(kernels)))

    def joined(self, other: Vocabulary) -> Vocabulary:
        """What either knows."""
        return Vocabulary(**{name: tuple(sorted({*mine, *getattr(other, name)})) for name, mine in asdict(self).items()})

    def block(self, name: str) -> int:
        return self._numbers["blocks"].get(name, 0)

    def trait(self, name: str) -> int:
        return self._numbers["traits"].get(name, 0)

    def tensor(self, local: str, kind: str) -> int:
        return self._numbers["tensors"].get(f"{local}|{kind}", 0)

    def nearest(self, sizes: Sizes) -> tuple[int, int, int, int]:
        """The numbers, from 0, of the known sizes with the nearest logarithms."""
        out, into, high, wide = sizes
        return _nearest(out, self.channels), _nearest(into, self.channels), _nearest(high, self.kernels), _nearest(wide, self.kernels)

    @cached_property
    def _numbers(self) -> Mapping[str, Mapping[str, int]]:
        tables = {"blocks": self.blocks, "traits": self.traits, "tensors": self.tensors}
        return {table: {name: number for number, name in enumerate(names, start=1)} for table, names in tables.items()}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Vocabulary:
        return cls(**{name: tuple(values) for name, values in data.items()})


def _nearest(size: int, known: Sequence[int]) -> int:
    return min(range(len(known)), key=lambda number: (abs(math.log(size / known[number])), number))
