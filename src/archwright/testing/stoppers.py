"""The contract of a stopper: verdicts are pure, and nothing but the events it heard decides them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..search_space.architecture import Architecture, Node
from ..search_space.choices import Choice, Real, Trace, round_real
from ..search_space.outcomes import Objective, Outcome, Report
from ..search_space.protocols import Candidate, Stopper, Verdict
from ..search_space.seeds import generator
from .predictors import made_up_curves

BUDGET = 12
_EMPTY = Architecture((Node("input", "input"),), "input")


@dataclass(frozen=True)
class Event:
    """One call that changes a stopper."""

    kind: str
    args: tuple[Any, ...]

    def feed(self, stopper: Stopper) -> None:
        getattr(stopper, self.kind)(*self.args)


def check_stopper(make: str | Callable[..., Stopper], *, trials: int = 24, seed: int = 0, several: bool = False, **knobs: Any) -> None:
    """Hold a stopper to its contract on a made-up study with two workers, failures, repeated and missing reports.

    Args:
        make: registered name, or ``make(objectives, seed=..., budget=..., trials=...)`` returning a new stopper.
        trials: candidates of the study.
        seed: of the curves and of the stopper.
        several: the stopper serves several objectives; otherwise it must refuse them with one sentence (an ArchwrightError).
        knobs: for a registered name, its knobs.

    Raises:
        AssertionError: one sentence naming the rule that was broken.
    """
    new = _maker(make, knobs)
    for objective in (Objective("score"), Objective("score", "min")):

        def fresh(objectives: Sequence[Objective] = (objective,)) -> Stopper:
            return new(objectives, seed=seed, budget=BUDGET, trials=trials)

        events = made_up_study(trials, seed, objective)
        verdicts = _heard(fresh(), events)
        assert [_heard(fresh(), events, ask=False)[-1]] == verdicts[-1:], "A stopper never asked judges otherwise; verdict must be pure."
        assert _heard(fresh(), events) == verdicts, "Feeding the same events twice gives other verdicts; only events may decide."
        _check_cuts(fresh, events, verdicts)
    _check_strangers(fresh(), events)
    if not several:
        _check_refusal(fresh)


def made_up_study(trials: int, seed: int, objective: Objective) -> list[Event]:
    """Two workers over made-up curves; every seventh candidate fails, every fifth is stopped by somebody."""
    rng = generator(seed, "probe", "schedule")
    waiting, events = list(range(trials)), list[Event]()
    running: dict[int, Iterator[Event]] = {}
    curves = made_up_curves(trials, seed, BUDGET)
    while waiting or running:
        while waiting and len(running) < 2:
            number = waiting.pop(0)
            running[number] = _life(number, curves[number], objective)
        number = rng.choice(sorted(running))
        event = next(running[number], None)
        if event is None:
            del running[number]
        else:
            events.append(event)
    return events


def _life(number: int, seen: Any, objective: Objective) -> Iterator[Event]:
    trace = Trace(Choice(name, Real(-10, 10), round_real(value)) for name, value in (("rate", seen.features["choice/rate"]),))
    yield Event("started", (Candidate(number, trace, _EMPTY, {"params": 10 ** seen.features["architecture/size"]}),))
    values = [objective.gain(value) for value in seen.curve]
    for step, value in enumerate(values, 1):
        yield Event("reported", (number, Report(step, {"score": value})))
        if step == 4 and number % 7 == 3:
            yield Event("reported", (number, Report(step, {"score": value})))  # a worker restarted and said it again
            yield Event("reported", (number, Report(step + 1, {"score": math.nan})))
            yield Event("told", (number, Outcome("failed", reason="The loss is NaN.", steps=step)))
            return
        if step == 6 and number % 5 == 4:
            yield Event("told", (number, Outcome("stopped", {"score": value}, steps=step)))
            return
    yield Event("told", (number, Outcome("completed", {"score": values[-1]}, steps=BUDGET)))


def _heard(stopper: Stopper, events: Sequence[Event], ask: bool = True) -> list[dict[int, Verdict]]:
    """The verdicts on all running candidates after each event; without ``ask``, after the last one only."""
    verdicts = []
    for index, event in enumerate(events):
        event.feed(stopper)
        if ask or index == len(events) - 1:
            numbers = _running(events[: index + 1])
            verdicts.append({n: stopper.verdict(n) for n in numbers})
            assert verdicts[-1] == {n: stopper.verdict(n) for n in numbers}, "A verdict asked twice differs; verdict must be pure."
    return verdicts


def _running(events: Sequence[Event]) -> list[int]:
    started = {event.args[0].number for event in events if event.kind == "started"}
    return sorted(started - {event.args[0] for event in events if event.kind == "told"})


def _check_cuts(fresh: Callable[[], Stopper], events: Sequence[Event], verdicts: Sequence[dict[int, Verdict]]) -> None:
    """A stopper fed a part of the journal stands where the original stood."""
    for cut in range(1, len(events), 29):
        heard = _heard(fresh(), events[:cut], ask=False)[-1]
        assert heard == verdicts[cut - 1], f"A stopper fed the first {cut} events judges otherwise than the one that lived through them."
    for judged in verdicts:
        for number, verdict in judged.items():
            for metric, predicted in verdict.predicted.items():
                finite = math.isfinite(predicted.mean) and math.isfinite(predicted.spread)
                assert finite, f"The verdict on candidate {number} predicts {predicted} for {metric}; it must be finite."
            assert not verdict.stop or verdict.reason, f"The verdict on candidate {number} stops it without a reason."


def _check_strangers(stopper: Stopper, events: Sequence[Event]) -> None:
    for event in events:
        event.feed(stopper)
    stopper.told(10_000, Outcome("infeasible"))
    assert not stopper.verdict(10_000).stop, "A candidate that never started was judged; the verdict must be to go on."


def _check_refusal(fresh: Callable[..., Stopper]) -> None:
    from ..search_space.errors import ArchwrightError

    try:
        fresh((Objective("score"), Objective("params", "min")))
    except ArchwrightError:
        return
    raise AssertionError("A stopper for one objective took two without a word; raise a ConfigError, or pass several=True.")


def _maker(make: str | Callable[..., Stopper], knobs: dict[str, Any]) -> Callable[..., Stopper]:
    if not isinstance(make, str):
        return make
    from ..predictors.registry import STOPPERS

    entry = STOPPERS[make]
    return lambda objectives, **facts: entry.obj(objectives, **facts, **knobs)
