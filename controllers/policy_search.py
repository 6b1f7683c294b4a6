"""What the searches with one policy for the whole network share: asking, hearing, and remembering the best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..search_space.choices import Domain, Integer, OneOf, Real, Trace, trace_key
from ..search_space.outcomes import Objective, Outcome
from ..search_space.protocols import Proposal
from ..search_space.seeds import generator
from ..search_space.space import Space
from .policy import Policy, Steps
from .rewards import Rewards

CALM = 0.9
KNOBS: dict[str, Domain] = {
    "hidden": Integer(8, 256),
    "layers": Integer(1, 4),
    "lr": Real(1e-4, 0.3, log=True),
    "baseline_decay": Real(0.0, 0.999),
    "batch": Integer(1, 64),
    "entropy": Real(0.0, 1.0),
    "replay": Real(0.0, 10.0),
    "elite": Integer(1, 100),
    "explore": Real(0.0, 1.0),
    "tries": Integer(1, 64),
    "reward": OneOf(("raw", "cubed-accuracy", "inverse-square-ppl")),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """A candidate that has ended.

    Args:
        number: of its ask.
        steps: its choices.
        then: its log-probability when it was asked; None where the policy did not choose it.
        rewards: one per objective; None for a failure.
        advantage: of the rewards when they were heard.
    """

    number: int
    steps: Steps
    then: float | None
    rewards: tuple[float, ...] | None
    advantage: float


class PolicySearch(ABC):
    """Asks a policy for whole networks and learns in batches of outcomes, in whatever order they arrive.

    A network that was proposed before is drawn anew, ``tries`` times in all, each time with more uniform choices; while nothing
    but rejections is heard their share rises from ``explore`` towards 1. Duplicates teach nothing.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        *,
        seed: int,
        hidden: int = 35,
        layers: int = 1,
        lr: float = 0.02,
        baseline_decay: float = 0.95,
        batch: int = 8,
        entropy: float = 0.01,
        replay: float = 1.0,
        elite: int = 10,
        explore: float = 0.05,
        tries: int = 8,
        reward: str = "raw",
    ) -> None:
        self.space = space
        self.seed = seed
        self.batch = batch
        self.entropy = entropy
        self.replay = replay
        self.elite = elite
        self.explore = explore
        self.tries = tries
        self.policy = Policy(seed, hidden, lr, layers)
        self.rewards = Rewards(objectives, baseline_decay, reward)
        self.rejections = 0
        self.best: list[Heard] = []
        self._heard: list[Heard] = []
        self._running: dict[int, tuple[Trace, float | None]] = {}
        self._seen: set[bytes] = set()

    def ask(self, n: int) -> Proposal:
        rng = generator(self.seed, "ask", n)
        for attempt in range(self.tries):
            logs: list[float] = []
            uniform = 1 - (1 - self.explore) * CALM ** (self.rejections + attempt)
            trace = self.space.run(self.policy.acting(rng, uniform, logs))[1]
            if trace_key(trace) not in self._seen:
                break
        return Proposal(trace, {"log_probability": sum(logs)})

    def asked(self, n: int, trace: Trace, note: Mapping[str, Any]) -> None:
        self._running[n] = (trace, note.get("log_probability"))
        self._seen.add(trace_key(trace))

    def told(self, n: int, outcome: Outcome) -> None:
        trace, then = self._running.pop(n)
        rejected = outcome.status in ("duplicate", "infeasible")
        self.rejections = self.rejections + 1 if rejected else self.rejections // 2
        if outcome.status == "duplicate":
            return
        rewards = self.rewards.of(outcome)
        if rewards is not None:
            self.rewards.heard(rewards)
        self._heard.append(Heard(n, self.policy.encode(trace), then, rewards, self.rewards.advantage(rewards)))
        if len(self._heard) >= self.batch:
            heard, self._heard = self._heard, []
            self._remember(heard)
            self.learn(heard)

    @abstractmethod
    def learn(self, heard: Sequence[Heard]) -> None:
        """Improve the policy by a batch."""

    def _remember(self, heard: Sequence[Heard]) -> None:
        known = [item for item in [*self.best, *heard] if item.rewards is not None]
        known.sort(key=lambda item: (-self.rewards.rank(item.rewards or ()), item.number))
        self.best = known[: self.elite]
