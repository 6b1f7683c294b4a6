"""The laws every search space keeps: replay is identical, edits are legal, choices matter, enumeration counts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..search_space.architecture import Architecture
from ..search_space.choices import Choice, Integer, OneOf, Real, Trace, Value, drawing, is_single, keeping
from ..search_space.errors import SpaceError
from ..search_space.space import NoNeighbour, Space
from ..search_space.specs import TensorSpec


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """What :func:`check_space` measured: ``dead_share`` is the share of single changes that left the network the same."""

    samples: int
    changes: int
    dead_share: float


def check_space(space: Space, input: TensorSpec | None = None, *, samples: int = 30, dead_limit: float = 0.0, seed: int = 0) -> SpaceReport:
    """Check every law of a space on random samples.

    Args:
        space: the space under test.
        input: the task's input, for a space that asks for it.
        samples: number of random points.
        dead_limit: permitted share of single-choice changes that leave the digest as it was (0: every choice matters).
        seed: of the samples.

    Raises:
        AssertionError: one sentence naming the law and the choice that broke it.
    """
    space = space.for_input(input) if input is not None else space
    rng = random.Random(seed)
    points = [space.sample(rng) for _ in range(samples)]
    assert any(trace for _, trace in points), f'The space "{space.name}" asks no choice, so there is nothing to search.'
    changes = dead = 0
    for architecture, trace in points:
        _check_replay(space, architecture, trace)
        _check_json(space, architecture, trace)
        _check_mutation(space, architecture, trace, rng)
        for choice in trace:
            for changed in _changed(space, trace, choice, rng):
                changes += 1
                dead += changed.digest == architecture.digest
    for (_, left), (_, right) in pairwise(points):
        child, child_trace = space.cross(left, right, rng)
        _check_replay(space, child, child_trace)
    _check_size(space)
    share = dead / max(1, changes)
    assert share <= dead_limit, (
        f'In the space "{space.name}" {share:.1%} of single changes leave the network the same; ask only what is used.'
    )
    return SpaceReport(samples, changes, share)


def _check_replay(space: Space, architecture: Architecture, trace: Trace) -> None:
    again = space.replay(Trace(trace))  # a copy, so that the space is run again
    assert again == architecture, (
        f'Replaying a trace of "{space.name}" gave another architecture; a space must depend on its choices alone.'
    )
    assert again.digest == architecture.digest, f'Replaying a trace of "{space.name}" gave another digest.'


def _check_json(space: Space, architecture: Architecture, trace: Trace) -> None:
    assert Trace.from_json(trace.to_json()) == trace, f'A trace of "{space.name}" does not survive JSON.'
    back = Architecture.from_json(architecture.to_text())
    assert back == architecture, f'An architecture of "{space.name}" does not survive JSON.'
    assert back.digest == architecture.digest, f'An architecture of "{space.name}" changes its digest through JSON.'


def _check_mutation(space: Space, architecture: Architecture, trace: Trace, rng: random.Random) -> None:
    try:
        child, child_trace = space.mutate(trace, rng)
    except NoNeighbour:
        return
    assert child.digest != architecture.digest, f'A mutation in "{space.name}" left the network the same.'
    _check_replay(space, child, child_trace)


def _changed(space: Space, trace: Trace, choice: Choice, rng: random.Random) -> Iterator[Architecture]:
    """The architecture after changing one choice (one other value of it), all others kept where still permitted."""
    if not is_single(choice.domain):
        values = trace.values_by_path()
        values[choice.path] = _another(choice, rng)
        yield space.run(keeping(values, drawing(rng)))[0]


def _another(choice: Choice, rng: random.Random) -> Value:
    domain = choice.domain
    if isinstance(domain, Real) and domain.step is None:
        return domain.low if choice.value != domain.low else domain.high
    assert isinstance(domain, OneOf | Integer | Real)
    return rng.choice(
        [value for value in domain.values() if value != choice.value or isinstance(value, bool) != isinstance(choice.value, bool)]
    )


def _check_size(space: Space) -> None:
    size = space.size(limit=300, probes=50)
    if size.exact and size.count <= 300:
        traces = [trace for _, trace in space.enumerate()]
        assert len(traces) == size.count, f'"{space.name}" enumerates {len(traces)} points but counts {size}.'
        assert len(set(traces)) == len(traces), f'"{space.name}" enumerates a point twice.'
    elif size.count == float("inf"):
        try:
            next(space.enumerate())
            for _ in zip(range(1000), space.enumerate(), strict=False):
                pass
        except SpaceError:
            return
