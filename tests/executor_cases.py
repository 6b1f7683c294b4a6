"""Evaluators that behave and misbehave, as the text of a user's plug-in, and jobs that use them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from archwright.search_space.protocols import Job

SOURCE = '''
import os, signal, time
from pathlib import Path
from archwright.evaluators.registry import evaluator
from archwright.search_space.outcomes import Report


@evaluator("case-counts")
def counts(job, pause=0.0, last=None):
    """Reports the step as score; its finally leaves a file."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for step in range(1, job.budget + 1):
            time.sleep(pause)
            yield Report(step, {"score": step * job.number}, last=step == job.budget if last is None else last)
    finally:
        (folder / "closed").write_text(str(step))


@evaluator("case-meets")
def meets(job, other):
    """Takes no step before another candidate, on another worker, is there as well."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "here").touch()
    while not (folder.parent / f"{other:04d}" / "here").exists():
        time.sleep(0.01)
    for step in range(1, job.budget + 1):
        yield Report(step, {"score": step * job.number}, last=step == job.budget)


@evaluator("case-fails")
def fails(job, how, at=2):
    """Two good reports, then trouble."""
    for step in range(1, job.budget + 1):
        if step > at:
            trouble(how)
        value = float("nan") if how == "nan" and step == at else 1.0 * step
        yield Report(step, {"score": value}, last=step == job.budget)


def trouble(how):
    if how == "raise":
        raise ValueError("the widths 3 and 4 clash\\nsecond line")
    if how == "python memory":
        raise MemoryError
    if how == "cpu memory":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    if how == "cuda memory":
        import torch
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if how == "sys.exit":
        raise SystemExit(3)
    if how == "os._exit":
        os._exit(1)
    if how == "hang":
        while True:
            try:
                time.sleep(0.05)
            except Exception:
                pass
    if how == "type":
        raise TypeError


@evaluator("case-checkpoints")
def checkpoints(job, deaths=0, pause=0.0):
    """Counts up to the budget from where its folder says; kills its process on the way as often as asked."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    state, log = folder / "state", folder / "log"
    done = int(state.read_text()) if state.exists() else 0
    with log.open("a") as lines:
        lines.write(f"start reported={job.reported} done={done} pid={os.getpid()}\\n")
    for step in range(job.reported + 1, done + 1):
        yield Report(step, {"score": step}, last=step == job.budget)
    for step in range(done + 1, job.budget + 1):
        time.sleep(pause)
        state.write_text(str(step))
        died = folder / "died"
        before = int(died.read_text()) if died.exists() else 0
        if before < deaths and step >= 3 * (before + 1):
            died.write_text(str(before + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        yield Report(step, {"score": step}, last=step == job.budget)


@evaluator("case-repeats")
def repeats(job):
    """Yields every step from 1, whatever was reported before."""
    for step in range(1, job.budget + 1):
        yield Report(step, {"score": step}, last=step == job.budget)


@evaluator("case-empty")
def empty(job):
    """Ends without a last report."""
    yield Report(1, {"score": 1.0})


@evaluator("case-dicts")
def dicts(job):
    """Yields the wrong thing."""
    yield {"score": 1.0}


@evaluator("case-tensors")
def tensors(job):
    """Yields numbers that are not Python's, and tells what job it was given."""
    import numpy, torch
    metrics = {"score": torch.tensor(0.5), "threads": torch.get_num_threads(), "seed": numpy.float32(job.seed)}
    yield Report(numpy.int64(1), metrics, last=True)
'''
PLUGIN = {"path": "cases.py", "sha256": hashlib.sha256(SOURCE.encode()).hexdigest(), "source": SOURCE}


def make_job(folder: Path, number: int, evaluator: str, budget: int = 3, reported: int = 0, **params: Any) -> Job:
    """A job for ``case-<evaluator>`` in ``folder/<number>``."""
    return Job(
        number=number,
        architecture={"format": "archwright-architecture/1"},
        task={"name": "none", "params": {}},
        evaluator={"name": f"case-{evaluator}", "params": params},
        seed=7,
        budget=budget,
        folder=str(folder / f"{number:04d}"),
        reported=reported,
        plugins=[PLUGIN],
    )


def all_events(executor: Any, number: int) -> list[Any]:
    """Every event of a job up to its last."""
    events = []
    while not events or (events[-1].kind == "report" and not events[-1].report.last):
        event = executor.next_event()
        assert event.number == number
        events.append(event)
    return events
