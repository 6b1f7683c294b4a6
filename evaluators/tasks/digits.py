"""The 1,797 handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from ...search_space.choices import Integer
from .augment import random_shift
from .definition import Task
from .registry import task


@task("digits", knobs={"shift": Integer(0, 3), "seed": Integer(0, 2**31)}, paper="Optical Recognition of Handwritten Digits (1998, UCI 80)")
def digits(*, shift: int = 0, seed: int = 0) -> Task:
    """Handwritten digits: 1,797 images of 8 x 8 pixels, ten classes, split 60/20/20 by class; nothing is downloaded.

    Args:
        shift: training images are moved at random by up to this many pixels; 0 leaves them as they are.
        seed: another seed, other splits.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return Task.from_arrays(
        data.images.astype(np.float32),
        data.target,
        name="digits",
        layout="image",
        augment=random_shift(shift) if shift else None,
        seed=seed,
    )
