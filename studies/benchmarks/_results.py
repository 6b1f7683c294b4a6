"""Where benchmark figures go: one JSON file per script, with the date, the versions and the machine they were measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def write(name: str, figures: Mapping[str, Any]) -> Path:
    """Write ``results/<name>.json`` and return its path.

    Args:
        name: the benchmark, without suffix.
        figures: what was measured; JSON values, units in the keys (``cell_ms``).
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"figures": dict(figures), **circumstances()}, indent=2, sort_keys=True) + "\n")
    return path


def circumstances() -> dict[str, Any]:
    """The date, the versions and the machine of a measurement."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    """The processor's name; ``platform`` knows it on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
