"""The registry of evaluators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..search_space.choices import Domain
from ..search_space.registry import Registry

_MODULES = ("trainer", "instant", "recorded", "proxy", "distill", "sharing.evaluator", "sharing.inherit", "rejection", "warm_start")
EVALUATORS = Registry("evaluator", tuple(f"archwright.evaluators.{module}" for module in _MODULES))


def evaluator(name: str, *, knobs: Mapping[str, Domain] | None = None, paper: str = "") -> Callable[[Any], Any]:
    """Register a generator function called as ``evaluator(job, **knobs)`` that yields a ``Report`` per unit of budget.

    It marks its final report with ``last=True``, checkpoints into ``job.folder``, and goes on after ``job.reported`` there;
    ``archwright.testing.check_evaluator`` tests that.

    Args:
        name: kebab-case name used in configurations.
        knobs: its keyword arguments with their domains, for ``archwright list``.
        paper: title, year and arXiv number of the paper it is from.
    """
    return EVALUATORS.decorator(name, knobs=knobs, paper=paper)
