"""Every kernel on this machine, from its spec: time or memory against the formulation it must beat.

Run ``python studies/benchmarks/kernels.py`` (all kernels) or ``... kernels.py rnn kan`` (some; the figures of the others stay).
A kernel is measured only after it passed its correctness check in this process. Times are of forward and backward together. CPU
times are process time on one thread, medians of 7 interleaved runs, so that other load on the machine cancels out of the ratios;
CUDA times are of the device, plain and under a CUDA graph. Memory is the growth of a fresh process's largest resident size (on
CUDA, of the memory allocated).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from archwright.kernels import KERNELS, KernelSpec
from archwright.kernels.function import as_tuple
from archwright.kernels.spec import Benchmark
from archwright.studies.benchmarks._results import RESULTS, write
from archwright.testing.kernels import check_kernel, cotangent, on

RUNS = 7
COPIED_MEGABYTES = 256
COLUMNS = ("kernel", "case", "on", "backend", "ms", "against", "its ms", "ratio", "target", "% of copy", "MB", "its MB")

Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    if options.memory:
        name, index, backend = options.memory
        print(memory_growth(KERNELS[name], KERNELS[name].benchmarks[int(index)], backend))
        return
    unknown = set(options.kernels) - set(KERNELS)
    if unknown:
        sys.exit(f"There is no kernel {', '.join(sorted(unknown))}; kernels are {', '.join(KERNELS)}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "copy_gb_per_s": round(copy_speed(device), 2)}
    figures = _earlier(machine["device"]) if options.kernels else {}
    for name in options.kernels or list(KERNELS):
        figures[name] = measured(KERNELS[name], device, machine["copy_gb_per_s"])
        write("kernels", {"machine": machine, "kernels": figures})  # after each, so that a stopped run keeps what it has
    show({name: figures[name] for name in figures})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"kernels to measure; all by default ({', '.join(KERNELS)})")
    parser.add_argument("--memory", nargs=3, metavar=("KERNEL", "INDEX", "BACKEND"), help=argparse.SUPPRESS)
    return parser


def _earlier(device: str) -> dict[str, list[Figures]]:
    """The figures of an earlier run on the same device, to be completed."""
    path = RESULTS / "kernels.json"
    found = json.loads(path.read_text())["figures"] if path.exists() else {}
    kept: dict[str, list[Figures]] = found.get("kernels", {}) if found.get("machine", {}).get("device") == device else {}
    return kept


def measured(spec: KernelSpec, device: str, copy: float) -> list[Figures]:
    """All benchmarks of a kernel; one whose check fails gives the complaint and no figure."""
    rows = []
    for index, benchmark in enumerate(spec.benchmarks):
        backends = [benchmark.backend] + (["triton"] if device == "cuda" and spec.has_triton else [])
        for backend in dict.fromkeys(backends):
            tried = Benchmark(benchmark.case, benchmark.target, benchmark.against, backend, benchmark.measure)
            common = {"case": str(tried.case), "device": device, "backend": backend, "against": tried.against, "target": tried.target}
            try:
                _check(spec, tried, device)
            except AssertionError as error:
                rows.append({**common, "measure": tried.measure, "failed": str(error)})
                continue
            memory = _memory(spec, index, tried, device)
            found = memory if tried.measure == "memory" else {**memory, **_times(spec, tried, device, copy)}
            rows.append({**common, "measure": tried.measure, **found})
    return rows


def _check(spec: KernelSpec, benchmark: Benchmark, device: str) -> None:
    dtypes = [torch.float32]
    check_kernel(spec, backend=benchmark.backend, device=device, dtypes=dtypes, cases=[spec.small_cases[0], benchmark.case])


# --- time ----------------------------------------------------------------------------------------------------------------


def _times(spec: KernelSpec, benchmark: Benchmark, device: str, copy: float) -> Figures:
    steps = {name: Step(spec, benchmark.case, name, device) for name in (benchmark.against, benchmark.backend)}
    times = interleaved(steps, device)
    ours, theirs = times[benchmark.backend], times[benchmark.against]
    moved = sum(spec.bytes(benchmark.case, torch.float32, direction) for direction in ("forward", "backward")) / 1e6
    figures = {
        "ms": round(ours, 3),
        "against_ms": round(theirs, 3),
        "ratio": round(theirs / ours, 2),
        "megabytes": round(moved, 3),
        "percent_of_copy": round(100 * moved / ours / copy, 1),
    }
    if device == "cuda":
        figures["graph_ms"] = round(_graph_milliseconds(steps[benchmark.backend]), 4)
    return figures


@dataclass
class Step:
    """Forward and backward of one formulation on one case."""

    spec: KernelSpec
    case: Any
    name: str
    device: str

    def __post_init__(self) -> None:
        inputs = self.spec.inputs(self.case, torch.float32, self.device, torch.Generator().manual_seed(0))
        self.args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]
        self.leaves = [arg for arg in self.args if arg is not None]
        self.options = inputs.options
        self.function = self.spec.peers.get(self.name) or on(self.spec, self.name)
        first = as_tuple(self.function(*self.args, **self.options))[0]
        self.cotangent = cotangent(first.detach(), torch.float32, torch.Generator().manual_seed(1))

    def __call__(self) -> None:
        out = as_tuple(self.function(*self.args, **self.options))[0]
        torch.autograd.grad(out, self.leaves, self.cotangent, allow_unused=True)


def interleaved(steps: dict[str, Step], device: str) -> dict[str, float]:
    """Median milliseconds of each step; the steps take turns, after a first round that warms up."""
    clock = _cuda_seconds if device == "cuda" else _process_seconds
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(RUNS + 1):
        for name, step in steps.items():
            seconds = clock(step)
            if index:
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


def _graph_milliseconds(step: Step) -> float:
    """The device's time when the launches cost nothing."""
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return 1000 * statistics.median(_cuda_seconds(graph.replay) for _ in range(RUNS))


