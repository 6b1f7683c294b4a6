"""One process of a stopping study: replays studies and answers with what they cost and lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...search_space.errors import ArchwrightError, StudyError
from ...search_space.plugins import load_job_plugins
from ..parts import line_in
from ..processes import Do, main
from .setting import Replayer, Setting, named
from .sources import recorded_curves


@dataclass(frozen=True)
class Task:
    """One study to replay: the label of the stopper, and the seed."""

    stopper: str
    seed: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def prepared(request: Mapping[str, Any]) -> Do:
    """What replays the studies of a request."""
    load_job_plugins(request["plugins"])
    chosen = Setting(**request["setting"])
    stoppers = {text: named(text, chosen) for text in request["stoppers"]}
    for text, key in request["stoppers"].items():
        if stoppers[text].key != key:
            raise StudyError(f'The code of the stopper "{text}" changed after the stopping study had begun; run it again.')
    replayer = Replayer(chosen, recorded_curves(chosen.sources, chosen.metric, chosen.direction), list(stoppers.values()))

    def do(task: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {"error": None, "replay": replayer(task["stopper"], task["seed"]).to_json()}
        except ArchwrightError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}{line_in(error)}"}

    return do


if __name__ == "__main__":
    main(prepared)
