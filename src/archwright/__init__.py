"""Archwright searches for neural network architectures.

A search space is a function from choices to an architecture; controllers explore it, executors train the candidates, a
learned predictor stops the hopeless ones early, and the best come back as ordinary PyTorch modules.

Every public name is loaded at first use, so that ``import archwright`` is quick and a space runs without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "search_space.space": ("Space", "space", "SPACES"),
    "search_space.architecture": ("Architecture", "Node"),
    "search_space.choices": ("Choices", "Trace"),
    "search_space.compose": ("chain", "layer", "tokens", "pooled_head"),
    "search_space.facts": ("block", "residual"),
    "search_space.specs": ("TensorSpec", "OutputSpec"),
    "search_space.outcomes": ("Objective", "Outcome", "Report"),
    "search_space.build": ("build",),
    "search_space.cost": ("cost",),
    "search_space.errors": ("ArchwrightError",),
    "evaluators.tasks": ("Task", "task"),
    "evaluators.registry": ("evaluator",),
    "evaluators.proxies": ("proxy",),
    "evaluators.latency_table": ("LatencyTable",),
    "controllers.registry": ("controller",),
    "predictors.registry": ("predictor", "stopper"),
    "studies.api": ("run", "resume", "best", "load"),
    "studies.compare.api": ("compare",),
    "studies.stopping.api": ("study_stopping",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f'module "archwright" has no attribute "{name}"')
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*sorted(_HOME_OF), "__version__"]


if TYPE_CHECKING:
    from .controllers.registry import controller as controller
    from .evaluators.latency_table import LatencyTable as LatencyTable
    from .evaluators.proxies import proxy as proxy
    from .evaluators.registry import evaluator as evaluator
    from .evaluators.tasks import Task as Task
    from .evaluators.tasks import task as task
    from .predictors.registry import predictor as predictor
    from .predictors.registry import stopper as stopper
    from .search_space.architecture import Architecture as Architecture
    from .search_space.architecture import Node as Node
    from .search_space.build import build as build
    from .search_space.choices import Choices as Choices
    from .search_space.choices import Trace as Trace
    from .search_space.compose import chain as chain
    from .search_space.compose import layer as layer
    from .search_space.compose import pooled_head as pooled_head
    from .search_space.compose import tokens as tokens
    from .search_space.cost import cost as cost
    from .search_space.errors import ArchwrightError as ArchwrightError
    from .search_space.facts import block as block
    from .search_space.facts import residual as residual
    from .search_space.outcomes import Objective as Objective
    from .search_space.outcomes import Outcome as Outcome
    from .search_space.outcomes import Report as Report
    from .search_space.space import SPACES as SPACES
    from .search_space.space import Space as Space
    from .search_space.space import space as space
    from .search_space.specs import OutputSpec as OutputSpec
    from .search_space.specs import TensorSpec as TensorSpec
    from .studies.api import best as best
    from .studies.api import load as load
    from .studies.api import resume as resume
    from .studies.api import run as run
    from .studies.compare.api import compare as compare
    from .studies.stopping.api import study_stopping as study_stopping
