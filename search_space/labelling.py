"""Canonical order of the vertices of a labelled directed acyclic graph: isomorphic graphs get the same numbered graph.

1. *Colour*: a hash of everything a vertex is computed from, then of everything it is read by. On most networks this already
   tells all vertices apart, in two passes whatever the depth.
2. *Refine*: colours are split by the colours of neighbours until nothing splits (an equitable partition).
3. *Take apart*: vertices of a colour of their own are fixed. The others fall into components; where all of two colour classes
   are joined alike, the joins carry no information and are left out. Components are ordered one by one and sorted by what they
   look like; equal ones are interchangeable, so k identical branches cost k orderings, not k!.
4. *Individualise*: in a component that is still tied, each vertex of the smallest class is singled out in turn, and the smallest
   description wins. Two equal descriptions are an automorphism, and vertices it maps onto each other are tried once.

Whatever order comes out, the digest hashes the whole numbered graph: two graphs with one digest are isomorphic by construction.
After individualise-and-refine of McKay and Piperno, "Practical graph isomorphism, II" (2014, arXiv 1301.1493).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

LEAF_LIMIT = 2_000

Colours = dict[int, int]
Arcs = list[list[tuple[int, int]]]  # vertex -> (number of the arc's kind, neighbour)
Pairs = tuple[tuple[int, int], ...]
Description = tuple[tuple[int, Pairs], ...]
Surroundings = tuple[int, Pairs, Pairs]


class TooSymmetric(Exception):
    """More than ``LEAF_LIMIT`` vertices were singled out; ``refined`` is each vertex's colour with those around it, which tells less."""

    def __init__(self, refined: Mapping[int, Surroundings]) -> None:
        super().__init__("the graph is too symmetric to be labelled exactly")
        self.refined = refined


def canonical_order(labels: Sequence[str], reads: Sequence[Sequence[tuple[int, str]]]) -> list[int]:
    """The vertices in canonical order.

    Args:
        labels: what tells a vertex from others besides its arcs.
        reads: for each vertex the (source, kind) of its incoming arcs; sources come before their readers. Input positions are
            part of the kind. One source may be read several times.

    Raises:
        TooSymmetric: the order would take more than ``LEAF_LIMIT`` individualisations.
    """
    hashes = _two_pass_hashes(labels, reads)
    if len(set(hashes)) == len(hashes):
        return sorted(range(len(hashes)), key=hashes.__getitem__)
    rank = {value: number for number, value in enumerate(sorted(set(hashes)))}
    return _Labelling(reads).order({vertex: rank[value] for vertex, value in enumerate(hashes)})


def _two_pass_hashes(labels: Sequence[str], reads: Sequence[Sequence[tuple[int, str]]]) -> list[bytes]:
    """A hash of each vertex with all before it, then with all after it."""
    forward: list[bytes] = []
    for label, arcs in zip(labels, reads, strict=True):
        forward.append(_hash(label, [kind.encode() + forward[source] for source, kind in arcs]))
    readers: list[list[bytes]] = [[] for _ in labels]
    both: list[bytes] = [b""] * len(labels)
    for vertex in reversed(range(len(labels))):
        both[vertex] = _hash(forward[vertex].hex(), readers[vertex])
        for source, kind in reads[vertex]:
            readers[source].append(kind.encode() + both[vertex])
    return both


def _hash(label: str, neighbours: list[bytes]) -> bytes:
    neighbours.sort()
    parts = [label.encode(), *neighbours]
    return hashlib.blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=16).digest()


