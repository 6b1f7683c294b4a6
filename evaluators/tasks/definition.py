"""What a network is trained on: the data in three splits, its loss and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...search_space.errors import DataError
from ...search_space.outcomes import Objective
from ...search_space.specs import Layout, OutputSpec, TensorSpec
from .metrics import CLASSIFICATION, REGRESSION
from .splits import split_rows
from .targets import Kind, encode_targets

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples ``x`` (N, ...) as float32 or uint8, targets ``y`` (N,) class indices as int64 or (N, K) values as float32."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Scaling:
    """``(x - mean) / std``, broadcast over a batch; statistics of the train split."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) / self.std).astype(np.float32)

    def undo(self, x: np.ndarray) -> np.ndarray:
        return x * self.std + self.mean


@dataclass(frozen=True, eq=False)
class Task:
    """One learning problem.

    Args:
        name: its name in reports.
        input: layout and shape of one sample.
        output: what a head must produce.
        train, val, test: the splits. Searching reads the first two; ``test`` is for the winners.
        loss: ``cross-entropy``, ``mse``, or a function of PyTorch tensors ``(outputs, targets) -> scalar``.
        metrics: name to function of NumPy arrays ``(outputs, targets) -> float``. Of classes the outputs are logits (N, K) and the
            targets indices (N,); of values both are in the target's own units, (N,) or (N, K) as the target was given.
        objective: what a search optimises unless it says otherwise; metric names carry their split (``val_accuracy``).
        input_scaling: applied batch by batch to samples kept as uint8; other samples are scaled already.
        target_scaling: how the values in ``y`` were standardised; None for classes.
        classes: the label of every class index.
        augment: a function of PyTorch tensors ``(x, generator) -> x``, applied to training batches.
    """

    name: str
    input: TensorSpec
    output: OutputSpec
    train: Split
    val: Split
    test: Split
    loss: str | Callable[[Any, Any], Any]
    metrics: Mapping[str, Metric]
    objective: Objective
    input_scaling: Scaling | None = None
    target_scaling: Scaling | None = None
    classes: tuple[str, ...] = ()
    augment: Callable[[Any, Any], Any] | None = None
    squeeze: bool = field(default=False, repr=False)

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        *,
        name: str = "arrays",
        layout: Layout | None = None,
        kind: Kind = "auto",
        categories: Sequence[int] = (),
        metrics: Mapping[str, Metric] | None = None,
        objective: str | Objective | None = None,
        loss: str | Callable[[Any, Any], Any] | None = None,
        validation: float = 0.2,
        test: float = 0.2,
        scale: bool = True,
        augment: Callable[[Any, Any], Any] | None = None,
        seed: int = 0,
    ) -> Task:
        """A task from arrays: rows are split at random (by class where there are classes), inputs standardised.

        Args:
            x: (N, F) rows of a table, (N, T, C) sequences, (N, H, W) or (N, C, H, W) images.
            y: (N,) class labels or values, or (N, K) values.
            layout: ``table``, ``sequence`` or ``image``; by default by the number of axes (3 axes are sequences).
            kind: ``classes`` or ``values``; by default floats are values and everything else is classes.
            categories: of a table, the number of levels of each column (coded 0, 1, ...); 0 is numeric.
            metrics: further metrics by name, beside ``accuracy``, or ``rmse``, ``mae`` and ``r2``.
            objective: ``"val_accuracy"`` to make a metric large, ``"-val_rmse"`` to make it small.
            loss: by default cross-entropy for classes, mean squared error for values.
            validation, test: shares of the rows.
            scale: standardise the inputs (per column or channel) with the mean and deviation of the train split.

        Raises:
            DataError: shapes disagree, a value is missing, there is one class only, or a class is too small to be split.

        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> Task.from_arrays(x, x[:, 0] > 0).output
        OutputSpec(kind='classes', size=2)
        """
        samples, spec = as_samples(x, layout, categories)
        targets = encode_targets(y, kind, len(samples))
        labels = targets.y if targets.classes else None
        parts = split_rows(len(samples), labels, targets.classes, validation=validation, test=test, seed=seed)
        splits = [(samples[rows], targets.y[rows]) for rows in parts]
        return assemble(
            name, spec, targets.classes, splits, squeeze=targets.squeeze, metrics=metrics, objective=objective, loss=loss, scale=scale,
            augment=augment,
        )  # fmt: skip

    def with_augment(self, augment: Callable[[Any, Any], Any] | None) -> Task:
        """The same task with training batches passed through ``augment``."""
        return replace(self, augment=augment)

    def measure(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every metric of network outputs (N, K) against ``targets`` as the splits hold them."""
        if self.target_scaling is not None:
            outputs, targets = self.target_scaling.undo(outputs), self.target_scaling.undo(targets)
        if self.squeeze:
            outputs, targets = outputs[:, 0], targets[:, 0]
        return {name: float(metric(outputs, targets)) for name, metric in self.metrics.items()}


def assemble(
    name: str,
    spec: TensorSpec,
    classes: tuple[str, ...],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    squeeze: bool = False,
    metrics: Mapping[str, Metric] | None = None,
    objective: str | Objective | None = None,
    loss: str | Callable[[Any, Any], Any] | None = None,
    scale: bool = True,
    augment: Callable[[Any, Any], Any] | None = None,
) -> Task:
    """A task of train, validation and test arrays ``(x, y)``; every statistic is taken from the first."""
    xs, ys = [x for x, _ in splits], [y for _, y in splits]
    input_scaling = _input_scaling(xs[0], spec) if scale else None
    if input_scaling is not None and xs[0].dtype != np.uint8:
        xs, input_scaling = [input_scaling.apply(x) for x in xs], None
    target_scaling = None
    if not classes:
        target_scaling = Scaling(ys[0].mean(axis=0, dtype=np.float64), _deviation(ys[0], (0,)))
        ys = [target_scaling.apply(y) for y in ys]
    measures = {**(CLASSIFICATION if classes else REGRESSION), **(metrics or {})}
    output = OutputSpec("classes", len(classes)) if classes else OutputSpec("values", ys[0].shape[1])
    train, val, test = (Split(np.ascontiguousarray(x), np.ascontiguousarray(y)) for x, y in zip(xs, ys, strict=True))
    return Task(
        name, spec, output, train, val, test,
        loss=loss or ("cross-entropy" if classes else "mse"),
        metrics=measures,
        objective=_objective(objective or ("val_accuracy" if classes else "-val_rmse"), measures),
        input_scaling=input_scaling,
        target_scaling=target_scaling,
        classes=classes,
        augment=augment,
        squeeze=squeeze,
    )  # fmt: skip


def as_samples(x: Any, layout: Layout | None = None, categories: Sequence[int] = ()) -> tuple[np.ndarray, TensorSpec]:
    """``x`` as float32 or uint8 samples with their spec.

    Raises:
        DataError: not numeric, a missing or infinite value, no rows, or a number of axes that the layout does not have.
    """
    samples = np.asarray(x)
    if samples.dtype == object or samples.dtype.kind not in "biuf":
        raise DataError(f"x has dtype {samples.dtype}; expected numbers. Code categories as 0, 1, ... and name them in categories=.")
    if samples.size == 0:
        raise DataError(f"x has shape {samples.shape} and so no samples; give at least one row and one feature.")
    layout = layout or {2: "table", 3: "sequence", 4: "image"}.get(samples.ndim)  # type: ignore[assignment]
    axes = {"table": (2,), "vector": (2,), "sequence": (3,), "image": (3, 4)}.get(layout or "")
    if axes is None or samples.ndim not in axes:
        expected = f"{' or '.join(map(str, axes))} axes for the layout {layout}" if axes else "2 (table), 3 (sequence) or 4 (image) axes"
        raise DataError(f"x has shape {samples.shape}; expected {expected}, the first for the rows.")
    if samples.dtype != np.uint8 or layout != "image":
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            where = int(np.argwhere(~np.isfinite(samples))[0][0])
            raise DataError(f"x holds a missing or infinite value (first in row {where}); fill or drop such rows, or use the task table.")
    if layout == "image" and samples.ndim == 3:
        samples = samples[:, None]
    assert layout is not None
    return samples, TensorSpec(layout, samples.shape[1:], _checked_categories(samples, layout, categories))


def _checked_categories(samples: np.ndarray, layout: str, categories: Sequence[int]) -> tuple[int, ...]:
    if layout != "table":
        if categories:
            raise DataError(f"categories were given for the layout {layout}; only the columns of a table have them.")
        return ()
    levels = tuple(int(count) for count in categories) or (0,) * samples.shape[1]
    if len(levels) != samples.shape[1]:
        raise DataError(f"categories has {len(levels)} entries, but x has {samples.shape[1]} columns; give one each, 0 for numeric.")
    for column, count in enumerate(levels):
        codes = samples[:, column]
        if count and not (np.all(codes == np.floor(codes)) and codes.min() >= 0 and codes.max() < count):
            raise DataError(f"Column {column} of x must hold codes 0 to {count - 1} as categories says; it holds others.")
    return levels


def _input_scaling(x: np.ndarray, spec: TensorSpec) -> Scaling:
    """Mean and deviation per column of a table, per channel elsewhere, shaped to broadcast over a batch."""
    channel = 1 if spec.layout == "image" else x.ndim - 1
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    shape = [-1 if axis == channel else 1 for axis in range(1, x.ndim)]
    mean, std = x.mean(axis=axes, dtype=np.float64), _deviation(x, axes)
    coded = np.array(spec.categories, dtype=bool) if spec.categories else np.zeros(len(mean), dtype=bool)
    mean, std = np.where(coded, 0.0, mean), np.where(coded, 1.0, std)
    return Scaling(mean.reshape(shape).astype(np.float32), std.reshape(shape).astype(np.float32))


def _deviation(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Standard deviation over ``axes``; 1 where nothing varies."""
    std = x.std(axis=axes, dtype=np.float64)
    mean = np.abs(x.mean(axis=axes, dtype=np.float64))
    return np.where(std > 1e-7 * np.maximum(mean, 1e-30), std, 1.0)


def _objective(objective: str | Objective, metrics: Mapping[str, Metric]) -> Objective:
    if isinstance(objective, str):
        objective = Objective(objective.removeprefix("-"), "min" if objective.startswith("-") else "max")
    known = ["val_loss", *(f"val_{name}" for name in metrics)]
    if objective.metric not in known:
        raise DataError(f'The objective "{objective.metric}" is none of the metrics of the task: {", ".join(known)}.')
    return objective
