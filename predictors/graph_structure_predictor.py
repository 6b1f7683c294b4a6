"""The score of networks from the shape of their graph alone: ``graph-structure-predictor``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..search_space.choices import Domain, Integer, OneOf
from ..search_space.graph_structure import FEATURES, structure_vector
from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation
from ..search_space.seeds import derive_seed, generator
from .registry import check_knobs, predictor
from .warping import Scale

MODELS = ("forest", "adaboost", "gbrt", "ridge")
KNOBS: dict[str, Domain] = {"model": OneOf(MODELS), "n_features": Integer(5, 40), "min_trials": Integer(4, 100)}
FOLDS = 5
MOST_KNOWN = 20_000

Array = Any


@dataclass(frozen=True)
class _Fitted:
    """A pipeline of regressors, the factor of its members' spread, the error that it has at least, and the scale of scores."""

    model: Any
    factor: float
    floor: float
    scale: Scale


@predictor(
    "graph-structure-predictor",
    knobs=KNOBS,
    paper="Experiments on Properties of Hidden Structures of Sparse Neural Networks (2021, 2107.12917)",
)
class GraphStructurePredictor:
    """Regression on the statistics of an architecture's graph: no operations, no choices, no weights, no curve.

    The zero-cost baseline that a richer predictor must beat, and a filter for controllers that take one. Features are those of
    :func:`.graph_structure.structure_features`, scores are warped (:mod:`.warping`). The spread is that of the members (trees of the
    forest, rounds of AdaBoost, five boosted ensembles on resampled histories, the posterior of the ridge regression), with the factor
    that makes its mean square the squared error of five-fold cross-validation, and half of that error at least.

    Candidates are known by their architecture; networks of one graph are predicted alike. An observation without an architecture
    teaches nothing and is predicted as the mean of the history.

    Args:
        seed: of trees, folds and sampled centralities.
        model: ``forest``, ``adaboost``, ``gbrt`` (gradient boosting) or ``ridge`` (Bayesian ridge regression).
        n_features: how many features are used: those that correlate most with the scores.
        min_trials: finished candidates below which nothing is predicted.
    """

    def __init__(self, *, seed: int, model: str = "forest", n_features: int = 28, min_trials: int = 8) -> None:
        given = {"model": model, "n_features": n_features, "min_trials": min_trials}
        check_knobs("predictor", "graph-structure-predictor", given, KNOBS)
        self.seed, self.model, self.n_features, self.min_trials = seed, model, n_features, min_trials
        self._known: dict[str, Array] = {}
        self._fitted: _Fitted | None = None

    def fit(self, history: Sequence[Observation]) -> None:
        """Learn from the observations that have a finite final score and an architecture."""
        self._fitted = None
        known = [seen for seen in history if seen.architecture is not None]
        pairs = [(seen.final, self._vector(seen)) for seen in known if seen.final is not None and math.isfinite(seen.final)]
        if len(pairs) < self.min_trials:
            return
        pairs.sort(key=lambda pair: (pair[0], *pair[1]))
        scores, features = np.array([score for score, _ in pairs]), np.array([vector for _, vector in pairs])
        scale = Scale.of(scores)
        self._fitted = self._learned(features, scale(scores), scale)

    def predict(self, partial: Observation) -> Prediction | None:
        """The score expected of a candidate; None without an architecture, or before ``min_trials`` are known."""
        found = None if partial.architecture is None else self.predict_many([partial])
        return None if found is None else found[0]

    def predict_many(self, asked: Sequence[Observation]) -> list[Prediction] | None:
        """The median expected of each and half the central 68 % interval of a new evaluation; None before ``min_trials`` are known."""
        fitted = self._fitted
        if fitted is None:
            return None
        if not asked:
            return []
        mean, spread = _members(fitted.model, self._table(asked))
        return fitted.scale.predictions(mean, np.maximum(fitted.factor * spread, fitted.floor))

    def embed(self, asked: Sequence[Observation]) -> Array:
        """The standardised features that are used, [len(asked), p]; zeros [len(asked), 1] before ``min_trials`` are known."""
        if self._fitted is None or not asked:
            return np.zeros((len(asked), 1))
        return self._fitted.model[:-1].transform(self._table(asked))

    def _learned(self, features: Array, scores: Array, scale: Scale) -> _Fitted:
        folds = np.arange(len(scores)) % FOLDS
        order = list(range(len(scores)))
        generator(self.seed, "fit", "structure folds").shuffle(order)
        errors, spreads = np.empty(len(scores)), np.empty(len(scores))
        for fold in range(FOLDS):
            held = np.array(order)[folds == fold]
            rest = np.setdiff1d(np.arange(len(scores)), held)
            mean, spreads[held] = _members(self._pipeline().fit(features[rest], scores[rest]), features[held])
            errors[held] = scores[held] - mean
        error, inner = float(np.square(errors).mean()), float(np.square(spreads).mean())
        factor = math.sqrt(error / inner) if inner > 0 else 1.0
        return _Fitted(self._pipeline().fit(features, scores), factor, math.sqrt(error) / 2, scale)

    def _pipeline(self) -> Any:
        return structure_regressor(self.model, self.n_features, derive_seed(self.seed, "fit", "structure") % 2**31)

    def _table(self, asked: Sequence[Observation]) -> Array:
        return np.array([self._vector(seen) for seen in asked])

    def _vector(self, seen: Observation) -> Array:
        """The features of an observation, remembered by the digest; NaN, taken for the mean, without an architecture."""
        if seen.architecture is None:
            return np.full(len(FEATURES), np.nan)
        digest = seen.architecture.digest
        if digest not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[digest] = structure_vector(seen.architecture, seed=self.seed % 2**32)
        return self._known[digest]


