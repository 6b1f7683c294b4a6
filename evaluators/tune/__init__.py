"""Ray Tune at the edge, in both directions.

For people who already run Tune: :class:`TuneSearcher` (any controller), :class:`TuneScheduler` (any stopper) and
:class:`EvaluatorTrainable` (any evaluator). For a study that wants Tune's cluster features: :class:`TuneEngine`, ``engine: tune``.

>>> tune.Tuner(  # doctest: +SKIP
...     EvaluatorTrainable,
...     param_space={"task": {"name": "digits"}, "evaluator": {"name": "train"}, "budget": 10, "folder": "/shared/trials"},
...     tune_config=tune.TuneConfig(search_alg=TuneSearcher(controller), scheduler=TuneScheduler(stopper), num_samples=40),
... ).fit()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import TuneEngine
    from .scheduler import TuneScheduler
    from .searcher import TuneSearcher
    from .trainable import EvaluatorTrainable

__all__ = ["EvaluatorTrainable", "TuneEngine", "TuneScheduler", "TuneSearcher"]
_HOMES = {"EvaluatorTrainable": "trainable", "TuneEngine": "engine", "TuneScheduler": "scheduler", "TuneSearcher": "searcher"}


def __getattr__(name: str) -> Any:
    """Import Ray only for the one who asks."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
