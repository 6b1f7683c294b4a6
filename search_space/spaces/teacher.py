"""What may be taken away from a network: which of its layers can go, and which of their sizes can shrink."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from ..architecture import Architecture, Node, port_of, source_of
from ..errors import SpaceError
from ..facts import BLOCKS
from ..seeds import derive_seed

FACTORS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WIDTH = "width"
COARSE = 8
"""Widths that blocks divide among heads or groups shrink in steps of this many channels, or of their common divisor with it."""
VARIABLES = (WIDTH, "hidden", "expansion", "kernel_size")
DESCRIPTOR = ("type", "kernel", "stride", "padding", "channels", "skip_start", "skip_end")
_KEEPS_WIDTH = ("mixer", "channel", "norm", "activation")
_WITH_SHORTCUT = ("basic-block", "inverted-residual", "layer")


@dataclass(frozen=True)
class TeacherLayer:
    """One layer that may be removed or shrunk.

    Args:
        name: its node.
        removable: what follows can read what it reads.
        factors: for each size that can shrink, the factors that give different values, 1 the last.
        descriptor: (type, kernel, stride, padding, channels, skip_start, skip_end), each of the order of 1.
    """

    name: str
    removable: bool
    factors: Mapping[str, tuple[float, ...]]
    descriptor: tuple[float, ...]


def shrunk(variable: str, value: int, factor: float, unit: int = 1) -> int:
    """``max(1, round(factor value))``, in multiples of ``unit``; a kernel's side is the next odd one below.

    >>> shrunk("width", 16, 0.3), shrunk("kernel_size", 5, 0.8), shrunk("width", 3, 0.1), shrunk("width", 64, 0.3, unit=8)
    (5, 3, 1, 16)
    """
    smaller = unit * max(1, math.floor(factor * value / unit + 0.5))
    return smaller - (smaller % 2 == 0) if variable == "kernel_size" else smaller


def load_teacher(given: Any) -> Architecture:
    """The architecture given as itself, as its JSON, or as the path of an ``architecture.json`` or of the folder that holds one.

    Raises:
        SpaceError: there is no such file.
        ArchitectureError: the file holds no architecture.
    """
    return _parsed(teacher_text(given))


def teacher_text(given: Any) -> str:
    """The same as JSON text; a text that begins with a brace is taken for what it is."""
    if isinstance(given, Architecture):
        return given.to_text()
    if isinstance(given, str) and given.lstrip().startswith("{"):
        return given
    if isinstance(given, Mapping):
        return json.dumps(given, sort_keys=True)
    path = Path(given)
    try:
        return (path / "architecture.json" if path.is_dir() else path).read_text()
    except OSError:
        raise SpaceError(f'There is no teacher at "{path}"; give an architecture.json, or the folder of an exported network.') from None


@lru_cache(maxsize=8)
def _parsed(text: str) -> Architecture:
    return Architecture.from_json(text)


@lru_cache(maxsize=8)
def teacher_of(text: str) -> Teacher:
    """The teacher of this JSON text, looked at once."""
    return Teacher(_parsed(text))


class Teacher:
    """An architecture and what may be taken away from it.

    Values whose widths must agree (they are added up, or flow through a stream or a cell) form a group, which shrinks by one
    factor; where blocks divide the width among heads, in steps of eight channels. A group whose width the input, a grouped
    convolution or a block inside a cell decides does not shrink. A layer can go where it reads one value, keeps the layout, and
    what follows can do with the width it reads: any width, or the group's own. One with a stride can go only from a network
    without branches, where the next layer that has a stride takes it over.

    Raises:
        SpaceError: nothing can be removed or shrunk.
    """

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self._readers = Counter(source_of(reference) for node in architecture.nodes for reference in node.inputs)
        self._ported = {source_of(reference) for node in architecture.nodes for reference in node.inputs if port_of(reference)}
        self._tied = {node.weights for node in architecture.nodes if node.weights} | {n.name for n in architecture.nodes if n.weights}
        self._groups = _Groups(architecture)
        self.layers = tuple(layer for node in architecture.nodes if (layer := self._layer(node)) is not None)
        if not self.layers:
            raise SpaceError("The teacher has no layer that can be removed or shrunk; give one with layers between stem and head.")

    def group(self, name: str) -> str:
        """The node that stands for all whose width agrees with that of ``name``."""
        return self._groups.find(name)

    def unit(self, node: Node, variable: str) -> int:
        """What the values of this size are multiples of."""
        coarse = variable == WIDTH and self.group(node.name) in self._groups.coarse
        return math.gcd(node.params[variable], COARSE) if coarse else 1

    @cached_property
    def is_chain(self) -> bool:
        """Every value has one reader."""
        return max(self._readers.values(), default=0) <= 1

    def _layer(self, node: Node) -> TeacherLayer | None:
        kind = BLOCKS[node.block].facts.kind
        if kind == "head" or (kind == "structure" and node.block != "layer") or node.name in self._tied:
            return None
        factors = {} if node.block == "layer" else {name: found for name in VARIABLES if (found := self._factors(node, name))}
        removable = self._removable(node)
        if not removable and not factors:
            return None
        return TeacherLayer(node.name, removable, factors, self._descriptor(node))

    def _factors(self, node: Node, variable: str) -> tuple[float, ...]:
        """One factor for each value the variable can take, the largest of those that give it."""
        value = node.params.get(variable)
        if not isinstance(value, int) or isinstance(value, bool) or value < 2 or node.params.get("groups", 1) != 1:
            return ()
        if variable == WIDTH and (self.group(node.name) in self._groups.fixed or self._groups.leader(node.name) != node.name):
            return ()
        if variable == "kernel_size" and stride_of(node) > 1:  # a smaller one would skip pixels
            return ()
        unit = self.unit(node, variable)
        values = {shrunk(variable, value, factor, unit): factor for factor in FACTORS}
        return tuple(sorted(values.values())) if len(values) > 1 else ()

    def _removable(self, node: Node) -> bool:
        facts = BLOCKS[node.block].facts
        if node.block == "layer":
            return node.name not in self._ported
        if facts.kind not in ("op", "mixer", "channel") or not facts.parameters or len(node.inputs) != 1 or port_of(node.inputs[0]):
            return False
        own, read = self.group(node.name), self.group(source_of(node.inputs[0]))
        keeps_layout = facts.gives is None or facts.layouts == (facts.gives,)
        width_free = own == read or own not in self._groups.added | self._groups.fixed | self._groups.coarse
        leads_others = self._groups.leader(node.name) == node.name and self._groups.members(own) > 1
        stride_free = stride_of(node) == 1 or self.is_chain
        return keeps_layout and width_free and stride_free and not leads_others and node.name not in self._ported and _has_own_stride(node)

    def _descriptor(self, node: Node) -> tuple[float, ...]:
        kernel, width = int(node.params.get("kernel_size", 1)), self._groups.width(node.name)
        starts = node.block in _WITH_SHORTCUT or (bool(node.inputs) and self._readers[source_of(node.inputs[0])] > 1)
        ends = node.block in _WITH_SHORTCUT or any(
            other.block == "sum" and node.name in map(source_of, other.inputs) for other in self.architecture.nodes
        )
        kind = derive_seed(0, "layer-type", node.block) / 2**63
        return (kind, kernel / 7, stride_of(node) / 4, kernel // 2 / 3, math.log2(max(1, width)) / 10, float(starts), float(ends))


def stride_of(node: Node) -> int:
    """The stride of a node that has one, else 1."""
    return int(node.params.get("stride", 1))


def takes_stride(node: Node) -> bool:
    """The block has a stride that can be set."""
    return "stride" in BLOCKS[node.block].knobs


def _has_own_stride(node: Node) -> bool:
    """False for a block whose fixed stride would be lost with it."""
    return node.block != "downsample"


class _Groups:
    """Nodes whose widths must agree, as disjoint sets; one is called after any of its nodes."""

    def __init__(self, architecture: Architecture) -> None:
        self._above: dict[str, str] = {node.name: node.name for node in architecture.nodes}
        self._wide = [node for node in architecture.nodes if WIDTH in node.params and not isinstance(node.params[WIDTH], Architecture)]
        fixed: set[str] = set()
        added: set[str] = set()
        coarse: set[str] = set()
        for node in architecture.nodes:
            sources = [source_of(reference) for reference in node.inputs]
            facts: Any = BLOCKS[node.block].facts
            if node.block in ("sum", *_UNCHANGED) or (facts.kind in _KEEPS_WIDTH and WIDTH not in node.params) or _op_keeps_width(node):
                for source in sources:
                    self._above[self.find(source)] = self.find(node.name)
            if node.block == "sum":
                added.add(node.name)
            elif _fixes_width(node):
                fixed.update([node.name, *sources])
            elif facts.kind in ("mixer", "channel") or node.block in _AROUND:
                coarse.update([node.name, *sources])
        self.fixed, self.added, self.coarse = ({self.find(name) for name in names} for names in (fixed, added, coarse))

    def find(self, name: str) -> str:
        while self._above[name] != name:
            name = self._above[name]
        return name

    def leader(self, name: str) -> str | None:
        """The first node of the group that states its width: it is asked by how much the group shrinks."""
        return next((node.name for node in self._wide if self.find(node.name) == self.find(name)), None)

    def members(self, group: str) -> int:
        """How many nodes of the group state their width."""
        return sum(self.find(node.name) == group for node in self._wide)

    def width(self, name: str) -> int:
        """The width that a node of the group states; 0 where none does."""
        return next((int(node.params[WIDTH]) for node in self._wide if self.find(node.name) == self.find(name)), 0)


_UNCHANGED = ("open", "layer", "close", "cell", "loop", "identity", "zero", "dropout")


_AROUND = ("open", "layer", "cell", "loop")


def _fixes_width(node: Node) -> bool:
    """What it reads, and gives, must not shrink: it is the input, or a width is written down inside, or several values meet."""
    grouped = node.params.get("groups", 1) != 1
    several = len(node.inputs) > 1 and node.block != "concat"
    return not node.inputs or grouped or several or (node.block in _AROUND and any(map(_states_width, node.params.values())))


def _states_width(value: Any) -> bool:
    """A node of a network inside this parameter states its width."""
    if isinstance(value, Architecture):
        return any(WIDTH in node.params or any(map(_states_width, node.params.values())) for node in value.nodes)
    if isinstance(value, Mapping):
        return any(map(_states_width, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_states_width, value))


def _op_keeps_width(node: Node) -> bool:
    """An op that cannot be given a width keeps that of its input."""
    entry = BLOCKS[node.block]
    return entry.facts.kind == "op" and WIDTH not in inspect.signature(entry.obj).parameters
