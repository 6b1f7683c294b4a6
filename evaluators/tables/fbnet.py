"""Latencies of FBNet's space: 5,000 of its networks, each measured or estimated on 27 devices."""

from __future__ import annotations

import numpy as np

from ...search_space.architecture import Architecture
from ...search_space.choices import Choices
from ...search_space.errors import ConfigError, did_you_mean
from ...search_space.outcomes import Objective
from ...search_space.space import Space
from ...search_space.spaces.mobile_chain import FBNET, chain_network, chain_options
from .files import find, read
from .prefixes import RecordedChoices
from .registry import table
from .table import Table

LAYERS = tuple(f"layer{index}" for index in range(FBNET.layers))
PREFIX = "lat_ms_"


@table("fbnet", paper="FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search (2018, 1812.03443)")
def fbnet(device: str = "pixel3", data: str | None = None) -> Table:
    """5,000 recorded networks of the space ``fbnet`` with their latency on a device, in milliseconds, from ``fbnet_latency.parquet``.

    A question offers only what leads to a recorded network, so the first choices decide most: a search here is one for cheap
    networks, to try latency predictors and costs. No accuracies are recorded; every evaluation takes virtual time 1. A row of the
    file is a network: ``layer0`` to ``layer21`` by number of the option, and ``lat_ms_DEVICE`` for each device.

    Hardware-adaptive Efficient Latency Prediction for NAS via Meta-Learning (2021, 2106.08630) gathered the latencies.

    Args:
        device: ``pixel3``, ``1080ti_1``, ``raspi4``, ``eyeriss``, ...; a number is the batch size.
        data: folder of the files.

    Raises:
        ConfigError: no such device, or the file is not found.
    """
    frame = read(find("fbnet_latency.parquet", data), LAYERS)
    devices = [name.removeprefix(PREFIX) for name in frame.columns if name.startswith(PREFIX)]
    if device not in devices:
        raise ConfigError(f'The table "fbnet" has no latency on "{device}"; {did_you_mean(device, devices)}')
    options = np.array(list(FBNET.blocks))[frame[list(LAYERS)].to_numpy()]
    rows = [tuple(row) for row in options.tolist()]
    recorded = RecordedChoices([f"layer-{index}" for index in range(FBNET.layers)], rows)

    def recorded_fbnet(choose: Choices) -> Architecture:
        """The recorded networks of the space ``fbnet``."""
        return chain_network(FBNET, [str(option) for option in recorded.ask(choose)])

    return Table(
        name="fbnet",
        space=Space("recorded-fbnet", recorded_fbnet, layouts=("image",)),
        rows={row: number for number, row in enumerate(rows)},
        key=lambda architecture: chain_options(FBNET, architecture),
        metrics={"latency_ms": frame[PREFIX + device].to_numpy(float)},
        objectives=(Objective("latency_ms", "min"),),
        remark="This table holds latencies alone, of 5,000 networks out of 9^22, so a search on it says nothing about accuracy.",
    )
