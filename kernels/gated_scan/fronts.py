"""What stands before the scan in five recurrences: gates ``a`` and inputs ``x`` from the layer's own tensors, in one dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

# The square root of 1 - a^2 has no slope where a = 1; anything this small is nothing beside a state of order 1.
TINY = 1e-24
# exp(-exp(nu)) is 0 in any precision long before this.
LARGEST_NU = 20.0

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Front:
    """One front end.

    Args:
        sequences: names of the arguments of shape (batch, steps, width).
        vectors: names of those of shape (width,), which come after.
        gates: ``gates(*arguments, **options) -> a, x``.
        value: place of the argument that gives the states their dtype.
        operations: of one element, forward.
    """

    name: str
    sequences: tuple[str, ...]
    vectors: tuple[str, ...]
    gates: Callable[..., Pair]
    value: int
    operations: int


def _rg_lru(recurrence: Tensor, entry: Tensor, u: Tensor, log_odds: Tensor, *, c: float) -> Pair:
    log_decay = -c * softplus(-log_odds) * torch.sigmoid(recurrence)
    scale = torch.sqrt(TINY - torch.expm1(2.0 * log_decay))
    return torch.exp(log_decay), scale * torch.sigmoid(entry) * u


def _min_gru(update: Tensor, candidate: Tensor, *, positive: bool) -> Pair:
    return torch.sigmoid(-update), torch.sigmoid(update) * (_positive(candidate) if positive else candidate)


def _positive(v: Tensor) -> Tensor:
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))


def _hgrn(forget: Tensor, value: Tensor, floor: Tensor | None, phase: Tensor | None) -> Pair:
    above = 1.0 if floor is None else 1.0 - floor
    keep = above * torch.sigmoid(forget) + (0.0 if floor is None else floor)
    x = above * torch.sigmoid(-forget) * value
    if phase is not None:
        return torch.complex(keep * torch.cos(phase), keep * torch.sin(phase)), _complex(x)
    return (_complex(keep) if value.is_complex() else keep), x


def _complex(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_complex() else torch.complex(tensor, torch.zeros_like(tensor))


def _gate_loop(magnitude: Tensor, phase: Tensor, key: Tensor, value: Tensor, *, input_gate: bool) -> Pair:
    keep = torch.sigmoid(magnitude)
    x = key * value
    if input_gate:
        x = x * torch.sigmoid(-magnitude)
    return torch.complex(keep * torch.cos(phase), keep * torch.sin(phase)), _complex(x)


def _lru(u: Tensor, nu: Tensor, theta: Tensor, log_gamma: Tensor) -> Pair:
    return torch.polar(torch.exp(-_rate(nu)), theta).expand(u.shape), _complex(torch.exp(log_gamma) * u)


def _rate(nu: Tensor) -> Tensor:
    return torch.exp(nu.clamp(max=LARGEST_NU))


RG_LRU = Front("rg_lru_scan", ("recurrence", "entry", "u"), ("log_odds",), _rg_lru, 2, 12)
MIN_GRU = Front("min_gru_scan", ("update", "candidate"), (), _min_gru, 1, 7)
HGRN = Front("hgrn_scan", ("forget", "value"), ("floor", "phase"), _hgrn, 1, 8)
GATE_LOOP = Front("gate_loop_scan", ("magnitude", "phase", "key", "value"), (), _gate_loop, 3, 15)
LRU = Front("lru_scan", ("u",), ("nu", "theta", "log_gamma"), _lru, 0, 10)
