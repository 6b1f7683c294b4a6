"""The candidates of one fit, ranked by what they promise; new ones may join."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

from ..search_space.choices import trace_key
from ..search_space.protocols import Observation
from .surrogates import Learned, trace_of

Array = Any


class Ranking:
    """Candidates nobody has asked for, by falling acquisition; the sum of the means decides where all promise the same.

    Args:
        known: the surrogates that predict them.
        promise: the acquisition of candidates by mean and spread, both [candidates, objectives].
        met: keys of the traces that were asked for.
    """

    def __init__(self, known: Learned, promise: Callable[[Array, Array], Array], met: Container[bytes]) -> None:
        self._known, self._promise, self._met = known, promise, met
        self._found: dict[bytes, Observation] = {}
        self._predicted: list[tuple[Array, Array]] = []
        self._climbed: set[bytes] = set()

    def add(self, candidates: Iterable[Observation]) -> None:
        """Let those join that are neither met nor here; none while the surrogates have seen too little."""
        keys = {trace_key(trace_of(seen)): seen for seen in candidates}
        new = {key: seen for key, seen in keys.items() if key not in self._met and key not in self._found}
        predicted = self._known.predictions(list(new.values()))
        if predicted is not None:
            self._found |= new
            self._predicted.append(predicted)

    def climb(self, around: Callable[[Observation], Iterable[Observation]], starts: int) -> None:
        """Let the neighbours of the first ``starts`` join, of those whose neighbours have not."""
        ahead = [seen for seen in self.best_first() if trace_key(trace_of(seen)) not in self._climbed][:starts]
        self._climbed |= {trace_key(trace_of(seen)) for seen in ahead}
        self.add(neighbour for seen in ahead for neighbour in around(seen))

    def best_first(self) -> list[Observation]:
        import numpy as np

        if not self._predicted:
            return []
        mean, spread = (np.concatenate(arrays) for arrays in zip(*self._predicted, strict=True))
        found = list(self._found.values())
        return [found[i] for i in np.lexsort((-mean.sum(axis=1), -self._promise(mean, spread)))]
