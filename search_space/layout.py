"""Where to draw the boxes of a graph: layers by longest path, few crossings by barycentres, straight lines by least squares.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981). An edge that skips
layers runs through an invisible box in each, so that it is laid around the boxes and not across them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
Size = tuple[float, float]

_SWEEPS = 8
_RELAXATIONS = 120
_STIFF = 8.0  # how much more a single thread counts than one of several edges
_LANE = 10.0  # width of the invisible box of a passing edge


@dataclass(slots=True)
class Layout:
    """Centres of the boxes, for each edge the (x, top, bottom) of the lanes it passes, and the size of the whole."""

    centres: list[Point] = field(default_factory=list)
    lanes: list[list[tuple[float, float, float]]] = field(default_factory=list)
    size: Size = (0.0, 0.0)


def layered(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], gap: Size = (22.0, 34.0)) -> Layout:
    """Place boxes of ``sizes`` (width, height) top-down.

    Args:
        edges: (source, target) pairs of an acyclic graph, sources numbered before targets; parallel edges allowed.
        gap: least distance between boxes of a layer, and between layers.
    """
    depth = _depths(len(sizes), edges)
    widths = [width for width, _ in sizes]
    chains = _with_lanes(depth, widths, edges)
    neighbours = _neighbours(len(widths), chains)
    layers = _ordered(depth, neighbours)
    centres = _placed(layers, widths, neighbours, gap[0])
    return _measured(sizes, layers, depth, centres, widths, chains, gap)


def _depths(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest path from the top; a box that reads nothing stands just above its first reader."""
    depth = [0] * count
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        depth[target] = max(depth[target], depth[source] + 1)
    targets = {target for _, target in edges}
    for box in range(count):
        below = [depth[target] for source, target in edges if source == box]
        if box not in targets and below:
            depth[box] = min(below) - 1
    return depth


def _with_lanes(depth: list[int], widths: list[float], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Each edge as a chain of boxes one layer apart; new invisible boxes are appended to ``depth`` and ``widths``."""
    chains = []
    for source, target in edges:
        chain = [source]
        for layer in range(depth[source] + 1, depth[target]):
            chain.append(len(depth))
            depth.append(layer)
            widths.append(_LANE)
        chains.append([*chain, target])
    return chains


def _neighbours(count: int, chains: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _ordered(depth: list[int], neighbours: tuple[list[list[int]], list[list[int]]]) -> list[list[int]]:
    """Boxes by layer, ordered left to right by the mean place of their neighbours; the best of the sweeps wins."""
    above, below = neighbours
    layers: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for box, layer in enumerate(depth):
        layers[layer].append(box)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(_SWEEPS):
        towards, order = (above, layers[1:]) if sweep % 2 == 0 else (below, layers[-2::-1])
        for line in order:
            _sort_by_barycentre(line, layers, towards)
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _sort_by_barycentre(line: list[int], layers: list[list[int]], towards: list[list[int]]) -> None:
    place = {box: index for layer in layers for index, box in enumerate(layer)}
    line.sort(key=lambda box: (_mean([place[other] for other in towards[box]], place[box]), place[box]))


def _crossings(layers: list[list[int]], below: list[list[int]]) -> int:
    count = 0
    for upper, lower in itertools.pairwise(layers):
        place = {box: index for index, box in enumerate(lower)}
        ends = [end for box in upper for end in sorted(place[other] for other in below[box])]
        count += sum(1 for i, end in enumerate(ends) for later in ends[i + 1 :] if later < end)
    return count


def _placed(layers: list[list[int]], widths: list[float], neighbours: tuple[list[list[int]], list[list[int]]], gap: float) -> list[float]:
    """Horizontal centres: each box as near to its neighbours as the order and the gaps allow, single threads straight."""
    above, below = neighbours
    threads = [_threads(box, above, below, widths) for box in range(len(widths))]
    x = [0.0] * len(widths)

    def settle(layer: list[int], around: list[list[int]]) -> None:
        wanted = [_weighted_mean([(x[other], threads[box].get(other, 1.0)) for other in around[box]], x[box]) for box in layer]
        stiff = [max((threads[box].get(other, 1.0) for other in around[box]), default=1.0) for box in layer]
        for box, place in zip(layer, _spread(wanted, [widths[box] for box in layer], stiff, gap), strict=True):
            x[box] = place

    for layer in layers:
        settle(layer, [[] for _ in widths])
    both = [upper + lower for upper, lower in zip(above, below, strict=True)]
    for sweep in range(_RELAXATIONS):
        around = both if sweep >= _SWEEPS else above if sweep % 2 == 0 else below
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            settle(layer, around)
    for layer in layers:  # what is alone on its thread ends exactly under what it reads
        settle(layer, [upper if len(upper) == 1 and len(below[upper[0]]) == 1 else [] for upper in above])
    return x


def _threads(box: int, above: list[list[int]], below: list[list[int]], widths: list[float]) -> dict[int, float]:
    """How stiffly a box holds on to each neighbour: a single thread and a passing edge are straight, the ends of one bend."""
    stiffness = {}
    for other, back, forth in [*((o, below, above) for o in above[box]), *((o, above, below) for o in below[box])]:
        lanes = (widths[box] == _LANE) + (widths[other] == _LANE)
        single = len(forth[box]) == 1 and len(back[other]) == 1
        stiffness[other] = _STIFF if lanes == 2 or (single and lanes == 0) else 0.3 if lanes == 1 else 1.0
    return stiffness


def _spread(wanted: list[float], widths: list[float], weights: list[float], gap: float) -> list[float]:
    """The places nearest to ``wanted`` (weighted least squares) that keep the order and the gaps: isotonic regression."""
    offsets = [0.0]
    for left, right in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, members
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, members = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, heavy, count = blocks.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, members = weight + heavy, members + count
        blocks.append((mean, weight, members))
    flat = [mean for mean, _, members in blocks for _ in range(members)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def _measured(
    sizes: Sequence[Size],
    layers: list[list[int]],
    depth: list[int],
    x: list[float],
    widths: list[float],
    chains: list[list[int]],
    gap: Size,
) -> Layout:
    left = min((x[box] - widths[box] / 2 for box in range(len(widths))), default=0.0)
    right = max((x[box] + widths[box] / 2 for box in range(len(widths))), default=0.0)
    heights = [max((sizes[box][1] for box in layer if box < len(sizes)), default=0.0) for layer in layers]
    tops = [sum(heights[:layer]) + layer * gap[1] for layer in range(len(layers))]
    centres = [(x[box] - left, tops[depth[box]] + heights[depth[box]] / 2) for box in range(len(sizes))]
    lanes = [[(x[lane] - left, tops[depth[lane]], tops[depth[lane]] + heights[depth[lane]]) for lane in chain[1:-1]] for chain in chains]
    return Layout(centres, lanes, (right - left, tops[-1] + heights[-1] if layers else 0.0))


def _weighted_mean(values: Sequence[tuple[float, float]], otherwise: float) -> float:
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / total if values else otherwise


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
