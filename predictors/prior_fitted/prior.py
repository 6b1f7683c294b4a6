"""The prior: made-up studies, whose candidates share a ceiling, a chance level, a schedule and what their features mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .shapes import FAMILIES, Rng, jitter, learning_rates, log_uniform, mishaps, remaining

FACTS, COLUMNS = 6, 12
QUALITY, SPEED, BEND, GAP, NOISE, START, DECLINE = range(7)
Array = Any


@dataclass(frozen=True)
class Studies:
    """Studies of one size.

    Args:
        curves: [B, C, T], the metric turned so that larger is better (losses on the scale of -log); NaN where it was not measured.
        finals: [B, C], what the candidates end at.
        features: [B, C, 12], what was known before training; a column that says nothing is constant.
    """

    curves: Array
    finals: Array
    features: Array


def draw_studies(rng: Rng, studies: int, candidates: int, steps: int) -> Studies:
    r"""Draw studies from the prior.

    A candidate's curve is what its latent numbers (quality, speed, bend, schedule gap, noise, start, decline) make of the study's:

    .. math:: y(t) = a - (a - b)\, r(t) - g\, \ell(t)^{\gamma} (1 - r(t)) - o(t) + \sigma(t)\, \epsilon_t

    with start b and asymptote a, the remaining share r (power law, stretched exponential, Hill, logarithm, or a mixture), the
    gap g that a falling learning rate :math:`\ell` closes, late decline o (overfitting) and noise that may fall with the rate.
    Some candidates never leave the start, take off late, diverge, or fall back and recover; accuracies are counted in so many
    validation examples; some metrics come in per cent or in units of their own; some values are missing.

    Features are facts of the candidate that drive its latent numbers as differently, and as much or little, as studies differ.

    Args:
        rng: drawn from, and nothing else.
        studies, candidates, steps: B, C and T.
    """
    facts, latent = _latents(rng, studies, candidates)
    bounded = rng.random((studies, 1)) < 0.55
    chance, start, asymptote = _levels(rng, latent, bounded)
    curves = _courses(rng, latent, start, asymptote, steps)
    curves = _with_hopeless(rng, curves, latent, np.where(bounded, chance, start))
    curves = _as_measured(rng, curves, bounded[..., None])
    return Studies(_with_gaps(rng, curves), _finals(rng, curves), _features(rng, facts))


def _latents(rng: Rng, studies: int, candidates: int) -> tuple[Array, Array]:
    """Facts [B, C, 6] and latent numbers [B, C, 7] of unit variance, explained by the facts to a share that differs by study."""
    facts = rng.standard_normal((studies, candidates, FACTS))
    bent = np.where(rng.random((studies, 1, FACTS)) < 0.4, -np.abs(facts - rng.normal(0, 0.7, (studies, 1, FACTS))), facts)
    mixing = rng.standard_normal((studies, FACTS, 7)) * (rng.random((studies, FACTS, 7)) < 0.5)
    explained = _standard(bent @ mixing)
    tangle = np.eye(7) + rng.normal(0, 0.5, (studies, 7, 7)) * (rng.random((studies, 7, 7)) < 0.4)
    own = _standard(rng.standard_normal((studies, candidates, 7)) @ tangle)
    share = rng.beta(0.8, 0.8, (studies, 1, 1))
    return facts, np.sqrt(share) * explained + np.sqrt(1 - share) * own


def _standard(values: Array) -> Array:
    spread = values.std(axis=1, keepdims=True)
    return (values - values.mean(axis=1, keepdims=True)) / np.where(spread > 1e-9, spread, 1.0)


def _levels(rng: Rng, latent: Array, bounded: Array) -> tuple[Array, Array, Array]:
    """Chance level, start and asymptote [B, C]: of accuracies below 1 where ``bounded``, elsewhere of -log(loss)."""
    size = (len(latent), 1)
    quality = latent[..., QUALITY]
    skewed = -np.log(np.maximum(1e-6, _normal_share(quality)))
    order = np.where(rng.random(size) < 0.5, -quality, np.where(rng.random(size) < 0.7, skewed, -skewed))
    reach = log_uniform(rng, 0.01, 1.0, size)
    chance = 1 / np.round(log_uniform(rng, 2, 300, size))
    error = (1 - chance) * np.where(rng.random(size) < 0.6, log_uniform(rng, 0.005, 0.5, size), rng.uniform(0.1, 0.8, size))
    high = np.maximum(chance + 0.2 * (1 - chance) * rng.random(size), 1 - np.minimum(error * np.exp(reach * order), 1 - chance))
    low = chance + (high - chance) * np.minimum(0.8, 0.15 * rng.random(size) * np.exp(latent[..., START]))
    loss = rng.normal(-1.5, 2.0, size) - reach * order
    own = rng.random(size)  # how far those that end better also begin better
    common = own * loss + (1 - own) * np.median(loss, axis=1, keepdims=True)
    begin = np.minimum(common, loss) - log_uniform(rng, 0.2, 4.0, size) * np.exp(0.2 * latent[..., START])
    return np.broadcast_to(chance, high.shape), np.where(bounded, low, begin), np.where(bounded, high, loss)


def _normal_share(values: Array) -> Array:
    from scipy.special import ndtr

    return ndtr(values)


def _courses(rng: Rng, latent: Array, start: Array, asymptote: Array, steps: int) -> Array:
    """Curves [B, C, T] of candidates that learn."""
    studies, candidates = start.shape
    one = (studies, 1, 1)
    rise = (asymptote - start)[..., None]
    latent = latent[..., None, :]
    rates = learning_rates(rng, studies, steps)
    pace = steps * log_uniform(rng, 0.01, 1.5, one) * np.exp(rng.uniform(0.05, 0.9, one) * latent[..., SPEED])
    bend = log_uniform(rng, 0.4, 2.5, one) * np.exp(rng.uniform(0.0, 0.4, one) * latent[..., BEND])
    weights = rng.dirichlet([0.4] * FAMILIES, studies)[:, None, None, :]
    left = remaining(_clock(rng, studies, candidates, steps), pace, bend, weights, steps * rng.uniform(1, 4, one))
    gap = log_uniform(rng, 0.005, 0.5, one) * np.exp(rng.uniform(0.05, 0.7, one) * latent[..., GAP])
    curves = start[..., None] + rise * (1 - left) * (1 - np.minimum(gap, 0.9) * rates ** rng.uniform(0.3, 1.0, one))
    noise = log_uniform(rng, 0.0005, 0.06, one) * np.exp(rng.uniform(0.1, 0.8, one) * latent[..., NOISE]) * np.median(rise, 1)[:, None]
    falling = rng.random(one)
    curves = curves - _decline(rng, latent, steps) * rise
    curves = curves + noise * (1 - falling + falling * rates) * jitter(rng, studies, candidates, steps)
    fallen = mishaps(rng, studies, candidates, steps)
    return curves * (1 - fallen) + start[..., None] * fallen


def _clock(rng: Rng, studies: int, candidates: int, steps: int) -> Array:
    """Steps of effective training [B, C, T]: slow through a warm-up in some studies, of some candidates only after a late take-off."""
    time = np.arange(1, steps + 1, dtype=float)
    one, each = (studies, 1, 1), (studies, candidates, 1)
    warm = np.where(rng.random(one) < 0.2, steps * log_uniform(rng, 0.01, 0.2, one), 1e-6)
    late = rng.random(each) < np.where(rng.random(one) < 0.25, rng.beta(1, 6, one), 0.0)
    delay = late * rng.uniform(0, 0.8 * steps, each)
    return np.maximum(0.0, time - delay) * (1 - np.exp(-time / warm))


def _decline(rng: Rng, latent: Array, steps: int) -> Array:
    """Overfitting [B, C, T] as a share of the rise, in a quarter of the studies."""
    one = (len(latent), 1, 1)
    strength = np.where(rng.random(one) < 0.25, log_uniform(rng, 0.01, 0.5, one), 0.0) * np.exp(0.7 * latent[..., DECLINE])
    begins = rng.uniform(0.1, 1.0, one) * np.exp(0.3 * latent[..., SPEED])
    return strength * np.maximum(0.0, np.arange(1, steps + 1) / steps - begins)


def _with_hopeless(rng: Rng, curves: Array, latent: Array, level: Array) -> Array:
    """In half of the studies a share of the candidates, often the poor ones, learns nothing: it stays near ``level``."""
    one = (len(curves), 1)
    share = np.where(rng.random(one) < 0.5, rng.beta(1, 7, one), 0.0)
    tie = rng.random(one)
    badness = np.sqrt(1 - tie) * rng.standard_normal(latent.shape[:2]) - np.sqrt(tie) * latent[..., QUALITY]
    hopeless = _normal_share(badness) > 1 - share
    unit = np.abs(np.median(curves[..., -1] - curves[..., 0], axis=1))[:, None, None] * log_uniform(rng, 1e-4, 0.03, (*one, 1))
    still = rng.random((*latent.shape[:2], 1)) < rng.random((*one, 1))
    flat = level[..., None] + np.where(still, 0.0, unit) * rng.standard_normal(curves.shape)
    return np.where(hopeless[..., None], flat, curves)


def _as_measured(rng: Rng, curves: Array, bounded: Array) -> Array:
    """Accuracies counted in validation examples, here and there in per cent or as -log(error); scores in units of their own."""
    one = bounded.shape
    counted = np.where(rng.random(one) < 0.7, np.round(log_uniform(rng, 60, 50_000, one)), 1e7)
    accuracy = np.round(np.clip(curves, 0.0, 1.0) * counted) / counted
    way = rng.random(one)
    as_error = -np.log(np.maximum(1 - accuracy, 0.5 / counted))
    measured = np.where(way < 0.12, as_error, np.where(way < 0.24, 100 * accuracy, accuracy))
    shift, unit = rng.normal(0, 3, one), log_uniform(rng, 0.01, 100, one)
    score = np.where(rng.random(one) < 0.15, unit * (curves + shift), np.clip(curves, -12, 12))
    return np.where(bounded, measured, score)


def _finals(rng: Rng, curves: Array) -> Array:
    """Mostly the last value; in some studies the best one, or the mean of the last three."""
    way = rng.random((len(curves), 1))
    kept = np.where(way < 0.9, curves[..., -1], curves[..., -3:].mean(axis=-1))
    return np.where(way < 0.08, curves.max(axis=-1), kept)


def _with_gaps(rng: Rng, curves: Array) -> Array:
    rate = np.where(rng.random((len(curves), 1, 1)) < 0.1, 0.03, 0.0)
    return np.where(rng.random(curves.shape) < rate, np.nan, curves)


def _features(rng: Rng, facts: Array) -> Array:
    """Columns [B, C, 12] in any order: facts as they are, in few levels or on another scale; others that mean nothing; constants."""
    size = facts.shape[:2]
    other = rng.standard_normal((*size, COLUMNS - FACTS))
    columns = np.concatenate([facts, other], axis=-1)
    one = (len(facts), 1, COLUMNS)
    way, levels = rng.random(one), rng.integers(1, 4, one)
    columns = np.where(way < 0.3, np.round(columns * levels) / levels, np.where(way < 0.45, np.exp(columns), columns))
    common = np.concatenate([np.full(FACTS, 0.75), np.full(COLUMNS - FACTS, 0.3)])
    told = (rng.random(one) < common) & (rng.random((len(facts), 1, 1)) < 0.8)
    order = np.argsort(rng.random(one), axis=-1)
    return np.take_along_axis(np.where(told, columns, 0.0), order, axis=-1)
