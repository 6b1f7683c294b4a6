"""The 1,797 handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from ...search_space.choices import Integer, OneOf
from .augment import random_affine
from .definition import Task
from .registry import task


@task(
    "digits",
    knobs={"jitter": OneOf((True, False)), "seed": Integer(0, 2**31)},
    paper="Optical Recognition of Handwritten Digits (1998)",
)
def digits(*, jitter: bool = True, seed: int = 0) -> Task:
    """Handwritten digits: 1,797 images of 8 x 8 pixels, ten classes, split 60/20/20 by class; nothing is downloaded.

    Args:
        jitter: training images are moved, turned and scaled a little, anew in each epoch.
        seed: another seed, other splits.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return Task.from_arrays(
        data.images.astype(np.float32),
        data.target,
        name="digits",
        layout="image",
        augment=random_affine(0.7, 15.0, 0.1) if jitter else None,
        seed=seed,
    )
