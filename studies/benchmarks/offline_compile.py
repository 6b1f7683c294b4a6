"""What every Triton kernel uses when it is compiled for four GPU generations; needs no GPU and measures no speed.

Run ``python studies/benchmarks/offline_compile.py``. It writes ``results/offline_compile.json`` and the table in
``kernels/RESULTS.md``.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Any

from rich.progress import track

from archwright.kernels import KERNELS
from archwright.studies.benchmarks._results import write
from archwright.testing.offline_compile import SHARED_LIMIT, compile_for

REPORT = Path(__file__).resolve().parents[2] / "kernels" / "RESULTS.md"
GENERATIONS = {80: "Ampere (sm_80)", 90: "Hopper (sm_90)", 100: "Blackwell (sm_100)", 120: "Blackwell (sm_120)"}
MARK = "<!-- offline compilation -->"


def main() -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        jobs = [(name, variant) for name, spec in KERNELS.items() if spec.has_triton for variant in spec.variants()]
        for name, variant in track(jobs, description="compiling"):
            for architecture in SHARED_LIMIT:
                rows.append({"kernel": name, "function": variant.kernel.__name__, **used(variant, architecture)})
    write("offline_compile", {"triton": importlib.metadata.version("triton"), "compilations": rows})
    report(rows)


def used(variant: Any, architecture: int) -> dict[str, Any]:
    usage = compile_for(variant, architecture)
    constants = {key: str(value) for key, value in variant.constants.items()}
    return {
        "constants": constants,
        "architecture": architecture,
        "registers": usage.registers,
        "shared_bytes": usage.shared,
        "spilled_bytes": usage.stack + usage.local,
        "tensor_cores": usage.tensor_cores,
        "seconds": round(usage.seconds, 2),
        "complaint": usage.complaint(architecture),
    }


def report(rows: list[dict[str, Any]]) -> None:
    """The part of ``kernels/RESULTS.md`` below the mark: per kernel and generation the most registers and shared memory."""
    lines = [
        MARK,
        "",
        f"Triton {importlib.metadata.version('triton')}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, bf16 tensors, "
        "`python studies/benchmarks/offline_compile.py`. Registers per thread / KiB of shared memory per program, the most over a "
        "kernel's variants; none of them spills unless it says so.",
        "",
        "| kernel | variants | " + " | ".join(GENERATIONS.values()) + " | tensor cores |",
        "|---|---:|" + "---:|" * len(GENERATIONS) + "---|",
    ]
    for name in dict.fromkeys(row["kernel"] for row in rows):
        mine = [row for row in rows if row["kernel"] == name]
        cells = [_cell([row for row in mine if row["architecture"] == architecture]) for architecture in GENERATIONS]
        variants = len(mine) // len(GENERATIONS)
        cores = "yes" if any(row["tensor_cores"] for row in mine) else "no"
        lines.append(f"| {name} | {variants} | " + " | ".join(cells) + f" | {cores} |")
    above = REPORT.read_text().split(MARK)[0].rstrip()
    REPORT.write_text(above + "\n\n" + "\n".join(lines) + "\n")


def _cell(rows: list[dict[str, Any]]) -> str:
    spilled = max(row["spilled_bytes"] for row in rows)
    text = f"{max(row['registers'] for row in rows)} / {max(row['shared_bytes'] for row in rows) / 1024:.1f}"
    return f"{text}, spills {spilled} B" if spilled else text


if __name__ == "__main__":
    main()
