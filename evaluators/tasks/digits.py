"""The 1,797 handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from ...search_space.choices import Integer, Real
from .augment import random_affine
from .definition import Task
from .registry import task


@task(
    "digits",
    knobs={"shift": Real(0.0, 3.0), "degrees": Real(0.0, 45.0), "scale": Real(0.0, 0.5), "seed": Integer(0, 2**31)},
    paper="Optical Recognition of Handwritten Digits (1998)",
)
def digits(*, shift: float = 0.7, degrees: float = 15.0, scale: float = 0.1, seed: int = 0) -> Task:
    """Handwritten digits: 1,797 images of 8 x 8 pixels, ten classes, split 60/20/20 by class; nothing is downloaded.

    Args:
        shift: training images are moved at random by up to this many pixels,
        degrees: turned by up to this much,
        scale: and made larger or smaller by up to this share, anew in each epoch; zeros leave them as they are.
        seed: another seed, other splits.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return Task.from_arrays(
        data.images.astype(np.float32),
        data.target,
        name="digits",
        layout="image",
        augment=random_affine(shift, degrees, scale) if shift or degrees or scale else None,
        seed=seed,
    )
