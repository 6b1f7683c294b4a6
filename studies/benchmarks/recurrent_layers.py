"""Whole recurrent layers, input projection included: ours against PyTorch's, forward and backward.

Run ``python studies/benchmarks/recurrent_layers.py``. Ours is one linear layer for the gates of all steps and the kernel ``rnn``;
theirs is ``nn.RNN``, ``nn.GRU`` or ``nn.LSTM`` of the same sizes. Process time on one thread, medians of 9 interleaved runs; a size is
timed after both layers gave the same output with the same weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archwright.kernels.rnn import rnn
from archwright.studies.benchmarks._results import write

LAYERS: dict[str, Any] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SIZES = ((32, 256, 64), (8, 1024, 128))  # batch, steps, width
RUNS = 9


def main() -> None:
    torch.set_num_threads(1)
    rows = [compared(cell, *size) for cell in LAYERS for size in SIZES]
    for row in rows:
        print(f"{row['cell']:6} {row['size']}: {row['ours_ms']} ms, torch.nn {row['theirs_ms']} ms, ratio {row['ratio']}")
    print(write("recurrent_layers", {"device": "cpu", "layers": rows}))


def compared(cell: str, batch: int, steps: int, width: int) -> dict[str, Any]:
    """Milliseconds of both layers, and how many times as fast ours is."""
    torch.manual_seed(0)
    layer = LAYERS[cell](width, width, batch_first=True)
    x, cotangent = torch.randn(batch, steps, width, requires_grad=True), torch.randn(batch, steps, width)
    gates = layer.weight_hh_l0.shape[0] // width
    weight, recurrent, bias, own = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0

    def ours() -> Tensor:
        made = F.linear(x, weight, bias).view(batch, steps, gates, 1, width)
        h, _ = rnn(made, recurrent.view(gates, 1, width, width), own.view(gates, 1, width), cell=cell)
        return h.squeeze(2)

    def theirs() -> Tensor:
        y: Tensor = layer(x)[0]
        return y

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-5)
    taken: dict[Callable[[], Tensor], list[float]] = {ours: [], theirs: []}
    for index in range(RUNS + 1):
        for function, times in taken.items():
            start = time.process_time()
            torch.autograd.grad(function(), [x, weight, recurrent, bias, own], cotangent)
            if index:
                times.append(1000 * (time.process_time() - start))
    our, their = (statistics.median(taken[function]) for function in (ours, theirs))
    return {
        "cell": cell,
        "size": [batch, steps, width],
        "ours_ms": round(our, 1),
        "theirs_ms": round(their, 1),
        "ratio": round(their / our, 2),
    }


if __name__ == "__main__":
    main()
