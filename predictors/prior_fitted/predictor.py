"""The predictor for cold starts: ``prior-fitted``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...search_space.choices import Domain, Integer, OneOf
from ...search_space.outcomes import Prediction
from ...search_space.protocols import Observation
from ..curves.base import CurvePredictor, HeldOut
from ..curves.lesson import Lesson, feature_rows, lesson_of, readable
from ..registry import check_knobs, predictor
from .reading import Answers, Reading, ReadLesson, group, load, spread_over

if TYPE_CHECKING:
    from .rows import Group

WEIGHTS = Path(__file__).with_name("weights.safetensors")
RUNNING, FOLDS = 16, 5
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
class PriorFitted(CurvePredictor):
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

    The mean is that of the distribution, and mean +- 1.645 spreads hold 90 % of it. Intervals are right on average over
    studies drawn from the prior; over real ones that is an empirical matter.

    Args:
        seed: of the folds of :meth:`held_out`; other predictions do not depend on it.
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
        super().__init__(seed, min_trials=1)
        self.budget, self.learn_from, self.context = budget, learn_from, context
        self.weights = str(WEIGHTS if weights is None else weights)
        self._running: tuple[Observation, ...] = ()
        self._read: dict[int, Reading] = {}

    def fit(self, history: Sequence[Observation]) -> None:
        """Take the candidates of ``history`` as context; they are read when a length is first asked for."""
        super().fit(history)
        running = [seen for seen in history if seen.final is None and self.learn_from == "all"]
        self._running = tuple(sorted(running, key=lambda seen: (len(seen.curve), repr(seen.curve), sorted(seen.features.items()))))
        self._names = tuple(sorted({*self._names, *(name for seen in self._running for name in seen.features)}))
        self._read = {}

    def predict_many(self, partials: Sequence[Observation]) -> list[Prediction | None]:
        """The answers of :meth:`predict`, those of one length together; None while nobody knows how long a training takes."""
        told: list[Prediction | None] = [None] * len(partials)
        for places, answers in self._answered(partials):
            for place, mean, spread in zip(places, answers.mean, answers.spread, strict=True):
                told[place] = Prediction(float(mean), float(spread))
        return told

    def chance_above(self, partial: Observation, value: float) -> float | None:
        """The probability of a final value above ``value``, from the distribution itself, which need not be symmetric."""
        for _, answers in self._answered([partial]):
            return float(answers.above(value)[0])
        return None

    def learned(self, lesson: Lesson) -> ReadLesson:
        """The completed candidates of a lesson as context, and what each fifth of them is predicted from the others."""
        import numpy as np

        folds = lesson.folds(FOLDS)
        held_out, spread = np.array(lesson.finals, dtype=float), np.zeros(len(lesson))
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            answers = self._reading(lesson.step, lesson.rows(~out), lesson.budget).answers(lesson.curves[out], lesson.features[out])
            held_out[out], spread[out] = answers.mean, answers.spread
        return ReadLesson(self._reading(lesson.step, lesson, lesson.budget), held_out, spread)

    def held_out(self, step: int) -> HeldOut | None:
        """What would have been predicted of the completed curves from four fifths of them, with the network's own spreads."""
        lesson = lesson_of(self._history, self._names, step, self.seed) if self._history else None
        if lesson is None:
            return None
        read = self.learned(lesson)
        return HeldOut(lesson.finals, read.held_out, read.spread)

    def _answered(self, partials: Sequence[Observation]) -> list[tuple[list[int], Answers]]:
        """Places and answers of those that can be answered, one pair for each length."""
        lengths: dict[int, list[int]] = {}
        curves = [readable(partial.curve, len(partial.curve)) for partial in partials]
        for place, curve in enumerate(curves):
            if curve is not None and (self.budget is not None or self._history):
                lengths.setdefault(len(curve), []).append(place)
        return [
            (places, self._at(step).answers([curves[place] for place in places], self._features([partials[place] for place in places])))
            for step, places in sorted(lengths.items())
        ]

    def _at(self, step: int) -> Reading:
        if step not in self._read:
            lesson = lesson_of(self._history, self._names, step, self.seed) if self._history else None
            self._read[step] = self._reading(step, lesson, max((len(seen.curve) for seen in self._history), default=1))
        return self._read[step]

    def _reading(self, step: int, lesson: Lesson | None, longest: int) -> Reading:
        steps = max(longest if self.budget is None else self.budget, step + 1)
        width = len(self._names) if lesson is None else lesson.features.shape[1]
        under_way = self._under_way(step) if width == len(self._names) else _nobody(step, width)  # an ensemble hands over lessons alone
        return Reading.of(load(self.weights), self._finished(lesson, step, steps), under_way, step, steps)

    def _finished(self, lesson: Lesson | None, step: int, steps: int) -> Group:
        import numpy as np

        if lesson is None:
            return _nobody(step, len(self._names))
        chosen = spread_over(len(lesson), self.context)
        finals = lesson.finals[chosen]
        return group(lesson.curves[chosen], lesson.features[chosen], finals, np.full(len(finals), steps))

    def _under_way(self, step: int) -> Group:
        import numpy as np

        read = [(seen, curve) for seen in self._running if (curve := readable(seen.curve, len(seen.curve))) and len(curve) >= step]
        read = [read[place] for place in spread_over(len(read), RUNNING)]
        curves = np.array([curve[:step] for _, curve in read], dtype=float).reshape(len(read), step)
        ends = np.array([(curve[-1], len(curve)) for _, curve in read], dtype=float).reshape(len(read), 2)
        return group(curves, self._features([seen for seen, _ in read]), ends[:, 0], ends[:, 1])

    def _features(self, seen: Sequence[Observation]) -> Array:
        return feature_rows([one.features for one in seen], self._names)


def _nobody(step: int, width: int) -> Group:
    import numpy as np

    return group(np.zeros((0, step)), np.zeros((0, width)), np.zeros(0), np.zeros(0))
