"""NAS-Bench-Graph: every network of its space, trained on citation and co-purchase graphs."""

from __future__ import annotations

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.errors import ConfigError
from ...search_space.outcomes import Objective
from ...search_space.space import SPACES
from ...search_space.spaces.nasbench_graph import contracted, tree_of
from .files import find, read
from .registry import table
from .table import Table

#: Data set to the width of its networks, and whether they have a layer after joining.
DATASETS = {"cora": (256, True), "pubmed": (128, False), "photo": (128, False)}
OPS = ("op1", "op2", "op3", "op4")
_COLUMNS = ("link", *OPS, "valid_perf", "test_perf", "latency", "params_millions")


@table("nasbench-graph", paper="NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search (2022, 2206.09166)")
def nasbench_graph(dataset: str = "cora", data: str | None = None) -> Table:
    """All 26,206 networks of ``nasbench-graph``, each the mean of three trainings; from ``nasbench_graph_DATASET.parquet``.

    Searched on ``valid_perf``, the accuracy as a fraction; the test split is ``test_perf``. ``params`` is as recorded: 2 ``width``
    more for each skip and ``width``^2 more for each arma than in the networks built here, which nothing reads. An evaluation takes
    virtual time in proportion to the recorded latency, 1 on average. A row of the file is a network: ``link`` (four digits, what
    each operation reads), ``op1`` to ``op4``, ``valid_perf``, ``test_perf``, ``latency``, ``params_millions``.

    Args:
        dataset: ``cora``, ``pubmed`` or ``photo``.
        data: folder of the files.

    Raises:
        ConfigError: no such data set, or its file is not found.
    """
    if dataset not in DATASETS:
        raise ConfigError(f'The table "nasbench-graph" has no data set "{dataset}"; it has {", ".join(DATASETS)}.')
    frame = read(find(f"nasbench_graph_{dataset}.parquet", data), _COLUMNS)
    width, post = DATASETS[dataset]
    links = [[int(digit) for digit in link] for link in frame["link"]]
    operations = frame[[*OPS]].to_numpy().tolist()
    latency = frame["latency"].to_numpy(float)
    return Table(
        name="nasbench-graph",
        space=SPACES["nasbench-graph"].obj.with_params(width=width, post=post),
        rows={contracted(*one).text(): row for row, one in enumerate(zip(links, operations, strict=True))},
        key=network_text,
        metrics={"valid_perf": frame["valid_perf"].to_numpy(float)},
        objectives=(Objective("valid_perf"),),
        test={"test_perf": frame["test_perf"].to_numpy(float)},
        known={"params": np.round(frame["params_millions"].to_numpy(float) * 1e6)},
        seconds=latency / latency.mean(),
    )


def network_text(architecture: Architecture) -> str:
    """The network's operations as a tree, which is what the benchmark tells networks apart by."""
    return tree_of(architecture).text()
