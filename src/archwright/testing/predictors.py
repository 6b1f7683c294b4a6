"""The contracts of a predictor and of a surrogate: no leakage, repeatable answers, silence when they know too little."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..search_space.choices import Trace
from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation, Predictor, Surrogate
from ..search_space.seeds import generator
from ..search_space.space import Space

STEPS = 12


def check_predictor(make: str | Callable[..., Predictor], *, seed: int = 0, ordered: bool = False, **knobs: Any) -> None:
    """Hold a predictor to its contract on made-up learning curves.

    Args:
        make: registered name, or ``make(seed=...)`` returning a new predictor.
        seed: of the curves and of the predictor.
        ordered: True for a predictor whose answer may depend on the order of its history.
        knobs: for a registered name, its knobs.

    Raises:
        AssertionError: one sentence naming the rule that was broken.
    """
    new = _maker(make, knobs)
    history, partial = made_up_curves(40, seed), made_up_curves(1, seed + 1)[0]
    running = Observation(partial.curve[:5], partial.features)

    def answer(seen: Sequence[Observation], asked: Observation = running) -> Prediction | None:
        predictor = new(seed=seed)
        predictor.fit(seen)
        return predictor.predict(asked)

    first = answer(history)
    assert first is not None, "A predictor fitted on 40 completed curves must predict a running one; it answered None."
    assert math.isfinite(first.mean), f"The predicted mean is {first.mean}; it must be finite."
    assert 0 <= first.spread < math.inf, f"The spread is {first.spread}; it must be finite and not negative."
    assert answer(history) == first, "Two predictors of one seed and one history disagree; predictions must be repeatable."
    assert answer([]) is None, "A predictor without a history must answer None."
    assert ordered or answer(history[::-1]) == first, "The answer depends on the order of the history; pass ordered=True if it may."
    _check_no_leakage(answer, history, first)
    _check_robustness(answer, history)
    _check_refit(new, history, running, seed, first)


def check_surrogate(
    make: str | Callable[..., Surrogate],
    *,
    seed: int = 0,
    ordered: bool = False,
    spaces: Sequence[tuple[Space, Callable[[Trace], float]]] | None = None,
    **knobs: Any,
) -> None:
    """Hold a surrogate to its contract on made-up scores of two spaces: conditional choices, repeats and every kind of number.

    Args:
        make: registered name, or ``make(seed=...)`` returning a new surrogate.
        seed: of the candidates and of the surrogate.
        ordered: True for a surrogate whose answer may depend on the order of its history.
        spaces: others to try it on, each with the score of a trace; for a surrogate that only sees what those two lack.
        knobs: for a registered name, its knobs.

    Raises:
        AssertionError: one sentence naming the rule that was broken.
    """
    from .toys import DYNAMIC, MIXERS, mixers_score, trace_score

    new = _maker(make, knobs)
    for space, score in spaces or ((MIXERS, mixers_score), (DYNAMIC, trace_score)):
        _check_surrogate_on(new, _scored(space, score, 40, seed), _scored(space, score, 12, seed + 1), seed, ordered)


def _scored(space: Space, score: Callable[[Trace], float], count: int, seed: int) -> list[Observation]:
    """Finished candidates of a space, drawn at random."""
    drawn = [space.sample(generator(seed, "probe", number)) for number in range(count)]
    return [Observation((), {}, score(trace), trace, architecture) for architecture, trace in drawn]


def _check_surrogate_on(
    new: Callable[..., Any], history: Sequence[Observation], others: Sequence[Observation], seed: int, ordered: bool
) -> None:
    import numpy as np

    asked = [replace(seen, final=None) for seen in others]

    def answers(seen: Sequence[Observation]) -> Any:
        surrogate = new(seed=seed)
        surrogate.fit(seen)
        return surrogate.predict_many(asked)

    first = answers(history)
    assert first is not None, "A surrogate fitted on 40 finished candidates must answer; it answered None."
    assert len(first) == len(asked), f"Asked about {len(asked)} candidates, a surrogate answered {len(first)} times."
    assert all(math.isfinite(one.mean) for one in first), "A prediction is not finite."
    assert all(0 <= one.spread < math.inf for one in first), "A spread is not finite, or negative."
    assert len({one.mean for one in first}) > 1, "Every candidate is predicted the same, though they differ in every way."
    assert answers(history) == first, "Two surrogates of one seed and one history disagree; predictions must be repeatable."
    assert ordered or answers(history[::-1]) == first, "The answer depends on the order of the history; pass ordered=True if it may."
    damaged = [*history, *asked, replace(others[0], final=math.nan), Observation((), {}, 0.5)]
    assert answers(damaged) == first, "A candidate without a finite score, or without trace and architecture, changed a prediction."
    assert answers([]) is None, "A surrogate without a history must answer None."
    assert answers([replace(seen, final=0.5) for seen in history]) is not None, "Equal scores are a history too; a surrogate must answer."
    surrogate = new(seed=seed)
    surrogate.fit(history[:20])
    surrogate.predict_many(asked)
    surrogate.fit(history)
    assert surrogate.predict_many(asked) == first, "A refitted surrogate answers otherwise than a new one; fit must replace what it knew."
    alone = surrogate.predict(asked[0])
    same = alone is not None and math.isclose(alone.mean, first[0].mean, rel_tol=1e-6, abs_tol=1e-9)
    assert same, f"predict says {alone} and predict_many {first[0]} of one candidate."
    embedded = np.asarray(surrogate.embed(asked))
    assert embedded.shape[0] == len(asked), f"embed gave an array of shape {embedded.shape} for {len(asked)} candidates."
    assert embedded.ndim == 2, f"embed gave an array of shape {embedded.shape}; it has one row per candidate."
    assert np.isfinite(embedded).all(), "An embedding is not finite."


def made_up_curves(count: int, seed: int, steps: int = STEPS, noise: float = 0.005) -> list[Observation]:
    """Completed power-law curves ``a - b t^-c`` whose ``a`` and ``c`` are driven by the features."""
    rng = generator(seed, "probe", "made-up curves")
    return [_made_up(rng, steps, noise) for _ in range(count)]


def _made_up(rng: random.Random, steps: int, noise: float) -> Observation:
    rate, size = rng.uniform(-4, -1), rng.uniform(3, 6)
    top, speed = 0.9 - 0.05 * (rate + 2.5) ** 2 + 0.02 * size, 0.5 + 0.2 * (rate + 4)
    curve = [top - 0.6 * step**-speed + noise * rng.gauss(0, 1) for step in range(1, steps + 1)]
    return Observation(tuple(curve), {"choice/rate": rate, "architecture/size": size}, curve[-1])


def _check_no_leakage(answer: Callable[..., Prediction | None], history: Sequence[Observation], first: Prediction) -> None:
    """Values after the observed length, in the history too, may count only through the final score."""
    altered = [Observation((*seen.curve[:5], *(0.0 for _ in seen.curve[5:])), seen.features, seen.final) for seen in history]
    assert answer(altered) == first, "Values after the observed step changed a prediction; a model of length s may see s values."
    running = [*history, Observation((0.1,) * 6, history[0].features)]
    assert answer(running) == first, "A candidate without a final score changed a prediction; only completed ones may teach."


def _check_robustness(answer: Callable[..., Prediction | None], history: Sequence[Observation]) -> None:
    damaged = [
        *history,
        Observation((), {}, 0.5),
        Observation((0.5, math.nan, 0.5, 0.5, 0.5, 0.5), {}, 0.5),
        Observation((0.5,) * 6, {}, math.nan),
        Observation((0.2, 0.3), history[0].features, 0.4),
    ]
    for asked in (Observation((0.5,) * 5), Observation((0.5,) * 5, {"unheard": 1.0}), Observation((1e9,) * 5, history[0].features)):
        told = answer(damaged, asked)
        assert told is None or math.isfinite(told.mean), f"The prediction for {asked} is {told}; it must be finite or None."
    for curve in ((), (0.5, math.nan, 0.5), (0.5, math.inf)):
        told = answer(history, Observation(curve, history[0].features))
        assert told is None or math.isfinite(told.mean), f"The prediction for the curve {curve} is {told}; it must be finite or None."


def _check_refit(new: Callable[..., Predictor], history: Sequence[Observation], running: Observation, seed: int, first: Prediction) -> None:
    """A second ``fit`` replaces the first, and asking other lengths in between changes nothing."""
    predictor = new(seed=seed)
    predictor.fit(history[:20])
    predictor.predict(running)
    predictor.fit(history)
    predictor.predict(Observation(running.curve[:3], running.features))
    assert predictor.predict(running) == first, "A refitted predictor answers otherwise than a new one; fit must replace what it knew."


def _maker(make: str | Callable[..., Predictor], knobs: dict[str, Any]) -> Callable[..., Predictor]:
    if not isinstance(make, str):
        return make
    from ..predictors.registry import PREDICTORS

    entry = PREDICTORS[make]
    return lambda *, seed: entry.obj(seed=seed, **knobs)
