"""One process of a stopping study: reads from standard input what to replay, answers a line for each study."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ...search_space.errors import StudyError
from ...search_space.plugins import load_job_plugins
from .recorded import load_curves
from .setting import Replayer, Setting, named


def replayed(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Do the tasks ``[[stopper, seed], ...]`` of a request one after another."""
    load_job_plugins(request["plugins"])
    chosen = Setting(**request["setting"])
    curves = load_curves(chosen.path, chosen.metric, chosen.direction)
    stoppers = {text: named(text, chosen) for text in request["stoppers"]}
    for text, key in request["stoppers"].items():
        if stoppers[text].key != key:
            raise StudyError(f'The code of the stopper "{text}" changed after the stopping study had begun; run it again.')
    replayer = Replayer(chosen, curves, list(stoppers.values()))
    for label, seed in request["tasks"]:
        yield {"stopper": label, "seed": seed, "replay": replayer(label, seed).to_json()}


def main() -> None:
    """Serve the caller; prints of the code under test go to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    sys.path[:] = request["path"]
    try:
        for answer in replayed(request):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except BrokenPipeError:
        sys.exit(1)
    except StudyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