class _Labelling:
    def __init__(self, reads: Sequence[Sequence[tuple[int, str]]]) -> None:
        self.sources, self.readers = _simple_arcs(reads)
        self.leaves = 0
        self.start: Colours = {}

    def order(self, colours: Colours) -> list[int]:
        self.start = self._refined(colours)
        return self._order(self.start)

    def _refined(self, colours: Colours) -> Colours:
        """The coarsest equitable partition below ``colours``; the names of the colours do not depend on the numbering."""
        count = len(set(colours.values()))
        while True:
            signatures = {vertex: (colour, *self._surroundings(vertex, colours)) for vertex, colour in colours.items()}
            rank = {signature: number for number, signature in enumerate(sorted(set(signatures.values())))}
            colours = {vertex: rank[signature] for vertex, signature in signatures.items()}
            if len(rank) in (count, len(colours)):
                return colours
            count = len(rank)

    def _surroundings(self, vertex: int, colours: Colours) -> tuple[Pairs, Pairs]:
        before = sorted((kind, colours[other]) for kind, other in self.sources[vertex] if other in colours)
        after = sorted((kind, colours[other]) for kind, other in self.readers[vertex] if other in colours)
        return tuple(before), tuple(after)

    def _order(self, colours: Colours) -> list[int]:
        """The vertices of ``colours``, an equitable partition, in canonical order."""
        classes = _classes(colours)
        fixed = [members[0] for _, members in sorted(classes.items()) if len(members) == 1]
        tied = {colour: members for colour, members in classes.items() if len(members) > 1}
        if not tied:
            return fixed
        components = self._components(tied, colours)
        if len(components) == 1 and not fixed:
            return self._individualised(classes, colours)
        ordered = []
        for component in components:
            order = self._order({vertex: colours[vertex] for vertex in component})
            ordered.append((self._description(order, colours), order))
        ordered.sort(key=lambda pair: pair[0])
        return fixed + [vertex for _, order in ordered for vertex in order]

    def _components(self, tied: dict[int, list[int]], colours: Colours) -> list[list[int]]:
        """The vertices of tied classes, split where only uniform joins (all pairs of two classes alike) hold them together."""
        root = {vertex: vertex for members in tied.values() for vertex in members}
        for vertex in list(root):
            by_class: dict[int, dict[int, int]] = {}
            for kind, source in self.sources[vertex]:
                if source in root:
                    by_class.setdefault(colours[source], {})[source] = kind
            for colour, kinds in by_class.items():
                for other in _informative(kinds, tied[colour]):
                    _join(root, vertex, other)
        components: dict[int, list[int]] = {}
        for vertex in root:
            components.setdefault(_find(root, vertex), []).append(vertex)
        return list(components.values())

    def _individualised(self, classes: dict[int, list[int]], colours: Colours) -> list[int]:
        """The order with the smallest description among those that single one vertex of the smallest class out."""
        _, colour = min((len(members), colour) for colour, members in classes.items())
        orbit = {vertex: vertex for vertex in colours}
        tried: dict[Description, list[int]] = {}
        done: set[int] = set()
        for vertex in classes[colour]:
            if _find(orbit, vertex) in {_find(orbit, other) for other in done}:
                continue
            done.add(vertex)
            self.leaves += 1
            if self.leaves > LEAF_LIMIT:
                raise TooSymmetric({one: (self.start[one], *self._surroundings(one, self.start)) for one in self.start})
            order = self._order(self._refined({**colours, vertex: -1}))
            twin = tried.setdefault(self._description(order, colours), order)
            for one, other in zip(order, twin, strict=True):
                _join(orbit, one, other)
        return tried[min(tried)]

    def _description(self, order: list[int], colours: Colours) -> Description:
        """The graph on the vertices of ``order``, numbered in that order."""
        place = {vertex: number for number, vertex in enumerate(order)}
        return tuple(
            (colours[vertex], tuple(sorted((kind, place[source]) for kind, source in self.sources[vertex] if source in place)))
            for vertex in order
        )


def _simple_arcs(reads: Sequence[Sequence[tuple[int, str]]]) -> tuple[Arcs, Arcs]:
    """At most one arc between two vertices: the kinds of parallel arcs become one kind; kinds are numbered in sorted order."""
    together: list[dict[int, tuple[str, ...]]] = []
    for arcs in reads:
        kinds: dict[int, tuple[str, ...]] = {}
        for source, kind in sorted(arcs):
            kinds[source] = (*kinds.get(source, ()), kind)
        together.append(kinds)
    number = {kind: count for count, kind in enumerate(sorted({kind for kinds in together for kind in kinds.values()}))}
    sources: Arcs = [[(number[kind], source) for source, kind in kinds.items()] for kinds in together]
    readers: Arcs = [[] for _ in reads]
    for vertex, arcs_in in enumerate(sources):
        for kind_number, source in arcs_in:
            readers[source].append((kind_number, vertex))
    return sources, readers


def _informative(kinds: dict[int, int], members: list[int]) -> Iterable[int]:
    """The members of a class that a vertex is joined to otherwise than to most of it (-1: not joined at all)."""
    counts: dict[int, int] = {-1: len(members) - len(kinds)}
    for kind in kinds.values():
        counts[kind] = counts.get(kind, 0) + 1
    usual = max(counts, key=lambda kind: (counts[kind], -kind))
    return (member for member in members if kinds.get(member, -1) != usual)


def _classes(colours: Colours) -> dict[int, list[int]]:
    classes: dict[int, list[int]] = {}
    for vertex, colour in colours.items():
        classes.setdefault(colour, []).append(vertex)
    return classes


def _find(root: dict[int, int], vertex: int) -> int:
    while root[vertex] != vertex:
        root[vertex] = root[root[vertex]]
        vertex = root[vertex]
    return vertex


def _join(root: dict[int, int], one: int, other: int) -> None:
    root[_find(root, one)] = _find(root, other)
