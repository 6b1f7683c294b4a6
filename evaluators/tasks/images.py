"""Image classification from arrays in an ``.npz`` file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...search_space.choices import Integer
from ...search_space.errors import DataError, did_you_mean
from ...search_space.seeds import generator
from ...search_space.specs import TensorSpec
from .augment import random_shift
from .definition import Task, as_samples, assemble
from .registry import task
from .splits import split_rows
from .targets import encode_targets


@task("images", knobs={"shift": Integer(0, 8), "seed": Integer(0, 2**31)})
def images(*, path: str, validation: float = 0.2, test: float = 0.2, limit_train: int | None = None, shift: int = 0, seed: int = 0) -> Task:
    """Images and their labels from a NumPy ``.npz`` file, normalised per channel with the train split's statistics.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W); uint8 stays compact in memory and is scaled batch by batch.

    Args:
        path: the file. It holds ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``x`` and ``y`` alone.
        validation: share of the train rows (or of all rows) kept for validation.
        test: share of all rows kept for testing, where the file has no test split of its own.
        limit_train: at most this many training images, each class in proportion.
        shift: training images are moved at random by up to this many pixels.

    Raises:
        DataError: the file is missing, not an ``.npz``, lacks an array, or its arrays do not fit each other.
    """
    arrays = _load(path)
    own_test = "x_train" in arrays
    x, y = ("x_train", "y_train") if own_test else ("x", "y")
    samples, spec = as_samples(_channels_first(arrays[x]), "image")
    targets = encode_targets(arrays[y], "classes", len(samples))
    train, val, rest = split_rows(
        len(samples), targets.y, targets.classes, validation=validation, test=0.0 if own_test else _share(test), seed=seed
    )
    held = _held_out(arrays, path, targets.classes, spec) if own_test else (samples[rest], targets.y[rest])
    if limit_train is not None:
        train = _limited(train, targets.y, limit_train, seed)
    splits = [(samples[train], targets.y[train]), (samples[val], targets.y[val]), held]
    return assemble(Path(path).stem, spec, targets.classes, splits, augment=random_shift(shift) if shift else None)


def _load(path: str) -> dict[str, np.ndarray]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with file:
            names = list(file.files)
            wanted = ("x_train", "y_train", "x_test", "y_test") if "x_train" in names else ("x", "y")
            for name in wanted:
                if name not in names:
                    cure = did_you_mean(name, names)
                    raise DataError(f'The file "{path}" lacks the array "{name}" (of {", ".join(wanted)}); {cure}')
            return {name: file[name] for name in wanted}
    except FileNotFoundError:
        raise DataError(f'There is no file "{path}"; give the path of an .npz file.') from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f'The file "{path}" is no .npz file of plain arrays ({reason}); write one with numpy.savez.') from None


def _channels_first(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) of (N, H, W), (N, H, W, C) or (N, C, H, W); channels are the axis of 1 to 4 entries, the last if both are."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[3] <= 4:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x


def _held_out(arrays: Mapping[str, np.ndarray], path: str, classes: tuple[str, ...], spec: TensorSpec) -> tuple[np.ndarray, np.ndarray]:
    """The file's own test split, its labels as indices of ``classes``."""
    samples, held_spec = as_samples(_channels_first(arrays["x_test"]), "image")
    if held_spec != spec:
        raise DataError(f'In "{path}" x_train holds {spec} and x_test {held_spec}; expected images of one size.')
    if samples.dtype != arrays["x_train"].dtype and np.uint8 in (samples.dtype, arrays["x_train"].dtype):
        raise DataError(f'In "{path}" only one of x_train and x_test is uint8; store both alike.')
    index = {label: number for number, label in enumerate(classes)}
    labels = arrays["y_test"].reshape(-1).astype(str)
    unseen = sorted(set(labels) - set(index))
    if unseen or len(labels) != len(samples):
        fault = f'the label "{unseen[0]}" that y_train lacks' if unseen else f"{len(labels)} labels for {len(samples)} images"
        raise DataError(f'In "{path}" y_test holds {fault}.')
    return samples, np.array([index[label] for label in labels], dtype=np.int64)


def _share(test: float) -> float:
    if test <= 0:
        raise DataError(f"The share test={test} must be above 0, because the file has no test split of its own.")
    return test


def _limited(rows: np.ndarray, labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """At most ``limit`` of ``rows``, every class in proportion (at least one each)."""
    if limit < 1:
        raise DataError(f"limit_train is {limit}; expected 1 or more.")
    kept: list[int] = []
    for label in np.unique(labels[rows]):
        group = rows[labels[rows] == label].tolist()
        generator(seed, "data", f"limit-{label}").shuffle(group)
        kept.extend(group[: max(1, round(len(group) * min(1.0, limit / len(rows))))])
    return np.array(sorted(kept), dtype=np.int64)
