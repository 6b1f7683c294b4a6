"""Kernels on this machine, from their specs: each backend against the plain loop, forward and backward.

Run ``python studies/benchmarks/kernels.py``. A kernel is timed only after it passed its correctness gate. CPU figures are process
time on one thread, medians of 7 interleaved runs, so that other load on the machine cancels out of the ratios; CUDA figures are
medians of device time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from archwright.kernels import KERNELS, KernelSpec
from archwright.kernels.scan import Case
from archwright.studies.benchmarks._results import write
from archwright.testing.kernels import check_kernel

RUNS = 7
CASES = {"scan": ((Case(32, 256, 64), 20), (Case(8, 1024, 128), 100))}  # with the ratio to the plain loop that we aim for


def main() -> None:
    torch.set_num_threads(1)
    figures = {name: [figure for case, target in CASES[name] for figure in measure(spec, case, target)] for name, spec in KERNELS.items()}
    show(figures)
    write("kernels", figures)


def measure(spec: KernelSpec, case: Any, target: float) -> list[dict[str, Any]]:
    """Milliseconds of forward and backward per backend, and the ratio of the reference's to it."""
    device, backends = ("cuda", ["fast", "triton"]) if torch.cuda.is_available() else ("cpu", ["fast"])
    for backend in backends:
        check_kernel(spec, backend=backend, device=device, cases=[*spec.cases, case])
    inputs = spec.inputs(case, torch.float32, device, torch.Generator().manual_seed(0))
    args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]
    cotangent = torch.randn(args[1].shape, device=device)  # type: ignore[union-attr]

    def step(backend: str) -> Callable[[], None]:
        def run() -> None:
            out = spec.public(*args, **inputs.options, backend=backend)[0]
            torch.autograd.grad(out, [arg for arg in args if arg is not None], cotangent)

        return run

    times = interleaved({backend: step(backend) for backend in ["reference", *backends]}, device)
    common = {"case": str(case), "device": device, "reference_ms": round(times["reference"], 3), "target": target}
    moved = spec.bytes(case, torch.float32, "forward") + spec.bytes(case, torch.float32, "backward")
    return [
        {**common, "backend": b, "ms": round(times[b], 3), "ratio": round(times["reference"] / times[b], 1), "megabytes": moved / 1e6}
        for b in backends
    ]


def interleaved(steps: dict[str, Callable[[], None]], device: str) -> dict[str, float]:
    """Median milliseconds of each step; the steps take turns."""
    clock = _cuda_seconds if device == "cuda" else _process_seconds
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(RUNS + 1):
        for name, step in steps.items():
            seconds = clock(step)
            if index:  # the first round warms up
                taken[name].append(1000 * seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def _process_seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _cuda_seconds(step: Callable[[], None]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def show(figures: dict[str, list[dict[str, Any]]]) -> None:
    table = Table(title="forward + backward, float32")
    for column in ("kernel", "case", "device", "backend", "loop ms", "ms", "ratio", "target"):
        table.add_column(column, justify="left" if column in ("kernel", "case", "device", "backend") else "right")
    for name, rows in figures.items():
        for row in rows:
            values = (row["case"], row["device"], row["backend"], row["reference_ms"], row["ms"], row["ratio"], f">= {row['target']}")
            table.add_row(name, *map(str, values))
    Console().print(table)


if __name__ == "__main__":
    main()
