"""Newton's method over time against the loop: the length from which it is faster, for a diagonal GRU, forward and backward.

Run ``python studies/benchmarks/newton.py``. Process time on one thread, medians of interleaved runs (1 to 7, fewer where they take
long); device time on CUDA. A size is timed after Newton's states were found to be those of the loop.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from archwright.kernels.diagonal_rnn import diagonal_rnn, solve_diagonal_rnn
from archwright.studies.benchmarks._results import write

SIZES = ((32, 64), (8, 128), (1, 16))  # batch, width
LENGTHS = tuple(2**power for power in range(6, 14))
SOLVERS = ("serial", "newton")


def main() -> None:
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures: dict[str, Any] = {"device": device, "cell": "gru", "sizes": [crossover(*size, device) for size in SIZES]}
    print(write("newton", figures))


def crossover(batch: int, width: int, device: str) -> dict[str, Any]:
    """Milliseconds of both solvers at every length, and the first length from which Newton stays ahead."""
    rows = [measured(batch, steps, width, device) for steps in LENGTHS]
    slower = [row["steps"] for row in rows if row["newton_over_serial"] > 1]
    first = next((steps for steps in LENGTHS if not slower or steps > max(slower)), None)
    print(f"batch {batch}, width {width}: Newton is faster from {first or f'no length up to {LENGTHS[-1]}'}")
    return {"batch": batch, "width": width, "faster_from_steps": first, "lengths": rows}


def measured(batch: int, steps: int, width: int, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn(batch, steps, 3, width, generator=generator).to(device).requires_grad_()
    recurrent = (2 * torch.rand(3, width, generator=generator) - 1).to(device).requires_grad_()
    cotangent = torch.randn(batch, steps, width, generator=generator).to(device)
    with torch.no_grad():
        h, _, report = solve_diagonal_rnn(gates, recurrent)
        torch.testing.assert_close(h, diagonal_rnn(gates, recurrent)[0], rtol=1e-4, atol=1e-5)
    runs = max(1, min(7, 2**22 // gates.numel()))
    taken: dict[str, list[float]] = {solver: [] for solver in SOLVERS}
    for index in range(runs + (runs > 1)):
        for solver in SOLVERS:
            seconds = _seconds(gates, recurrent, cotangent, solver)
            if index or runs == 1:  # the first round warms up; a shorter length did so for a single run
                taken[solver].append(1000 * seconds)
    gc.collect()
    times = {solver: statistics.median(values) for solver, values in taken.items()}
    row = {"steps": steps, **{f"{solver}_ms": round(value, 2) for solver, value in times.items()}}
    row |= {"newton_over_serial": round(times["newton"] / times["serial"], 2)}
    row |= {"newton_steps": report.steps, "fell_back": report.fell_back}
    print(f"  {batch} x {steps} x {width}:", row)
    return row


def _seconds(gates: Tensor, recurrent: Tensor, cotangent: Tensor, solver: str) -> float:
    def step() -> None:
        h, _ = diagonal_rnn(gates, recurrent, solver=solver)
        torch.autograd.grad(h, [gates, recurrent], cotangent)

    if not gates.is_cuda:
        start = time.process_time()
        step()
        return time.process_time() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


if __name__ == "__main__":
    main()
