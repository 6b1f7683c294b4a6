"""Seeds that depend on nothing but the study's seed, a purpose and a number."""

from __future__ import annotations

import hashlib
import random
from typing import Literal

Purpose = Literal["ask", "init", "data", "train", "policy", "fallback", "probe", "fit"]


def derive_seed(study_seed: int, purpose: str, number: int | str = 0) -> int:
    """The first 8 bytes of SHA-256 of ``(study_seed, purpose, number)`` as an integer in [0, 2**63).

    Python's own ``hash`` is salted per process and is never used.
    """
    text = f"{study_seed}|{purpose}|{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(study_seed: int, purpose: str, number: int | str = 0) -> random.Random:
    """A fresh generator seeded by :func:`derive_seed`; the only source of randomness in a search."""
    return random.Random(derive_seed(study_seed, purpose, number))
