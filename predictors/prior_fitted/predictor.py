"""The predictor for cold starts: ``prior-fitted``."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...search_space.choices import Domain, Integer, OneOf
from ...search_space.errors import ConfigError
from ...search_space.outcomes import Prediction
from ...search_space.protocols import Observation
from ...search_space.seeds import generator
from ..registry import check_knobs, predictor

if TYPE_CHECKING:
    from .bars import Bars
    from .network import Memory, RowTransformer
    from .rows import Context, Group

WEIGHTS = Path(__file__).with_name("weights.safetensors")
LONGEST, RUNNING, FOLDS, FARTHEST = 200, 16, 5, 1e12
LEARN_FROM = ("finished", "all")
KNOBS: dict[str, Domain] = {
    "budget": Integer(1, 10_000_000),
    "learn_from": OneOf(LEARN_FROM),
    "context": Integer(1, 1000),
}
Array = Any


@predictor(
    "prior-fitted",
    knobs=KNOBS,
    paper="Efficient Bayesian Learning Curve Extrapolation using Prior-Data Fitted Networks (2023, 2310.20447)",
)
class PriorFitted:
    r"""The final value from the curve so far, by a transformer trained once, on made-up studies.

    The network approximates the posterior predictive distribution

    .. math:: p(y_T \mid y_1 \dots y_s, x, D), \qquad D = \{(x_i, y_{i,1} \dots y_{i,s}, y_{i,T})\}

    under the prior of :mod:`.prior`: x are the features of the candidate, D the other candidates of the study. Nothing is fitted when
    the study runs: the others are read as context, once for each observed length. It answers with D empty, if it is told the
    ``budget``, and gets better with each curve that finishes.

    Departures from the paper: one row for each candidate of the study in place of one token for each value of a single curve, as for
    tables in "TabPFN: A Transformer That Solves Small Tabular Classification Problems in a Second" (2022, 2207.01848), so that the
    other curves of the study count (for which see also "In-Context Freeze-Thaw Bayesian Optimization for Hyperparameter
    Optimization", 2024, 2404.16795); values are written in units of what a ridge regression on the context leaves unexplained, so any
    metric will do and none needs bounds; a curve of more than 200 steps is thinned to as many.

    ``mean`` is the mean of the distribution, and ``mean +- 1.645 spread`` holds 90 % of it. Intervals are right on average over
    studies drawn from the prior; over real ones that is an empirical matter.

    Args:
        seed: of the folds of :meth:`held_out`; predictions do not depend on it.
        budget: steps of a full training; by default as long as the longest finished curve.
        learn_from: ``finished`` candidates only, or ``all`` that are at least as far as the one asked about.
        context: finished candidates read at most, evenly spread over their final values.
        weights: safetensors file of a network trained otherwise; by default the one in the package.

    Raises:
        ConfigError: the file of weights is missing or holds something else.
    """

    def __init__(
        self, *, seed: int, budget: int | None = None, learn_from: str = "finished", context: int = 128, weights: str | None = None
    ) -> None:
        given: Mapping[str, Any] = {"budget": budget, "learn_from": learn_from, "context": context}
        check_knobs("predictor", "prior-fitted", {knob: value for knob, value in given.items() if value is not None}, KNOBS)
        self.seed, self.budget, self.learn_from, self.context = seed, budget, learn_from, context
        self.weights = str(WEIGHTS if weights is None else weights)
        self._finished: tuple[Observation, ...] = ()
        self._running: tuple[Observation, ...] = ()
        self._names: tuple[str, ...] = ()
        self._read: dict[int, _Read] = {}

    def fit(self, history: Sequence[Observation]) -> None:
        """Take the candidates of ``history`` as context; they are read when a length is first asked for."""
        seen = sorted((one for one in history if _has_values(one.curve)), key=_order)
        self._finished = tuple(one for one in seen if one.final is not None and math.isfinite(one.final))
        self._running = tuple(one for one in seen if one.final is None and self.learn_from == "all")
        self._names = tuple(sorted({name for one in (*self._finished, *self._running) for name in one.features}))
        self._read = {}

    def predict(self, partial: Observation) -> Prediction | None:
        """The final value expected after ``partial.curve``; None without a value, or while nobody knows how long a training takes."""
        return self.predict_many([partial])[0]

    def predict_many(self, partials: Sequence[Observation]) -> list[Prediction | None]:
        """The answers of :meth:`predict`, those of one length together."""
        told: list[Prediction | None] = [None] * len(partials)
        for places, answers in self._answers(partials):
            means, spreads = answers.mean_and_spread()
            for place, mean, spread in zip(places, means, spreads, strict=True):
                told[place] = Prediction(float(mean), float(spread))
        return told

    def chance_above(self, partial: Observation, value: float) -> float | None:
        """The probability of a final value above ``value``, from the distribution itself, which need not be symmetric."""
        for _, answers in self._answers([partial]):
            return float(answers.above(value)[0])
        return None

    def held_out(self, step: int) -> tuple[Array, Array, Array]:
        """Of the finished candidates read at length ``step``: finals, predictions from four fifths of the others, spreads; each [n]."""
        import numpy as np

        rows = _thinned([one for one in self._finished if _has_values(one.curve[:step]) and len(one.curve) >= step], self.context)
        finals, means, spreads = (np.empty(len(rows)) for _ in range(3))
        finals[:] = [one.final for one in rows]
        fold = [number % FOLDS for number in range(len(rows))]
        generator(self.seed, "fit", f"folds {step}").shuffle(fold)
        for left_out in sorted(set(fold)):
            places = [place for place, number in enumerate(fold) if number == left_out]
            known = [one for one, number in zip(rows, fold, strict=True) if number != left_out]
            answers = self._reading(step, known, ()).answers(self._group([rows[place] for place in places], step))
            means[places], spreads[places] = answers.mean_and_spread()
        return finals, means, spreads

    def _answers(self, partials: Sequence[Observation]) -> list[tuple[list[int], _Answers]]:
        """Places and answers of those that can be answered, one pair for each length."""
        lengths: dict[int, list[int]] = {}
        for place, partial in enumerate(partials):
            if _has_values(partial.curve) and (self.budget is not None or self._finished):
                lengths.setdefault(len(partial.curve), []).append(place)
        return [
            (places, self._at(step).answers(self._group([partials[place] for place in places], step)))
            for step, places in sorted(lengths.items())
        ]

    def _at(self, step: int) -> _Read:
        if step not in self._read:
            far = [[one for one in group if len(one.curve) >= step and _has_values(one.curve[:step])] for group in self._others()]
            self._read[step] = self._reading(step, _thinned(far[0], self.context), _thinned(far[1], RUNNING))
        return self._read[step]

    def _others(self) -> tuple[Sequence[Observation], Sequence[Observation]]:
        return self._finished, self._running

    def _reading(self, step: int, finished: Sequence[Observation], running: Sequence[Observation]) -> _Read:
        from .rows import Context

        stride = math.ceil(self._horizon(step) / LONGEST)
        steps = max(math.ceil(self._horizon(step) / stride), math.ceil(step / stride) + 1)
        context = Context.of(self._group(finished, step), self._group(running, step), steps)
        return _Read(_network(self.weights), context)

    def _horizon(self, step: int) -> int:
        """Steps of a full training: at least one more than have been seen."""
        known = max((len(one.curve) for one in self._finished), default=1) if self.budget is None else self.budget
        return max(known, step + 1)

    def _group(self, seen: Sequence[Observation], step: int) -> Group:
        """One study of B = 1, thinned to every so many steps, the last one among them."""
        import numpy as np

        from .rows import Group, filled

        stride = math.ceil(self._horizon(step) / LONGEST)
        prefixes = _finite(np.array([one.curve[:step] for one in seen], dtype=float).reshape(len(seen), step))
        if stride > 1:
            prefixes = filled(prefixes)[:, (step - 1) % stride :: stride]
        features = [[float(one.features.get(name, _absent(name))) for name in self._names] for one in seen]
        latest = [_last(one.curve) if one.final is None else one.final for one in seen]
        reached = [self._horizon(step) if one.final is not None else len(one.curve) for one in seen]
        return Group(
            prefixes[None],
            _finite(np.array(features, dtype=float).reshape(len(seen), len(self._names)))[None],
            _finite(np.array(latest, dtype=float))[None],
            np.array(reached, dtype=float)[None] / stride,
        )


class _Read:
    """A context with the network's memory of it."""

    def __init__(self, network: RowTransformer, context: Context) -> None:
        import torch

        self.network, self.context = network, context
        with torch.no_grad():
            self.memory: Memory = network.memory(torch.from_numpy(context.rows).float())

    def answers(self, group: Group) -> _Answers:
        import torch

        from .bars import Bars

        rows, anchor, unit = self.context.asked(group)
        with torch.no_grad():
            told = self.network.answer(self.memory, torch.from_numpy(rows).float())
        shares = told[0].double().exp().numpy()
        return _Answers(Bars(shares / shares.sum(axis=1, keepdims=True)), anchor[0], unit[0])


@dataclass(frozen=True)
class _Answers:
    """Distributions in units of the study, and how to read them in those of the metric."""

    bars: Bars
    anchor: Array
    unit: Array

    def mean_and_spread(self) -> tuple[Array, Array]:
        return self.anchor + self.unit * self.bars.mean(), self.unit * self.bars.spread()

    def above(self, value: float) -> Array:
        return 1 - self.bars.below((value - self.anchor) / self.unit)


@functools.cache
def _network(path: str) -> RowTransformer:
    """The network of a file of weights, read once."""
    from safetensors import SafetensorError

    from .network import load_network

    try:
        return load_network(path)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f'The predictor "prior-fitted" cannot use the weights {path}: {str(error).splitlines()[0]} '
            "Give a file that studies/training/prior_fitted.py wrote."
        ) from error


def _finite(values: Array) -> Array:
    """NaN for what is not finite, and nothing so large that its square is not."""
    import numpy as np

    return np.clip(np.where(np.isfinite(values), values, np.nan), -FARTHEST, FARTHEST)


def _has_values(curve: Sequence[float]) -> bool:
    return any(map(math.isfinite, curve))


def _last(curve: Sequence[float]) -> float:
    return next(value for value in reversed(curve) if math.isfinite(value))


def _absent(name: str) -> float:
    """An option never chosen was chosen zero times; any other fact is unknown."""
    return 0.0 if "=" in name else math.nan


def _order(seen: Observation) -> tuple[Any, ...]:
    """Sorts a history by final value, so that the order in which candidates finished does not matter."""
    final = -math.inf if seen.final is None or not math.isfinite(seen.final) else seen.final
    curve = [(not math.isfinite(value), value if math.isfinite(value) else 0.0) for value in seen.curve]
    return final, curve, sorted(seen.features.items())


def _thinned(seen: Sequence[Observation], most: int) -> list[Observation]:
    """At most so many, evenly spread."""
    if len(seen) <= most:
        return list(seen)
    return [seen[round(place * (len(seen) - 1) / max(1, most - 1))] for place in range(most)]