def copy_speed(device: str) -> float:
    """GB/s of a large copy, bytes read and written."""
    source = torch.ones(COPIED_MEGABYTES * 250_000, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    copy()
    clock = _cuda_seconds if device == "cuda" else _process_seconds
    seconds = statistics.median(clock(copy) for _ in range(RUNS))
    return 2 * source.nbytes / seconds / 1e9


# --- memory --------------------------------------------------------------------------------------------------------------


def _memory(spec: KernelSpec, index: int, benchmark: Benchmark, device: str) -> Figures:
    def growth(name: str) -> float:
        return _device_growth(Step(spec, benchmark.case, name, device)) if device == "cuda" else _in_fresh_process(spec.name, index, name)

    ours, theirs = growth(benchmark.backend), growth(benchmark.against)
    return {"growth_mb": round(ours, 1), "against_growth_mb": round(theirs, 1), "ratio": round(theirs / max(ours, 0.1), 2)}


def _device_growth(step: Step) -> float:
    """Megabytes of device memory that one step needs beyond its inputs."""
    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _in_fresh_process(name: str, index: int, backend: str) -> float:
    command = [sys.executable, "-P", str(Path(__file__)), "--memory", name, str(index), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory_growth(spec: KernelSpec, benchmark: Benchmark, backend: str) -> float:
    """Megabytes by which one forward and backward raises the largest resident size of this process, after a small warm-up."""
    Step(spec, spec.small_cases[0], backend, "cpu")()
    inputs = spec.inputs(benchmark.case, torch.float32, "cpu", torch.Generator().manual_seed(0))
    args = [None if arg is None else arg.requires_grad_() for arg in inputs.args]
    function = spec.peers.get(backend) or on(spec, backend)
    ctypes.CDLL(None).malloc_trim(0)  # what making the inputs left free would hide the growth
    Path("/proc/self/clear_refs").write_text("5")  # the mark starts again from what is resident now
    before = largest_resident_megabytes()
    out = as_tuple(function(*args, **inputs.options))[0]
    out.backward(torch.ones((), dtype=out.dtype).expand_as(out))
    return largest_resident_megabytes() - before


def largest_resident_megabytes() -> float:
    """The process's high-water mark; ``ru_maxrss`` would start at that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


# --- table ---------------------------------------------------------------------------------------------------------------


def show(figures: dict[str, list[Figures]]) -> None:
    table = Table(title="forward + backward, float32; MB is what the memory grows by")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("kernel", "case", "on", "backend", "against") else "right")
    for name, rows in figures.items():
        for row in rows:
            table.add_row(name, *_cells(row))
    Console(width=190).print(table)


def _cells(row: Figures) -> list[str]:
    target = "" if row["target"] is None else f">= {row['target']:g}"
    if "failed" in row:
        return [row["case"], row["device"], row["backend"], "check failed", row["against"], "", "", target, "", "", ""]
    missed = row["target"] is not None and row["ratio"] < row["target"]
    ratio = f"[red]{row['ratio']}[/red]" if missed else str(row["ratio"])
    ms, theirs, share = (str(row.get(key, "")) for key in ("ms", "against_ms", "percent_of_copy"))
    memory = [str(row["growth_mb"]), str(row["against_growth_mb"])]
    unit = " (MB)" if row["measure"] == "memory" else ""
    return [row["case"], row["device"], row["backend"], ms, row["against"], theirs, ratio + unit, target, share, *memory]


if __name__ == "__main__":
    main()
