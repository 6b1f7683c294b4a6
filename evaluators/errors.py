"""The error an evaluator raises for a candidate that cannot be evaluated."""

from __future__ import annotations

from ..search_space.errors import ArchwrightError


class EvaluationError(ArchwrightError):
    """A candidate failed in training; the sentence becomes the reason of its outcome."""