def structure_regressor(model: str, n_features: int, seed: int) -> Any:
    """A scikit-learn pipeline from rows of features [n, p] to scores [n].

    Unknown values are taken for the mean, features are standardised, and those that correlate most with the scores are kept.
    """
    from sklearn.feature_selection import SelectKBest
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    telling = SelectKBest(_correlations, k=min(n_features, len(FEATURES)))
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), telling, _regressor(model, seed))


def _correlations(features: Array, scores: Array) -> Array:
    """The absolute correlation of each column with the scores; 0 where either is constant."""
    centred, residuals = features - features.mean(axis=0), scores - scores.mean()
    norms = np.linalg.norm(centred, axis=0) * np.linalg.norm(residuals)
    return np.abs(residuals @ centred) / np.where(norms > 1e-12, norms, np.inf)


def _regressor(model: str, seed: int) -> Any:
    from sklearn import ensemble
    from sklearn.linear_model import BayesianRidge
    from sklearn.tree import DecisionTreeRegressor

    if model == "forest":
        return ensemble.RandomForestRegressor(60, min_samples_leaf=2, max_features=0.4, random_state=seed)
    if model == "adaboost":
        return ensemble.AdaBoostRegressor(DecisionTreeRegressor(max_depth=4), n_estimators=50, random_state=seed)
    if model == "gbrt":
        boosted = ensemble.GradientBoostingRegressor(n_estimators=60, learning_rate=0.08, subsample=0.7, random_state=seed)
        return ensemble.BaggingRegressor(boosted, n_estimators=5, random_state=seed)
    return BayesianRidge()


def _members(pipeline: Any, features: Array) -> tuple[Array, Array]:
    """Mean [n] of a fitted pipeline and standard deviation [n] of its members."""
    inputs, regressor = pipeline[:-1].transform(features), pipeline[-1]
    if hasattr(regressor, "alpha_"):  # ridge
        mean, spread = regressor.predict(inputs, return_std=True)
        return mean, spread
    each = np.array([tree.predict(inputs) for tree in regressor.estimators_])
    return regressor.predict(inputs), each.std(axis=0)
