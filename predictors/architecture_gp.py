"""The score of networks that nobody trained, from their choices and graphs: ``architecture-gp``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..search_space.choices import Domain, Integer
from ..search_space.seeds import derive_seed
from .architecture_surrogate import ArchitectureSurrogate, Fitted
from .encoding.encoder import Encoder, Row
from .gaussian_process import GroupedProcess
from .registry import check_knobs, predictor

EMBEDDED = 512
KNOBS: dict[str, Domain] = {"min_trials": Integer(2, 100)}


@predictor("architecture-gp", knobs=KNOBS)
class ArchitectureProcess(ArchitectureSurrogate[GroupedProcess]):
    """A Gaussian process that sees a candidate in three ways: its graph, its single choices, its families of like choices.

    Features (:mod:`.encoding`) are standardised on the history. The kernel is a Matern 3/2 of a distance to which each of the three
    views adds with a weight of its own, learned by marginal likelihood (:mod:`.gaussian_process`), so that a space where places matter
    and one where only the graph does are both served. Scores are warped (:mod:`.warping`): the long tail of failures is drawn in.
    Averages with tree ensembles and with processes on finer groups ranked no better on recorded evaluations.

    The answer is the predictive median and half the central 68 % interval of a new evaluation. Fitting takes O(n^3) for n finished
    candidates, with weights from at most 128 of them. The answer depends on the history as a set, and on nothing random.

    Args:
        seed: of the random features in ``embed``.
        min_trials: finished candidates below which nothing is predicted.
    """

    def __init__(self, *, seed: int, min_trials: int = 4) -> None:
        check_knobs("predictor", "architecture-gp", {"min_trials": min_trials}, KNOBS)
        super().__init__(seed, min_trials)

    def learned(self, encoder: Encoder, features: Any, scores: Any) -> GroupedProcess:
        return GroupedProcess(list(encoder.groups().values())).fit(features, scores)

    def answers(self, model: GroupedProcess, features: Any) -> tuple[Any, Any]:
        return model.predict(features)

    def kernel_features(self, fitted: Fitted[GroupedProcess], rows: Sequence[Row]) -> Any:
        """Random features [len(rows), 512] of norm 1 whose inner products are the correlations that the process learned, to within
        a few hundredths; the same for a candidate in every call."""
        return fitted.model.features(fitted.encoder(rows), EMBEDDED, derive_seed(self.seed, "fit", "features"))
