"""One process of a comparison: does runs and puts them on file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...search_space.errors import ArchwrightError
from ...search_space.plugins import describe, load_job_plugins, load_plugin
from ..parts import line_in
from ..processes import Do, main
from .contender import Contender, contender
from .setting import Setting, setting
from .store import write_run

CHANGED = "its code changed after the comparison had begun; run the comparison again"


@dataclass(frozen=True)
class Task:
    """One run to do: which contender, which seed, and the file it goes to."""

    contender: int
    seed: int
    path: Path

    def to_json(self) -> dict[str, Any]:
        return {"contender": self.contender, "seed": self.seed, "path": str(self.path)}


def request(chosen: Setting, contenders: list[Contender], plugins: list[str]) -> dict[str, Any]:
    """What a worker must know before its first run, as JSON."""
    facts = {"budget": chosen.budget, "workers": chosen.workers, "stopper": chosen.stopper}
    objectives = [f"{objective.metric}:{objective.direction}" for objective in chosen.objectives]
    return {
        "plugins": [describe(load_plugin(name)) for name in plugins],
        "setting": {"table": chosen.name, "params": dict(chosen.params), "objectives": objectives, **facts},
        "contenders": [[c.label, dict(c.module or {}), c.key] for c in contenders],
    }


def carry_out(chosen: Setting, runner: Contender, seed: int, path: Path) -> str | None:
    """Do one run and put it on file; the sentence of what went wrong, or None."""
    try:
        write_run(path, runner, seed, chosen.run(runner, seed))
    except ArchwrightError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}{line_in(error)}"
    return None


def prepared(wanted: Mapping[str, Any]) -> Do:
    """What does the runs of a request."""
    load_job_plugins(wanted["plugins"])
    chosen = setting(**wanted["setting"])
    runners = [contender(label, module) for label, module, _ in wanted["contenders"]]
    changed = [runner.key != key for runner, (_, _, key) in zip(runners, wanted["contenders"], strict=True)]

    def do(task: Mapping[str, Any]) -> dict[str, Any]:
        number = task["contender"]
        return {"error": CHANGED if changed[number] else carry_out(chosen, runners[number], task["seed"], Path(task["path"]))}

    return do


if __name__ == "__main__":
    main(prepared)
