"""Candidates of one study at one length as rows of numbers in units of the study's own spread: what the network reads.

Everything is vectorised over studies: the same code writes the made-up studies of the training and the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .anchor import Anchor

SLOTS, LATEST, FEATURES = 16, 6, 8
TOLD = 6
"""Columns that say what became of a candidate, zero for one that is asked about."""
WIDTH = 7 + 2 * SLOTS + FEATURES + 11 + TOLD
Array = Any


@dataclass(frozen=True)
class Group:
    """Candidates of B studies that have been observed for at least s steps.

    Args:
        prefixes: [B, C, s], the first s values, larger is better; NaN where one is missing, never all.
        features: [B, C, F], known before training; NaN where unknown.
        latest: [B, C], the final value of a finished candidate, the last one known of a running one; ignored for one asked about.
        reached: [B, C], the step of ``latest``.
    """

    prefixes: Array
    features: Array
    latest: Array
    reached: Array

    @property
    def count(self) -> int:
        return int(self.prefixes.shape[1])

    def part(self, chosen: Any) -> Group:
        """Some of the candidates, by a slice or an array of indices."""
        return Group(self.prefixes[:, chosen], self.features[:, chosen], self.latest[:, chosen], self.reached[:, chosen])


@dataclass(frozen=True)
class Context:
    """What is known of the other candidates, and the units that it gives.

    Args:
        rows: [B, n + k, WIDTH], the n finished candidates first, then the k running ones.
        anchor: the regression that predictions start from.
        columns: which features are read, and how they are standardised.
        units: centre, fine and coarse unit [B, 1] each; None without other candidates, where a candidate's own prefix gives them.
        facts: [B, 11], of the study.
    """

    rows: Array
    anchor: Anchor
    columns: Columns
    units: tuple[Array, Array, Array] | None
    step: int
    steps: int
    finished: int
    running: int

    @classmethod
    def of(cls, finished: Group, running: Group, steps: int) -> Context:
        """Read n finished and k running candidates of studies whose full trainings take ``steps``."""
        step = finished.prefixes.shape[-1]
        done, under_way = filled(finished.prefixes), filled(running.prefixes)
        columns = Columns.of(finished.features, running.features, finished.latest)
        anchor = Anchor.of(done, columns.apply(finished.features), finished.latest)
        units = _units(done, under_way, finished.latest, running.latest, anchor)
        empty = np.zeros((len(done), 0, WIDTH))
        context = cls(empty, anchor, columns, units, step, steps, finished.count, running.count)
        told = [context._told(finished, done, anchor.left_out, True), context._told(running, under_way, None, False)]
        return cls(np.concatenate(told, axis=1), anchor, columns, units, step, steps, finished.count, running.count)

    def asked(self, group: Group) -> tuple[Array, Array, Array]:
        """Rows [B, m, WIDTH] of candidates asked about, and what they are relative to.

        Returns:
            rows, anchor [B, m] and unit [B, m]: the network's answer z means a final value of ``anchor + unit z``.
        """
        prefixes = filled(group.prefixes)
        features = self.columns.apply(group.features)
        anchor = self.anchor.predict(prefixes, features)
        rows, unit = self._rows(prefixes, np.isnan(group.prefixes), features, anchor)
        return np.concatenate([rows, np.zeros((*rows.shape[:2], TOLD))], axis=-1), anchor, unit

    def _told(self, group: Group, prefixes: Array, anchor: Array | None, finished: bool) -> Array:
        if group.count == 0:
            return np.zeros((len(prefixes), 0, WIDTH))
        features = self.columns.apply(group.features)
        anchor = self.anchor.predict(prefixes, features) if anchor is None else anchor
        rows, unit = self._rows(prefixes, np.isnan(group.prefixes), features, anchor)
        assert self.units is not None
        reached = (group.reached - self.step) / max(1, self.steps - self.step)
        told = (
            np.full_like(unit, finished),
            np.full_like(unit, not finished),
            np.clip(reached, 0.0, 1.0),
            squashed((group.latest - anchor) / unit),
            squashed((group.latest - prefixes[..., -1]) / unit),
            squashed((group.latest - self.units[0]) / unit),
        )
        return np.concatenate([rows, np.stack(told, axis=-1)], axis=-1)

    def _rows(self, prefixes: Array, missing: Array, features: Array, anchor: Array) -> tuple[Array, Array]:
        last = prefixes[..., -1]
        centre, fine, coarse = (np.broadcast_to(unit, last.shape) for unit in self.units or _own_units(prefixes))
        behind = slots(prefixes) - last[..., None]
        changes = np.abs(np.diff(prefixes, axis=-1)).mean(axis=-1) if prefixes.shape[-1] > 1 else np.zeros_like(last)
        shape = (
            squashed((last - centre) / fine),
            squashed((last - centre) / coarse),
            squashed((anchor - centre) / fine),
            squashed((anchor - last) / fine),
            squashed((prefixes.max(axis=-1) - last) / fine),
            squashed(changes / fine),
            missing.mean(axis=-1),
        )
        parts = (
            np.stack(shape, axis=-1),
            squashed(behind / fine[..., None]),
            squashed(behind / coarse[..., None]),
            features,
            self._facts(prefixes, centre, fine, coarse),
        )
        return np.concatenate(parts, axis=-1), fine

    def _facts(self, prefixes: Array, centre: Array, fine: Array, coarse: Array) -> Array:
        """[B, C, 11]: of the study; of the scale, whether the values look like shares of 1, and then where 0 and 1 lie."""
        share = np.broadcast_to(self.anchor.within | (self.finished == 0), centre.shape)
        share = share & (prefixes >= 0).all(axis=-1) & (prefixes <= 1).all(axis=-1)
        numbers = (np.log(self.step), np.log(self.steps), np.log1p(self.finished), np.log1p(self.running), 5 * self.step / self.steps)
        facts = [np.full(centre.shape, number / 5) for number in numbers]
        facts += [
            np.log(coarse / fine) / 3,
            np.broadcast_to(self.anchor.quality, centre.shape),
            np.broadcast_to(squashed(self.anchor.spread / fine), centre.shape),
            share * 1.0,
            share * squashed((1 - centre) / fine),
            share * squashed(-centre / fine),
        ]
        return np.stack(facts, axis=-1)


@dataclass(frozen=True)
class Columns:
    """The features that go with the final value most, standardised and turned so that they rise with it.

    Args:
        chosen: [B, p] indices, p at most 8.
        middle, scale: [B, 1, p]; ``scale`` has the sign, and is infinite for a column that is constant.
    """

    chosen: Array
    middle: Array
    scale: Array

    @classmethod
    def of(cls, finished: Array, running: Array, finals: Array) -> Columns:
        both = np.concatenate([finished, running], axis=1)
        if both.shape[1] == 0:
            return cls(np.zeros((len(both), 0), dtype=int), np.zeros((len(both), 1, 0)), np.ones((len(both), 1, 0)))
        known = np.isfinite(both)
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        middle = np.where(known, both, 0.0).sum(axis=1, keepdims=True) / count
        spread = np.sqrt((np.where(known, both - middle, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
        scale = np.where(spread > 1e-9 * (1 + np.abs(middle)), spread, np.inf)
        inputs = np.where(np.isfinite(finished), finished - middle, 0.0) / scale
        slope = np.einsum("bnp,bn->bp", inputs, finals - finals.mean(axis=1, keepdims=True)) if finals.shape[1] else 0 * middle[:, 0]
        usable = np.isfinite(scale[:, 0])
        chosen = np.argsort(np.where(usable, -np.abs(slope), 1.0), axis=1, kind="stable")[:, :FEATURES]
        sign = np.where(slope < 0, -1.0, 1.0)[:, None]
        return cls(chosen, *(np.take_along_axis(part, chosen[:, None], axis=2) for part in (middle, sign * scale)))

    def apply(self, features: Array) -> Array:
        """[B, C, 8], of mean 0 and deviation 1 where they vary, 0 where unknown, at most 4."""
        wide = np.zeros((*features.shape[:2], FEATURES))
        taken = np.take_along_axis(features, self.chosen[:, None], axis=2)
        scaled = np.where(np.isfinite(taken), taken - self.middle, 0.0) / self.scale
        wide[..., : scaled.shape[-1]] = np.clip(scaled, -4, 4)
        return wide


def filled(prefixes: Array) -> Array:
    """A missing value repeats the one before it, or the first that is known."""
    known = np.isfinite(prefixes)
    if known.all():
        return prefixes
    index = np.maximum.accumulate(np.where(known, np.arange(prefixes.shape[-1]), -1), axis=-1)
    first = known.argmax(axis=-1)[..., None]
    return np.take_along_axis(prefixes, np.where(index < 0, first, index), axis=-1)


def slots(prefixes: Array) -> Array:
    """[..., 16]: the values aligned at the last; of a longer prefix the last six and the means of ten blocks before them."""
    step = prefixes.shape[-1]
    if step <= SLOTS:
        lead = np.repeat(prefixes[..., :1], SLOTS - step, axis=-1)
        return np.concatenate([lead, prefixes], axis=-1)
    edges = np.linspace(0, step - LATEST, SLOTS - LATEST + 1).round().astype(int)
    blocks = np.add.reduceat(prefixes[..., : step - LATEST], edges[:-1], axis=-1) / np.diff(edges)
    return np.concatenate([blocks, prefixes[..., -LATEST:]], axis=-1)


def squashed(values: Array) -> Array:
    """Linear near 0, logarithmic far away, at most 10: a diverged curve is a large number, not an overwhelming one."""
    return np.clip(np.arcsinh(values), -10, 10)


def _units(done: Array, under_way: Array, finals: Array, latest: Array, anchor: Anchor) -> tuple[Array, Array, Array] | None:
    """Centre, fine and coarse unit [B, 1]: by the errors of the regression left out, and by how far curves rise."""
    if done.shape[1] == 0 and under_way.shape[1] == 0:
        return None
    ends, starts = (finals, done) if done.shape[1] else (latest, under_way)
    centre = np.median(ends, axis=1, keepdims=True)
    fine = anchor.unit if done.shape[1] else _own_units(under_way)[1].mean(axis=1, keepdims=True)
    coarse = np.median(np.abs(ends - starts[..., 0]), axis=1, keepdims=True)
    fewest = 0.01 / ends.shape[1] ** 2  # one candidate that learnt nothing must not set the unit
    fine = np.maximum(fine, max(fewest, 1e-6) * np.maximum(1.0, np.abs(centre)))
    return centre, fine, np.maximum(coarse, fine)


def _own_units(prefixes: Array) -> tuple[Array, Array, Array]:
    """Units of a candidate without others to compare with: how far its curve has come, and a fifth of its value (at least of 1)."""
    last = prefixes[..., -1]
    moved = np.abs(prefixes - last[..., None])
    guess = 0.2 * np.maximum(1.0, np.abs(last))
    fine = (moved.sum(axis=-1) + guess) / prefixes.shape[-1]
    return last, fine, np.maximum(moved[..., 0], fine)
