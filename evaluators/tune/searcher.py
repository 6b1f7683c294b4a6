"""A controller as a Tune Searcher."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from ...search_space.choices import Trace
from ...search_space.outcomes import Objective, Outcome
from ...search_space.protocols import Controller
from ...search_space.seeds import generator
from ...search_space.space import Space
from .results import metrics_of, step_of
from .scheduler import TuneScheduler

_RANDOM_AFTER, _GIVE_UP_AFTER = 50, 550


class TuneSearcher(Searcher):
    """Lets any controller search under Tune.

    Suggests ``{"number": n, "architecture": JSON text, "trace": JSON text}``. A repeat of an earlier architecture is never
    suggested: the controller is told its twin's outcome, as soon as there is one, and asked again; after 50 repeats in a row
    candidates are drawn at random, after 500 more the search is finished.

    Args:
        controller: any controller, fresh.
        space: the space it searches; by default the controller's own ``space``.
        objectives: what is searched for, the first for Tune's own display; without them Tune's ``metric`` and ``mode`` count.
        scheduler: the TuneScheduler of the same run, so that the controller knows a stopped trial from a completed one.
        seed: of the random draws after 50 repeats.
    """

    def __init__(
        self,
        controller: Controller,
        *,
        space: Space | None = None,
        objectives: Sequence[Objective] = (),
        scheduler: TuneScheduler | None = None,
        seed: int = 0,
    ) -> None:
        first = objectives[0] if objectives else None
        super().__init__(metric=first and first.metric, mode=first and first.direction)
        self._controller = controller
        self._space: Space = space if space is not None else controller.space  # type: ignore[attr-defined]
        self._scheduler = scheduler
        self._seed = seed
        self._events: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}  # of running trials, by Tune's trial id
        self._next = 0
        self._by_digest: dict[str, int] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._waiting: dict[int, int] = {}  # repeat -> the running twin whose outcome it will be told

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Take Tune's metric and mode unless objectives were given."""
        if self.metric is None and metric:
            self._metric, self._mode = metric, mode
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        for attempt in range(_GIVE_UP_AFTER):
            number, trace = self._ask(at_random=attempt >= _RANDOM_AFTER)
            if number not in self._waiting:
                self._numbers[trial_id] = number
                architecture = self._space.replay(trace).to_json()
                return {"number": number, "architecture": json.dumps(architecture), "trace": json.dumps(trace.to_json())}
            self._tell_repeats(self._waiting[number])
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        stopped = self._scheduler.stopped.pop(number, None) if self._scheduler is not None else None
        self._tell(number, stopped or _outcome(result, error))
        self._tell_repeats(number)

    def save(self, checkpoint_path: str) -> None:
        """Write every event the controller heard, as JSON; Tune calls this as it goes."""
        state = {"events": self._events, "running": self._numbers}
        Path(checkpoint_path).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Feed the saved events to this searcher's fresh controller; nothing is asked or sampled again."""
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        for event in state["events"]:
            self._apply(event)
        self._numbers = dict(state["running"])

    def _ask(self, at_random: bool) -> tuple[int, Trace]:
        number, note = self._next, {}
        if at_random:
            trace = self._space.sample(generator(self._seed, "fallback", number))[1]
        else:
            proposal = self._controller.ask(number)
            trace, note = proposal.trace, dict(proposal.note)
        digest = self._space.replay(trace).digest
        self._apply({"event": "asked", "n": number, "trace": trace.to_json(), "digest": digest, "note": note})
        return number, trace

    def _tell_repeats(self, twin: int) -> None:
        if twin in self._outcomes:
            for number in [number for number, of in self._waiting.items() if of == twin]:
                self._tell(number, self._outcomes[twin].as_duplicate_of(twin))

    def _tell(self, number: int, outcome: Outcome) -> None:
        self._apply({"event": "told", "n": number, "outcome": outcome.to_json()})

    def _apply(self, event: dict[str, Any]) -> None:
        """The one way in which an event, new or restored, changes the controller and this searcher."""
        self._events.append(event)
        if event["event"] == "asked":
            self._apply_asked(event["n"], Trace.from_json(event["trace"]), event["digest"], event["note"])
        else:
            self._apply_told(event["n"], Outcome.from_json(event["outcome"]))

    def _apply_asked(self, number: int, trace: Trace, digest: str, note: Mapping[str, Any]) -> None:
        twin = self._by_digest.setdefault(digest, number)
        if twin != number:
            self._waiting[number] = twin
        self._next = number + 1
        self._controller.asked(number, trace, note)

    def _apply_told(self, number: int, outcome: Outcome) -> None:
        if self._waiting.pop(number, None) is None:
            self._outcomes[number] = outcome
        self._controller.told(number, outcome)


def _outcome(result: Mapping[str, Any] | None, error: bool) -> Outcome:
    """What Tune's last word on a trial says."""
    if error or not result:
        return Outcome("failed", reason="the trial ended with an error; its error file in Tune's folder has the traceback")
    metrics = metrics_of(result)
    if any(math.isnan(value) for value in metrics.values()):
        return Outcome("failed", reason="a metric is not a number")
    return Outcome("completed", metrics, step_of(result))
