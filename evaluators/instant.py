"""An evaluator that returns at once: for measuring a study's own overhead, and for trying a space without training."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator

from ..search_space.choices import Integer, Real
from ..search_space.outcomes import Report
from ..search_space.protocols import Job
from .registry import evaluator


@evaluator("instant", knobs={"steps": Integer(1, 1000), "sleep": Real(0.0, 60.0)})
def instant(job: Job, *, steps: int | None = None, sleep: float = 0.0, metric: str = "score") -> Iterator[Report]:
    """Reports an arbitrary fixed score of the architecture, without training it.

    The score is uniform in [0, 1), made from a SHA-256 of the architecture's JSON; the report at step t of T is
    ``score * t / T``.

    Args:
        steps: how many reports; by default the job's budget.
        sleep: seconds to wait before each report.
        metric: the name the score is reported under.
    """
    total = job.budget if steps is None else steps
    final = score(job)
    for step in range(job.reported + 1, total + 1):
        if sleep:
            time.sleep(sleep)
        yield Report(step, {metric: final * step / total}, sleep, step == total)


def score(job: Job) -> float:
    """The final score of the job's architecture, the same on every machine."""
    text = json.dumps(job.architecture, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
