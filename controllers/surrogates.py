"""What controllers guided by a surrogate share: results on a normal scale, the surrogates fitted to them, their predictions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..search_space.choices import Trace
from ..search_space.dominance import Gains
from ..search_space.errors import ConfigError
from ..search_space.protocols import Observation, Surrogate
from .acquisition import normal_scores

MOST_ON_FRONTS = 256

Array = Any
Result = tuple[Observation, Gains | None]


def checked_predictor(predictor: Any, controller: str) -> Callable[..., Surrogate]:
    """``predictor`` as it is.

    Raises:
        ConfigError: it is a name, which only a study resolves.
    """
    if callable(predictor):
        return predictor
    raise ConfigError(
        f'The controller "{controller}" was given the predictor {predictor!r}, expected a function predictor(seed=...); '
        f"make it with equipped_controller, which looks the name up."
    )


@dataclass(frozen=True)
class Learned:
    """Results and the surrogates fitted to them.

    Args:
        seen: the candidates of the results.
        scores: [results, objectives] on the normal scale.
        order: indices of ``seen``, best first.
        used: indices of ``seen`` that were fitted to.
        surrogates: one per objective.
    """

    seen: Sequence[Observation]
    scores: Array
    order: Sequence[int]
    used: Sequence[int]
    surrogates: Sequence[Surrogate]

    def best(self, count: int) -> list[Trace]:
        """The traces of the ``count`` best."""
        return [trace_of(self.seen[i]) for i in self.order[:count]]

    def predictions(self, asked: Sequence[Observation]) -> tuple[Array, Array] | None:
        """Mean and spread [candidates, objectives] on the normal scale; None where a surrogate has seen too little."""
        import numpy as np

        found = [surrogate.predict_many(asked) for surrogate in self.surrogates]
        if not asked or any(one is None for one in found):
            return None
        pairs = np.array([[(said.mean, said.spread) for said in one or ()] for one in found])
        return pairs[:, :, 0].T, pairs[:, :, 1].T


def learned(predictor: Callable[..., Surrogate], results: Sequence[Result], most: int, seed: int, rng: random.Random) -> Learned:
    """Surrogates fitted to ``results``, to the best half of ``most`` and a random choice of the rest where there are more."""
    scores = scores_of(results)
    order = best_first(scores, rng)
    seen = [one for one, _ in results]
    used = order if len(order) <= most else [*order[: most // 2], *rng.sample(order[most // 2 :], most - most // 2)]
    surrogates = []
    for column in scores.T:
        surrogates.append(predictor(seed=seed))
        surrogates[-1].fit([replace(seen[i], final=float(column[i])) for i in used])
    return Learned(seen, scores, order, used, surrogates)


def scores_of(results: Sequence[Result]) -> Array:
    """The gains of the results [results, objectives], each objective on the normal scale."""
    import numpy as np

    objectives = next((len(values) for _, values in results if values is not None), 1)
    columns = zip(*([None] * objectives if values is None else values for _, values in results), strict=True)
    return np.stack([normal_scores(column) for column in columns], axis=1)


def best_first(scores: Array, rng: random.Random) -> list[int]:
    """Rows of ``scores`` [n, objectives] by the front they are on, best front first; the order within a front is drawn.

    Fronts are told apart until 256 rows are placed, the rest follows by the sum of its scores, so that long histories stay cheap. One
    objective: the larger first, the earlier first of equals.
    """
    import numpy as np

    if scores.shape[1] == 1:
        return [int(i) for i in np.argsort(-scores[:, 0], kind="stable")]
    order: list[int] = []
    left = np.arange(len(scores))
    while len(left) and len(order) < MOST_ON_FRONTS:
        here = scores[left]
        beaten = np.array([bool(((here >= row).all(axis=1) & (here > row).any(axis=1)).any()) for row in here])
        front = [int(i) for i in left[~beaten]]
        rng.shuffle(front)
        order += front
        left = left[beaten]
    return order + [int(i) for i in left[np.argsort(-scores[left].sum(axis=1), kind="stable")]]


def trace_of(seen: Observation) -> Trace:
    assert seen.trace is not None
    return seen.trace
