"""REINFORCE with a recurrent policy that works on any space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..search_space.choices import Integer, Real, Trace
from ..search_space.outcomes import Objective, Outcome, gains
from ..search_space.protocols import Proposal
from ..search_space.seeds import generator
from ..search_space.space import Space
from .policy import Policy
from .registry import controller

FAR = 3.0


class Baseline:
    """What to expect of one objective: a moving mean, the spread of all values seen, and the worst of them."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.expected = 0.0
        self.worst = math.inf
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def heard(self, gain: float) -> None:
        self.expected = gain if self._count == 0 else self.decay * self.expected + (1 - self.decay) * gain
        self.worst = min(self.worst, gain)
        self._count += 1
        distance = gain - self._mean
        self._mean += distance / self._count
        self._squares += distance * (gain - self._mean)

    def advantage(self, gain: float) -> float:
        """``gain`` against the moving mean in standard deviations, at most 3 either way; 0 before two different values."""
        spread = math.sqrt(self._squares / self._count) if self._count else 0.0
        if spread <= 1e-12 * max(1.0, abs(self._mean)):
            return 0.0
        return min(max((gain - self.expected) / spread, -FAR), FAR)


@controller(
    "reinforce",
    knobs={
        "hidden": Integer(8, 256),
        "learning_rate": Real(1e-4, 0.3, log=True),
        "entropy": Real(0.0, 1.0),
        "decay": Real(0.0, 0.999),
        "explore": Real(0.0, 1.0),
        "repeat_penalty": Real(0.0, 3.0),
    },
    paper="Neural Architecture Search with Reinforcement Learning (2017, arXiv 1611.01578)",
)
class Reinforce:
    """A policy network answers every choice and learns from each outcome by its policy gradient.

    At every outcome of a trace tau with advantage A (the gain against a moving mean, in standard deviations)::

        theta <- Adam( theta, rho A grad log p(tau) + entropy grad H ),   rho = min(1.5, p_now(tau) / p_when_asked(tau))

    The log-probability is recomputed under the current policy; rho corrects for the outcomes that other workers brought in
    between. A failed or infeasible candidate counts one standard deviation below the worst seen. A duplicate counts as its
    twin less ``repeat_penalty``, and never above -``repeat_penalty`` / 2, so that the policy does not collapse on what it
    knows; the share of uniform choices rises from ``explore`` towards 1 while nothing but rejections is heard.

    Args:
        space: what to search.
        objectives: what to improve; advantages of several are averaged.
        seed: the study's seed.
        hidden: width of the recurrent network.
        learning_rate: of Adam.
        entropy: weight of the entropy bonus.
        decay: of the moving mean.
        explore: least share of uniform choices.
        repeat_penalty: cost of proposing a known network, in standard deviations.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        *,
        seed: int,
        hidden: int = 32,
        learning_rate: float = 0.01,
        entropy: float = 0.02,
        decay: float = 0.9,
        explore: float = 0.02,
        repeat_penalty: float = 1.0,
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.seed = seed
        self.entropy = entropy
        self.explore = explore
        self.repeat_penalty = repeat_penalty
        self.policy = Policy(seed, hidden, learning_rate)
        self.baselines = [Baseline(decay) for _ in objectives]
        self.rejections = 0
        self._running: dict[int, tuple[Trace, float | None]] = {}

    def ask(self, n: int) -> Proposal:
        log_probabilities: list[float] = []
        uniform = 1 - (1 - self.explore) * 0.9**self.rejections
        answer = self.policy.acting(generator(self.seed, "ask", n), uniform, log_probabilities)
        return Proposal(self.space.run(answer)[1], {"log_probability": sum(log_probabilities)})

    def asked(self, n: int, trace: Trace, note: Mapping[str, Any]) -> None:
        self._running[n] = (trace, note.get("log_probability"))

    def told(self, n: int, outcome: Outcome) -> None:
        trace, then = self._running.pop(n)
        advantage = self._advantage(outcome)
        self.rejections = self.rejections + 1 if outcome.status in ("duplicate", "infeasible") else 0
        self.policy.improve(trace, advantage, self.entropy, then)

    def _advantage(self, outcome: Outcome) -> float:
        values = gains(outcome, self.objectives)
        if outcome.status == "duplicate":
            known = self._mean(values) if values is not None else self._of_failure()
            return min(known - self.repeat_penalty, -self.repeat_penalty / 2)
        if values is None:
            return self._of_failure()
        for baseline, value in zip(self.baselines, values, strict=True):
            baseline.heard(value)
        return self._mean(values)

    def _mean(self, values: Sequence[float]) -> float:
        return sum(b.advantage(v) for b, v in zip(self.baselines, values, strict=True)) / len(self.baselines)

    def _of_failure(self) -> float:
        worst = [baseline.worst for baseline in self.baselines]
        return self._mean(worst) - 1.0 if all(map(math.isfinite, worst)) else -1.0
