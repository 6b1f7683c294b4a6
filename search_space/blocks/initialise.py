"""Linear maps and parameter checks that the blocks share."""

from __future__ import annotations

from torch import nn

from ..errors import BuildError


def linear(inputs: int, outputs: int, *, bias: bool = True, variance: float = 1.0) -> nn.Linear:
    """A linear map with weights from N(0, variance / inputs) and zero bias, so that unit-variance inputs give ``variance`` out."""
    module = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(module.weight, std=(variance / inputs) ** 0.5)
    if bias:
        nn.init.zeros_(module.bias)
    return module


def scaled_width(block: str, width: int, ratio: float) -> int:
    """``width * ratio`` rounded, at least 1.

    Raises:
        BuildError: ``ratio`` is not above 0.
    """
    if not ratio > 0:
        raise BuildError(f'The "ratio" parameter of "{block}" must be above 0. Got {ratio!r} instead.')
    return max(1, round(width * ratio))


def checked(block: str, name: str, value: int, low: int = 1) -> int:
    """``value`` if it is an integer of at least ``low``.

    Raises:
        BuildError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise BuildError(f'The "{name}" parameter of "{block}" must be an integer of at least {low}. Got {value!r} instead.')
    return value


def chosen(block: str, name: str, value: str, options: tuple[str, ...]) -> str:
    """``value`` if it is one of ``options``.

    Raises:
        BuildError: it is not.
    """
    if value not in options:
        raise BuildError(f'The "{name}" parameter of "{block}" must be one of {", ".join(options)}. Got {value!r} instead.')
    return value


def largest_divisor(width: int, wanted: int, smallest_group: int = 1) -> int:
    """The largest number of equal groups, at most ``wanted``, that ``width`` splits into with ``smallest_group`` channels or more each.

    >>> largest_divisor(20, 8), largest_divisor(20, 8, smallest_group=4), largest_divisor(3, 8, smallest_group=4)
    (5, 5, 1)
    """
    fits = (count for count in range(min(wanted, width), 0, -1) if width % count == 0 and width // count >= smallest_group)
    return next(fits, 1)
