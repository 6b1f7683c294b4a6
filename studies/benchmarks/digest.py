"""Time of the canonical digest: a cell, deep stacks, symmetric graphs, and all of NAS-Bench-201.

Run as ``python -m archwright.studies.benchmarks.digest``; writes ``results/digest.json``. Times are processor time of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from typing import Any

from archwright.search_space.architecture import Architecture, Node
from archwright.search_space.canonical import digest
from archwright.search_space.facts import block
from archwright.studies.benchmarks._results import write

OPERATIONS = ("zero", "identity", "benchmark-conv-1", "benchmark-conv-3", "benchmark-pool")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def _block(name: str, **facts: Any) -> None:
    def factory(*specs: Any, **params: Any) -> None:
        """Only its facts are read: a digest builds nothing."""

    block(name, "op", ("image",), keeps_zero=True, **facts)(factory)


def cell(operations: tuple[str, ...]) -> Architecture:
    """The NAS-Bench-201 cell with these operations on its six edges."""
    nodes = [Node("0", "input")]
    for reader in (1, 2, 3):
        ends = [(f"{s}-{t}", s, operation) for (s, t), operation in zip(EDGES, operations, strict=True) if t == reader]
        nodes += [Node(name, operation, (str(source),)) for name, source, operation in ends]
        nodes.append(Node(str(reader), "sum", tuple(name for name, _, _ in ends)))
    return Architecture(tuple(nodes), "3")


def stack(layers: int) -> Architecture:
    """Layers of two branch cells each, no two of them under the same names."""
    nodes = [Node("x", "input")]
    for number in range(layers):
        cells = [
            Architecture(
                (Node(f"i{number}", "input"), Node(f"{kind}{number}", "benchmark-conv-3", (f"i{number}",), {"size": size})),
                f"{kind}{number}",
            )
            for kind, size in (("a", 3), ("b", 5))
        ]
        nodes.append(Node(f"layer/{number}", "benchmark-layer", (nodes[-1].name,), {"branches": cells}))
    return Architecture(tuple(nodes), nodes[-1].name)


def branches(count: int) -> Architecture:
    """Identical branches of two convolutions, summed."""
    nodes = [Node("x", "input")]
    for number in range(count):
        nodes += [Node(f"{number}/0", "benchmark-conv-3", ("x",)), Node(f"{number}/1", "benchmark-conv-3", (f"{number}/0",))]
    return Architecture((*nodes, Node("s", "sum", tuple(f"{number}/1" for number in range(count)))), "s")


def cycle(length: int) -> Architecture:
    """Convolutions read in pairs around a cycle: every one looks like every other."""
    convs = [Node(f"a{i}", "benchmark-conv-3", ("x",)) for i in range(length)]
    pairs = [Node(f"b{i}", "benchmark-product", (f"a{i}", f"a{(i + 1) % length}")) for i in range(length)]
    return Architecture((Node("x", "input"), *convs, *pairs, Node("s", "sum", tuple(node.name for node in pairs))), "s")


def milliseconds(call: Callable[[], Any], repeats: int) -> float:
    """The median processor time of ``call``."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return round(1000 * sorted(times)[repeats // 2], 3)


def main() -> None:
    for name in ("benchmark-conv-1", "benchmark-conv-3", "benchmark-layer"):
        _block(name)
    _block("benchmark-pool", parameters=False)
    _block("benchmark-product", parameters=False, commutative=True)
    example = cell(("benchmark-conv-3", "benchmark-pool", "identity", "benchmark-conv-1", "zero", "benchmark-conv-3"))
    digest(example)
    figures: dict[str, Any] = {"cell_ms": milliseconds(lambda: digest(example), 500)}
    for layers in (100, 400):
        deep = stack(layers)
        figures[f"layers_{layers}_ms"] = milliseconds(lambda deep=deep: digest(deep), 15)  # type: ignore[misc]
    for count in (7, 10, 100):
        wide = branches(count)
        figures[f"branches_{count}_ms"] = milliseconds(lambda wide=wide: digest(wide), 15)  # type: ignore[misc]
    figures["cycle_40_ms"] = milliseconds(lambda: digest(cycle(40)), 5)
    start = time.process_time()
    figures["nas_bench_201_networks"] = len({digest(cell(operations)) for operations in product(OPERATIONS, repeat=6)})
    figures["nas_bench_201_cell_ms"] = round(1000 * (time.process_time() - start) / 15_625, 3)
    for key, value in figures.items():
        print(f"{key:<24} {value}")
    print(f"written to {write('digest', figures)}")


if __name__ == "__main__":
    main()
