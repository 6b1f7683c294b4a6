"""NAS-Bench-201 cells: 15,625 labelled cells are 5,260 networks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from archwright.search_space.architecture import Architecture, Node

from .digest_blocks import test_blocks

OPERATIONS = ("zero", "identity", "test-conv-1", "test-conv-3", "test-pool")
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


@pytest.fixture(autouse=True, scope="module")
def _blocks() -> Iterator[None]:
    with test_blocks():
        yield


def nas_bench_201(operations: tuple[str, ...]) -> Architecture:
    nodes = [Node("0", "input")]
    for reader in (1, 2, 3):
        ends = []
        for (source, target), operation in zip(EDGES, operations, strict=True):
            if target == reader:
                ends.append(f"{source}-{target}")
                kind, _, size = operation.rpartition("-") if operation.startswith("test-conv") else (operation, "", "")
                nodes.append(Node(ends[-1], kind, (str(source),), {"size": int(size)} if size else {}))
        nodes.append(Node(str(reader), "sum", tuple(ends)))
    return Architecture(tuple(nodes), "3")


def test_nas_bench_201_has_5260_networks() -> None:
    digests = {nas_bench_201(operations).digest for operations in product(OPERATIONS, repeat=6)}
    assert len(digests) == 5260
    assert not any(digest.endswith("~") for digest in digests)
