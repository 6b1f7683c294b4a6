"""The score of networks that nobody trained, from the states of a graph hypernetwork: ``ghn-embedding``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..search_space.architecture import Architecture
from ..search_space.choices import Domain, Integer, OneOf
from ..search_space.outcomes import Prediction
from ..search_space.protocols import Observation
from ..search_space.seeds import derive_seed, generator
from .registry import check_knobs, predictor
from .warping import Scale

if TYPE_CHECKING:
    from .hypernetwork.graph import ParameterGraph
    from .hypernetwork.model import Hypernetwork

POOLS = ("mean", "mean+max", "last")
REGRESSORS = ("svr", "rf", "ridge")
KNOBS: dict[str, Domain] = {
    "pool": OneOf(POOLS),
    "regressor": OneOf(REGRESSORS),
    "d": Integer(16, 128, step=4),
    "min_trials": Integer(5, 100),
}
FOLDS, CHOSEN_ON, MOST_KNOWN, CLIP = 5, 200, 20_000, 5.0
_C, _GAMMA, _EPSILON = (1.0, 10.0, 100.0, 1000.0), ("auto", 0.05, 0.1, 0.2, 0.5), (0.05, 0.1, 0.2)

Array = Any


@predictor("ghn-embedding", knobs=KNOBS, paper="Parameter Prediction for Unseen Deep Architectures (2021, arXiv 2110.13100)")
class GraphEmbedding:
    """A regressor on the mean node state of a graph hypernetwork, ``z(a) = mean_v h_v``.

    Columns are standardised on the history; scores are warped (:mod:`.warping`). The settings of the support vector machine
    (C in 1 to 1000; gamma ``auto`` (1 / columns), .05, .1, .2, .5; epsilon .05, .1, .2 of a deviation) are chosen by five-fold
    cross-validation on at most 200 candidates, epsilon after the others. The spread is the root mean square of the
    cross-validated residuals, the same for all candidates.

    Args:
        seed: of the folds, the forest and an untrained hypernetwork.
        hypernetwork: the file of a trained one (:func:`.hypernetwork.files.save_hypernetwork`). Without it the network that
            reads the graphs has random weights, the same in every call, and each block and parameter a random vector of its own.
        pool: ``mean``, ``mean+max`` (with the largest of each number), or ``last`` (the state of the output's node).
        regressor: ``ridge``, ``rf`` (random forest) or ``svr`` (support vectors, RBF kernel, the paper's). On recorded cells ridge and
            forest ranked better than support vectors, and ridge is by far the quickest.
        d: width of an untrained hypernetwork.
        min_trials: finished candidates below which nothing is predicted.

    Raises:
        ConfigError: a knob is outside its domain, or the file holds no hypernetwork.
    """

    def __init__(
        self,
        *,
        seed: int,
        hypernetwork: str | None = None,
        pool: str = "mean+max",
        regressor: str = "ridge",
        d: int = 64,
        min_trials: int = 8,
    ) -> None:
        check_knobs("predictor", "ghn-embedding", {"pool": pool, "regressor": regressor, "d": d, "min_trials": min_trials}, KNOBS)
        self.seed, self.regressor, self.min_trials = seed, regressor, min_trials
        self.embedder = Embedder(hypernetwork, pool, d, derive_seed(seed, "fit", "hypernetwork"))
        self._fitted: _Fitted | None = None

    def fit(self, history: Sequence[Observation]) -> None:
        """Learn from the observations that have a finite final score and an architecture."""
        self._fitted = None
        known = [(seen.final, seen.architecture) for seen in history if seen.final is not None and math.isfinite(seen.final)]
        pairs = [(final, architecture) for final, architecture in known if architecture is not None]
        if len(pairs) < self.min_trials:
            return
        rows = self.embedder([architecture for _, architecture in pairs])
        scores = np.array([final for final, _ in pairs])
        order = np.lexsort((*rows.T[::-1], scores))
        columns = _Columns.of(rows[order])
        scale = Scale.of(scores[order])
        model, spread = self._learned(columns(rows[order]), scale(scores[order]))
        self._fitted = _Fitted(columns, scale, model, spread)

    def predict(self, partial: Observation) -> Prediction | None:
        found = self.predict_many([partial]) if partial.architecture is not None else None
        return None if found is None else found[0]

    def predict_many(self, asked: Sequence[Observation]) -> list[Prediction] | None:
        """The score expected of each and the spread of a new evaluation; None before ``min_trials`` are known."""
        fitted = self._fitted
        if fitted is None:
            return None
        mean = fitted.model.predict(self._rows(fitted, asked))
        return fitted.scale.predictions(mean, np.full(len(mean), fitted.spread))

    def embed(self, asked: Sequence[Observation]) -> Any:
        """The standardised embedding over the root of its width, [len(asked), p]; zeros [len(asked), 1] before ``min_trials``."""
        if self._fitted is None:
            return np.zeros((len(asked), 1))
        rows = self._rows(self._fitted, asked)
        return rows / math.sqrt(rows.shape[1])

    def _rows(self, fitted: _Fitted, asked: Sequence[Observation]) -> Array:
        """Standardised embeddings; zeros, the mean of the history, for a candidate whose architecture is not given."""
        rows = np.zeros((len(asked), len(fitted.columns.mean)))
        given = [(number, seen.architecture) for number, seen in enumerate(asked) if seen.architecture is not None]
        if given:
            rows[[number for number, _ in given]] = fitted.columns(self.embedder([architecture for _, architecture in given]))
        return rows

    def _learned(self, x: Array, y: Array) -> tuple[Any, float]:
        """The regressor, fitted on all, and the root mean square of its residuals in cross-validation."""
        from sklearn.model_selection import cross_val_predict

        folds = _folds(len(x), self.seed)
        model = self._chosen(x, y)
        away = y - cross_val_predict(model, x, y, cv=folds)
        return model.fit(x, y), float(np.sqrt(np.mean(np.square(away))))

    def _chosen(self, x: Array, y: Array) -> Any:
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVR

        if self.regressor == "ridge":
            return RidgeCV(alphas=np.logspace(-2, 4, 13))
        if self.regressor == "rf":
            return RandomForestRegressor(n_estimators=50, random_state=derive_seed(self.seed, "fit", "forest") % 2**31)
        picked = sorted(generator(self.seed, "fit", "picked").sample(range(len(x)), min(CHOSEN_ON, len(x))))
        x, y, folds = x[picked], y[picked], _folds(len(picked), self.seed)
        model = SVR(epsilon=_EPSILON[1])
        for grid in ({"C": _C, "gamma": _GAMMA}, {"epsilon": _EPSILON}):
            model = model.set_params(
                **GridSearchCV(model, grid, cv=folds, scoring="neg_mean_squared_error", refit=False).fit(x, y).best_params_
            )
        return model


class Embedder:
    """Architectures to rows of numbers, remembered; each row depends on its own architecture alone."""

    def __init__(self, file: str | Path | None, pool: str, d: int, seed: int) -> None:
        self.file, self.pool, self.d, self.seed = file, pool, d, seed
        self._model: Hypernetwork | None = None
        self._rows: dict[str, Array] = {}
        if file is not None:
            from .hypernetwork.files import load_hypernetwork

            self._model = load_hypernetwork(file)

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """An array [len(architectures), p]."""
        texts = [architecture.to_text() for architecture in architectures]
        if len(self._rows) > MOST_KNOWN:
            self._rows.clear()
        missing = {text: architecture for text, architecture in zip(texts, architectures, strict=True) if text not in self._rows}
        if missing:
            self._embed(missing)
        return np.array([self._rows[text] for text in texts])

    def _embed(self, missing: dict[str, Architecture]) -> None:
        import torch

        from .hypernetwork.graph import graph_of

        graphs = {text: graph_of(architecture) for text, architecture in missing.items()}
        model = self._reader(list(graphs.values()))
        with torch.no_grad():
            for text, graph in graphs.items():
                self._rows[text] = model.embed([graph], self.pool)[0].double().numpy()  # type: ignore[arg-type]

    def _reader(self, graphs: Sequence[ParameterGraph]) -> Hypernetwork:
        """The trained hypernetwork, or an untrained one that knows every name of these graphs; more names change no number."""
        from .hypernetwork.model import Hypernetwork, Options
        from .hypernetwork.vocabulary import Vocabulary

        if self.file is not None and self._model is not None:
            return self._model
        known = Vocabulary.of(graphs) if self._model is None else self._model.vocabulary.joined(Vocabulary.of(graphs))
        if self._model is None or known != self._model.vocabulary:
            self._model = Hypernetwork(known, Options(d=self.d), seed=self.seed).eval()
        return self._model


@dataclass(frozen=True)
class _Columns:
    """Standardises the columns by what the history looks like; what lies far outside is clipped."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, rows: Array) -> _Columns:
        deviation = rows.std(axis=0)
        return cls(rows.mean(axis=0), np.where(deviation > 1e-7, deviation, np.inf))

    def __call__(self, rows: Array) -> Array:
        return np.clip((rows - self.mean) / self.deviation, -CLIP, CLIP)


@dataclass(frozen=True)
class _Fitted:
    columns: _Columns
    scale: Scale
    model: Any
    spread: float


def _folds(count: int, seed: int) -> Any:
    """Five folds, shuffled by a derived seed."""
    from sklearn.model_selection import KFold

    return KFold(min(FOLDS, count), shuffle=True, random_state=derive_seed(seed, "fit", "folds") % 2**31)
