"""NAS-Bench-201: every cell of its space, trained on three data sets, with latency on 27 devices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.errors import ConfigError, did_you_mean
from ...search_space.outcomes import Objective
from ...search_space.space import SPACES
from .files import find, read
from .registry import table
from .table import Table

EDGES = ("op-0-1", "op-0-2", "op-1-2", "op-0-3", "op-1-3", "op-2-3")
CODES = {"zero": 0, "identity": 1, "conv-1x1": 2, "conv-3x3": 3, "avg-pool-3x3": 4}
DATASETS = ("cifar10", "cifar100", "imagenet16_120")
#: Failed measurements stand in these columns as values near zero.
FAULTY, LEAST_MS = ("pixel3", "raspi4"), 0.5
TIMED = "1080ti_256"


@table("nasbench201", paper="NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search (2020, 2001.00326)")
def nasbench201(dataset: str = "cifar10", epochs: int = 200, device: str | None = None, data: str | None = None) -> Table:
    """All 15,625 cells of ``conv-cells`` with 16 channels, 3 stages and 5 cells; from ``nasbench201.parquet``.

    Searched on ``valid_accuracy`` (percent); the test split is ``test_accuracy``, after 200 epochs whatever was searched on. An
    evaluation takes virtual time in proportion to the latency on a 1080 Ti at batch size 256, 1 on average.

    A row of the file is a cell: ``op_0to1`` ... ``op_2to3`` (0 none, 1 skip, 2 and 3 convolutions of 1x1 and 3x3, 4 average pooling),
    ``valid_acc_200ep_DATASET``, ``val_acc_12ep_DATASET`` and ``test_acc_200ep_DATASET`` in percent. ``nasbench201_latency_ms.parquet``
    has the same rows, with a column of milliseconds for each device and batch size (``1080ti_256``, ``pixel3``).

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet16_120``.
        epochs: 200, or 12 for the validation accuracy of a short training, whose noise is what a cheap search sees.
        device: adds ``latency_ms`` on it as known before training, and as the second objective (``pixel3``, ``1080ti_32``, ...).
        data: folder of the files.

    Raises:
        ConfigError: no such data set, epochs or device, or the files are not found.
    """
    if dataset not in DATASETS:
        raise ConfigError(f'The table "nasbench201" has no data set "{dataset}"; it has {", ".join(DATASETS)}.')
    if epochs not in (12, 200):
        raise ConfigError(f"The table nasbench201 was trained for 12 and for 200 epochs, not {epochs}; set epochs to one of them.")
    column = f"valid_acc_200ep_{dataset}" if epochs == 200 else f"val_acc_12ep_{dataset}"
    tested = f"test_acc_200ep_{dataset}"
    edges = [f"op_{edge[3]}to{edge[5]}" for edge in EDGES]
    frame = read(find("nasbench201.parquet", data), [*edges, column, tested])
    latency = read(find("nasbench201_latency_ms.parquet", data), [TIMED])
    codes = frame[edges].to_numpy()
    known = {} if device is None else {"latency_ms": _latency(latency, device)}
    objectives = (Objective("valid_accuracy"), *(Objective(name, "min") for name in known))
    time = latency[TIMED].to_numpy(float)
    return Table(
        name="nasbench201",
        space=SPACES["conv-cells"].obj.with_params(channels=16, stages=3, cells=5),
        rows={tuple(row): number for number, row in enumerate(codes.tolist())},
        key=cell_codes,
        metrics={"valid_accuracy": frame[column].to_numpy(float)},
        objectives=objectives,
        test={"test_accuracy": frame[tested].to_numpy(float)},
        known=known,
        seconds=time / time.mean(),
    )


def cell_codes(architecture: Architecture) -> tuple[int | None, ...] | None:
    """The operations of an architecture's searched cell as the codes of the benchmark, edge by edge; None where it has no cell."""
    cell: Any = next((node.params["body"] for node in architecture.nodes if node.block == "cell"), None)
    if cell is None:
        return None
    blocks = {node.name: node.block for node in cell.nodes}
    return tuple(CODES.get(blocks.get(edge, "")) for edge in EDGES)


def _latency(frame: Any, device: str) -> np.ndarray:
    devices = [name for name in frame.columns if name != "arch_index"]
    if device not in devices:
        raise ConfigError(f'The table "nasbench201" has no latency on "{device}"; {did_you_mean(device, devices)}')
    values = frame[device].to_numpy(float)
    return np.where(values < LEAST_MS, np.nan, values) if device in FAULTY else values
