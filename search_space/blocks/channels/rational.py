"""Safe rational functions with learned coefficients, one per group of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....kernels.rational import rational
from ..initialise import largest_divisor

# SiLU and GELU are x/2 plus an even function, here (p_1 x^2 + p_2 x^4 + ...) / (1 + b_1 x^2 + b_2 x^4 + ...), so that the whole is
# (x/2 (1 + b_1 x^2 + ...) + p_1 x^2 + ...) / (1 + b_1 x^2 + ...). Least squares on [-3, 3]; for GELU of degree 5/4 on [-5, 5],
# because the fit on [-3, 3] has a negative b_2 and turns downwards at x = 4. Every b is positive: the denominator has no kink.
_EVEN: dict[tuple[str, int], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("silu", 2): ((0.2440100391,), (0.0695574563,)),
    ("silu", 4): ((0.2499980654525, 0.005806207058250), (0.1065465720966, 0.0005512097220556)),
    ("silu", 6): ((0.2499999999245, 0.007543863878770, 3.081687916510e-5), (0.1135087880097, 0.001249000634493, 1.430435585308e-6)),
    ("gelu", 2): ((0.3836836745,), (0.1491180446,)),
    ("gelu", 4): ((0.4107498559, 0.01118448591), (0.2271324682, 0.0003414687946)),
    ("gelu", 6): ((0.3989303396908, 0.02349577208842, 0.002737607494379), (0.2254625762132, 0.01954861309359, 0.0005401390448770)),
}


# A power of two, so that dividing by it is exact and the identity stays the identity.
_UNIT = 4.0


def coefficients(function: str, degree: int) -> tuple[list[float], list[float]]:
    """``a_0 .. a_{n+1}`` and ``b_1 .. b_n`` of the rational function of denominator degree n nearest to ``function``.

    Args:
        function: ``identity`` (exact), ``silu`` or ``gelu``.
        degree: n, one of 2, 4, 6.
    """
    numerator, denominator = [0.0] * (degree + 2), [0.0] * degree
    if function == "identity":
        numerator[1] = 1.0
        return numerator, denominator
    for power, (p, b) in enumerate(zip(*_EVEN[function, degree], strict=True), start=1):
        denominator[2 * power - 1] = b
        numerator[2 * power], numerator[2 * power + 1] = p, b / 2
    numerator[1] = 0.5
    return numerator, denominator


class GroupRational(nn.Module):
    """One learned safe rational function per group of neighbouring channels, started at ``function``.

    The learned coefficients are those of the powers of x / 4, so that they are all of order 1: as coefficients of x^4 and x^5 they
    are near 1e-3, and one optimiser step of that size would throw the function far off.
    ``F(x) = (a_0 + a_1 x + ... + a_m x^m) / (1 + |b_1 x + ... + b_n x^n|)``; ``groups`` is lowered until it divides the width.
    Shapes: [..., width] -> [..., width]. Parameters: groups (m + n + 1).
    """

    def __init__(self, width: int, *, groups: int = 8, degree: int = 4, function: str = "silu") -> None:
        super().__init__()
        self.groups = largest_divisor(width, groups)
        above, below = coefficients(function, degree)
        numerator = torch.tensor([a * _UNIT**power for power, a in enumerate(above)])
        denominator = torch.tensor([b * _UNIT**power for power, b in enumerate(below, start=1)])
        self.numerator = nn.Parameter(numerator[:, None].repeat(1, self.groups))
        self.denominator = nn.Parameter(denominator[:, None].repeat(1, self.groups))

    def forward(self, x: Tensor) -> Tensor:
        return rational(x / _UNIT, self.numerator, self.denominator)
