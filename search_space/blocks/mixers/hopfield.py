"""Modern Hopfield retrieval: attention that is iterated, with an inverse temperature of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...choices import Domain, Integer, OneOf, Real
from ...errors import BuildError
from ...facts import block
from ...specs import TensorSpec
from ..initialise import checked, linear
from .heads import appended, attend, checked_heads, merge, refuse_state, split

_BOOL = OneOf((True, False))
_KNOBS: dict[str, Domain] = {
    "heads": Integer(1, 8),
    "beta": Real(0.05, 32.0, log=True),
    "steps": Integer(1, 5),
    "normalise": _BOOL,
    "learn_beta": _BOOL,
    "causal": _BOOL,
}


def retrieve(states: Tensor, patterns: Tensor, steps: int, *, beta: float = 1.0, causal: bool = False) -> Tensor:
    """``steps`` updates ``xi <- X' softmax(beta X xi)`` of every state, each of which lowers (never raises) the energy

    ``E(xi) = -logsumexp(beta X xi) / beta + xi'xi / 2 + constant``.

    Args:
        states: [batch, heads, states, width].
        patterns: [batch, heads, patterns, width].
        causal: the states are the last tokens; state t reads patterns up to its own position.
    """
    for _ in range(steps):
        states = attend(states, patterns, patterns, causal=causal, scale=beta)
    return states


@block("hopfield", "mixer", knobs=_KNOBS, paper="Hopfield Networks is All You Need (2020, 2008.02217)")
class Hopfield(nn.Module):
    """Every token retrieves a pattern from the tokens it sees, by the update rule of a continuous Hopfield network.

    ``Q = norm(x) W_q, K = norm(x) W_k, V = x W_v``; ``steps - 1`` times ``Q <- softmax(beta Q K') K`` per head; then
    ``y = softmax(beta Q K') V W_o``. With ``steps=1`` and ``beta=None`` (1 / sqrt(d)) this is softmax attention. A small beta
    gives the mean of the patterns, a large one a single pattern. ``normalise`` norms states and patterns first; ``learn_beta``
    learns beta per head, starting from ``beta``.
    Shapes: [B, T, D] -> [B, T, D]. State: keys and values of the tokens so far, each [B, past, D].
    Cost per token: 8 D^2 + 4 steps T D operations, 4 D^2 parameters.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        heads: int = 4,
        beta: float | None = None,
        steps: int = 2,
        normalise: bool = False,
        learn_beta: bool = False,
        causal: bool = True,
    ) -> None:
        super().__init__()
        width = spec.width
        self.heads, self.causal = checked_heads("hopfield", width, heads), causal
        self.steps = checked("hopfield", "steps", steps)
        self.beta = (width // heads) ** -0.5 if beta is None else beta
        if not self.beta > 0:
            raise BuildError(f'The "beta" parameter of "hopfield" must be above 0. Got {beta!r} instead.')
        self.log_beta = nn.Parameter(torch.full((heads, 1, 1), math.log(self.beta))) if learn_beta else None
        self.state_norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.pattern_norm = nn.LayerNorm(width) if normalise else nn.Identity()
        self.query, self.key = linear(width, width, bias=False), linear(width, width, bias=False)
        self.value, self.out = linear(width, width, bias=False), linear(width, width, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Any, dict[str, Tensor]]:
        refuse_state("hopfield", self.causal, state)
        past_keys, past_values = state or (None, None)
        keys = appended(past_keys, self.key(self.pattern_norm(x)))
        values = appended(past_values, self.value(x))
        y = self._associate(split(self.query(self.state_norm(x)), self.heads), split(keys, self.heads), split(values, self.heads))
        return self.out(merge(y)), (keys, values) if self.causal else None, {}

    def _associate(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """A learned beta scales the queries, since it differs from head to head; a fixed one scales the scores."""
        if self.log_beta is None:
            queries = retrieve(queries, keys, self.steps - 1, beta=self.beta, causal=self.causal)
            return attend(queries, keys, values, causal=self.causal, scale=self.beta)
        beta = self.log_beta.exp()
        for _ in range(self.steps - 1):
            queries = retrieve(beta * queries, keys, 1, causal=self.causal)
        return attend(beta * queries, keys, values, causal=self.causal, scale=1.0)
