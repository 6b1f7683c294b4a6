"""A recurrent policy over choices, shared by role, that grows as a search meets new roles and options."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

from ..search_space.choices import Answer, Domain, Trace, Value, is_single, role_of
from ..search_space.seeds import generator
from .policy_options import Options

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
MOST_RATIO = 1.5


class Policy:
    """Chooses one option after the other, each given all before it.

    Every role (``layer/*/mixer``) and every option of a role owns a row of a table: an embedding e in R^H and, for options, a
    bias b. At choice t of role r, with options o::

        x_t       = e(r_t) + e(option taken at t - 1)
        h_t       = GRU(x_t, h_{t-1})
        logit_t,o = <W h_t, e(r_t, o)> + b(r_t, o)

    A row is drawn from a seed made of (study seed, its key) when the key is first met, so the order in which a search meets
    its choices does not matter. Everything is float64 on the CPU. A choice with a single permitted value is not asked.

    Args:
        seed: the study's seed.
        hidden: H.
        rate: learning rate of Adam.
    """

    def __init__(self, seed: int, hidden: int, rate: float) -> None:
        import torch

        self.torch = torch
        self.seed = seed
        self.hidden = hidden
        self.rate = rate
        self.steps = 0
        self.rows: dict[str, int] = {}
        self.table = torch.zeros(0, hidden + 1, dtype=torch.float64)
        self.gru = torch.nn.GRU(hidden, hidden, batch_first=True, dtype=torch.float64, device="meta").to_empty(device="cpu")
        self.out = self._weights("out", (hidden, hidden))
        with torch.no_grad():
            for name, weight in self.gru.named_parameters():
                weight.copy_(self._weights(name, tuple(weight.shape)))
        self.moments: list[tuple[Any, Any]] = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self._parameters()]

    # --- acting ----------------------------------------------------------------------------------------------------

    def acting(self, rng: random.Random, explore: float, log_probabilities: list[float]) -> Answer:
        """Answer choices from the policy mixed with ``explore`` of uniform; append each log-probability under the mixture."""
        torch = self.torch
        state: list[Any] = [torch.zeros(1, 1, self.hidden, dtype=torch.float64), torch.zeros(self.hidden, dtype=torch.float64)]

        def answer(path: str, domain: Domain) -> Value:
            if is_single(domain):
                return domain.draw(rng)
            role, options = role_of(path), Options.of(domain)
            with torch.no_grad():
                embedded = self._embedded([role, *_option_keys(role, options)])
                _, state[0] = self.gru((embedded[0, :-1] + state[1])[None, None], state[0])
                logits = embedded[1:, :-1] @ (self.out @ state[0][0, 0]) + embedded[1:, -1]
                weights = ((1 - explore) * logits.softmax(0) + explore / len(logits)).tolist()
            value = options.draw(rng.choices(range(len(weights)), weights)[0], rng)
            taken = options.index(value)
            log_probabilities.append(math.log(weights[taken]))
            state[1] = embedded[1 + taken, :-1]
            return value

        return answer

    # --- learning ----------------------------------------------------------------------------------------------------

    def score(self, trace: Trace) -> tuple[Any, Any]:
        """Log-probability of ``trace`` under the current policy and the summed entropy of its choices, with gradients."""
        torch = self.torch
        asked = [(choice.role, Options.of(choice.domain), choice.value) for choice in trace if not is_single(choice.domain)]
        if not asked:
            return self.out.sum() * 0.0, self.out.sum() * 0.0
        keys = [_option_keys(role, options) for role, options, _ in asked]
        taken = torch.tensor([options.index(value) for _, options, value in asked])
        roles = self.table[torch.tensor(self._grow([role for role, _, _ in asked]))][:, :-1]
        choosable = self.table[self._padded([self._grow(names) for names in keys])]
        here = torch.arange(len(asked))
        past = torch.cat([torch.zeros_like(roles[:1]), choosable[here, taken, :-1][:-1]])
        hidden, _ = self.gru((roles + past)[None])
        logits = torch.einsum("toh,th->to", choosable[..., :-1], hidden[0] @ self.out.T) + choosable[..., -1]
        present = torch.arange(logits.shape[1]) < torch.tensor([len(names) for names in keys])[:, None]
        log_p = logits.masked_fill(~present, -torch.inf).log_softmax(-1)
        entropy = -(log_p.exp() * log_p.masked_fill(~present, 0.0)).sum()
        return log_p[here, taken].sum(), entropy

    def improve(self, trace: Trace, advantage: float, entropy_weight: float, then: float | None) -> None:
        """One Adam step up ``ratio * advantage * log p(trace) + entropy_weight * entropy``.

        The ratio is p(trace) now over p(trace) when it was asked (its logarithm is ``then``), at most 1.5; it is 1 for a trace
        that the policy did not choose.
        """
        torch = self.torch
        self._meet(trace)
        with torch.enable_grad():
            self.table.requires_grad_()
            self.out.requires_grad_()
            log_p, entropy = self.score(trace)
            ratio = 1.0 if then is None else math.exp(min(float(log_p.detach()) - then, math.log(MOST_RATIO)))
            loss = -(ratio * advantage * log_p + entropy_weight * entropy)
            gradients = torch.autograd.grad(loss, self._parameters(), allow_unused=True)
        self._step(gradients)

    def _meet(self, trace: Trace) -> None:
        """Add the rows of every role and option in ``trace``."""
        for choice in trace:
            if not is_single(choice.domain):
                self._grow([choice.role, *_option_keys(choice.role, Options.of(choice.domain))])

    def _step(self, gradients: Sequence[Any]) -> None:
        self.steps += 1
        one, two = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        with self.torch.no_grad():
            for parameter, gradient, (mean, square) in zip(self._parameters(), gradients, self.moments, strict=True):
                if gradient is not None:
                    mean.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
                    square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
                    parameter -= self.rate * (mean / one) / ((square / two).sqrt() + EPSILON)

    def _parameters(self) -> list[Any]:
        return [self.table, self.out, *self.gru.parameters()]

    # --- rows --------------------------------------------------------------------------------------------------------

    def _embedded(self, keys: Sequence[str]) -> Any:
        """The rows of ``keys``, those not met yet as they will start; changes nothing."""
        known = [self.rows.get(key) for key in keys]
        if None not in known:
            return self.table[known]
        return self.torch.stack([self.table[row] if row is not None else self._fresh(key) for row, key in zip(known, keys, strict=True)])

    def _grow(self, keys: Iterable[str]) -> list[int]:
        """Row numbers of ``keys``; those not met yet are added."""
        keys = list(keys)
        new = [key for key in dict.fromkeys(keys) if key not in self.rows]
        if new:
            torch = self.torch
            fresh = torch.stack([self._fresh(key) for key in new])
            self.rows.update({key: len(self.rows) + i for i, key in enumerate(new)})
            self.table = torch.cat([self.table.detach(), fresh])
            self.moments[0] = tuple(torch.cat([moment, torch.zeros_like(fresh)]) for moment in self.moments[0])  # type: ignore[assignment]
        return [self.rows[key] for key in keys]

    def _fresh(self, key: str) -> Any:
        """The first value of a row: small and random, with bias 0."""
        row = self._weights(f"row {key}", (self.hidden + 1,))
        row[-1] = 0.0
        return row

    def _weights(self, key: str, shape: tuple[int, ...]) -> Any:
        rng = generator(self.seed, "policy", key)
        scale = 1 / math.sqrt(self.hidden)
        drawn = [rng.uniform(-scale, scale) for _ in range(math.prod(shape))]
        return self.torch.tensor(drawn, dtype=self.torch.float64).reshape(shape)

    def _padded(self, rows: Sequence[Sequence[int]]) -> Any:
        longest = max(map(len, rows))
        return self.torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _option_keys(role: str, options: Options) -> list[str]:
    return [f"{role} = {name}" for name in options.names()]
