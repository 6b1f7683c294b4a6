"""Fixed random splits: by class where there are classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...search_space.errors import DataError
from ...search_space.seeds import generator


def split_rows(
    rows: int, labels: np.ndarray | None, classes: Sequence[str] = (), *, validation: float, test: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of the train, validation and test splits, each ascending.

    Every class is divided in the given shares (rounded, at least one row per split), so the splits do not depend on the order
    of anything but the rows and the seed.

    Args:
        labels: class index of each row; None splits without looking.
        validation, test: shares, together below 1; ``test`` may be 0 where the data has a test split of its own.

    Raises:
        DataError: the shares are not possible, or a class has fewer than three rows.
    """
    if not (validation > 0 and test >= 0 and validation + test < 1):
        raise DataError(f"The shares validation={validation} and test={test} must be positive and together below 1.")
    draw = generator(seed, "data", "splits")
    groups = [np.arange(rows)] if labels is None else [np.flatnonzero(labels == index) for index in range(len(classes))]
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, group in enumerate(groups):
        if len(group) < 3:
            who = "The data" if labels is None else f'The class "{classes[index]}"'
            cure = "give more rows" if labels is None else "give more of them, or merge or drop the class (for numbers: kind='values')"
            raise DataError(f"{who} has {len(group)} rows, but train, validation and test each need one; {cure}.")
        order = group.tolist()
        draw.shuffle(order)
        n_test = max(1, round(len(order) * test)) if test else 0
        n_val = min(max(1, round(len(order) * validation)), len(order) - n_test - 1)
        for part, chosen in zip(parts, (order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test]), strict=True):
            part.extend(chosen)
    train, val, held = (np.array(sorted(part), dtype=np.int64) for part in parts)
    return train, val, held
