"""Batches of the training: made-up studies cut at some length, some candidates as context, the others asked about."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .prior import Studies, draw_studies
from .rows import Context, Group, filled
from .shapes import Rng, log_uniform

SHORTEST, LONGEST = 4, 200
CONTEXT, ASKED, ROWS = 128, 32, 2048
Array = Any


@dataclass(frozen=True)
class Batch:
    """Rows of B studies and the right answers.

    Args:
        context: [B, n + k, WIDTH].
        asked: [B, m, WIDTH].
        target: [B, m], the final value as z, in ``unit`` from ``anchor``.
        anchor, unit: [B, m].
        last: [B, m], the last value observed.
        final: [B, m].
    """

    context: Array
    asked: Array
    target: Array
    anchor: Array
    unit: Array
    last: Array
    final: Array


def draw_batch(rng: Rng, *, finished: int | None = None, running: int | None = None, rows: int = ROWS) -> Batch:
    """About ``rows`` candidates in studies of one size; the number of finished and of running ones in the context may be given."""
    count = _finished(rng) if finished is None else finished
    under_way = int(rng.integers(0, 17)) * int(rng.random() < 0.4) if running is None else running
    steps = round(float(log_uniform(rng, SHORTEST, LONGEST)))
    step = _observed(rng, steps)
    studies = max(4, rows // (count + under_way + ASKED))
    spare = (count + 1) // 2 if rng.random() < 0.3 else 0
    drawn = draw_studies(rng, studies, count + spare + under_way + ASKED, steps)
    return cut(_survivors(rng, drawn, count + spare, count, step), count, under_way, step, rng)


def cut(drawn: Studies, finished: int, running: int, step: int, rng: Rng) -> Batch:
    """Studies at length ``step``: the first candidates have finished, the next are ``step`` or more steps far, the rest are asked about."""
    steps = drawn.curves.shape[-1]
    prefixes = drawn.curves[..., :step]
    blind = np.isnan(prefixes).all(axis=-1)
    prefixes = np.where(blind[..., None], 0.0, prefixes)
    reached = np.full(drawn.finals.shape, steps)
    reached[:, finished:] = rng.integers(step, max(step + 1, steps), (len(reached), reached.shape[1] - finished))
    now = np.take_along_axis(drawn.curves, reached[..., None] - 1, axis=-1)[..., 0]
    latest = np.where(reached == steps, drawn.finals, np.where(np.isnan(now), prefixes[..., -1], now))
    everyone = Group(prefixes, drawn.features, np.where(np.isnan(latest), 0.0, latest), reached)
    others = slice(finished + running, None)
    context = Context.of(everyone.part(slice(0, finished)), everyone.part(slice(finished, finished + running)), steps)
    asked, anchor, unit = context.asked(everyone.part(others))
    final = drawn.finals[:, others]
    last = filled(prefixes)[:, others, -1]
    return Batch(context.rows, asked, (final - anchor) / unit, anchor, unit, last, final)


def _finished(rng: Rng) -> int:
    """Finished candidates: none, few or many."""
    if rng.random() < 0.12:
        return 0
    return math.floor(float(log_uniform(rng, 1, CONTEXT + 1)))


def _observed(rng: Rng, steps: int) -> int:
    """The length of the prefixes, at least 1 and below ``steps``: early ones as often as late ones."""
    if rng.random() < 0.5:
        return int(rng.integers(1, steps))
    return math.floor(float(log_uniform(rng, 1, steps)))


def _survivors(rng: Rng, drawn: Studies, pool: int, count: int, step: int) -> Studies:
    """Of the first ``pool`` candidates, those ``count`` that stood best early on: what an early stop leaves to finish."""
    if pool == count:
        return drawn
    judged = int(rng.integers(0, step))
    score = np.nan_to_num(drawn.curves[:, :pool, judged], nan=-np.inf)
    kept = np.argsort(-score, axis=1, kind="stable")[:, :count]
    rest = np.broadcast_to(np.arange(pool, drawn.finals.shape[1]), (len(kept), drawn.finals.shape[1] - pool))
    order = np.concatenate([kept, rest], axis=1)
    curves = np.take_along_axis(drawn.curves, order[..., None], axis=1)
    features = np.take_along_axis(drawn.features, order[..., None], axis=1)
    return Studies(curves, np.take_along_axis(drawn.finals, order, axis=1), features)
