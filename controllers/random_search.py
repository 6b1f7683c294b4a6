"""Random search: the baseline every other controller must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..search_space.choices import Trace
from ..search_space.outcomes import Objective, Outcome
from ..search_space.protocols import Proposal
from ..search_space.seeds import generator
from ..search_space.space import Space
from .registry import controller


@controller("random", paper="Random Search for Hyper-Parameter Optimization (2012, JMLR 13)")
class RandomSearch:
    """Draws every candidate afresh, uniformly per choice; candidate n depends on (seed, n) alone."""

    def __init__(self, space: Space, objectives: Sequence[Objective], *, seed: int) -> None:
        self.space = space
        self.seed = seed

    def ask(self, n: int) -> Proposal:
        return Proposal(self.space.sample(generator(self.seed, "ask", n))[1])

    def asked(self, n: int, trace: Trace, note: Mapping[str, Any]) -> None:
        """Nothing to remember."""

    def told(self, n: int, outcome: Outcome) -> None:
        """Nothing to learn."""
