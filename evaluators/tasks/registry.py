"""The registry of tasks, and loading one by name."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...search_space.choices import Domain
from ...search_space.errors import DataError
from ...search_space.registry import Registry

if TYPE_CHECKING:
    from .definition import Task

_HOME = "archwright.evaluators.tasks"
TASKS = Registry("task", tuple(f"{_HOME}.{module}" for module in ("digits", "table", "images")))

_KEPT = 4
_loaded: OrderedDict[Any, Task] = OrderedDict()


def task(name: str, *, knobs: Mapping[str, Domain] | None = None, paper: str = "") -> Callable[[Any], Any]:
    """Register a function ``(**params) -> Task``.

    Args:
        name: kebab-case name used in configurations.
        knobs: its parameters with their domains, for ``archwright list``.
        paper: where the data is from.
    """
    return TASKS.decorator(name, knobs=knobs, paper=paper)


def load_task(spec: Mapping[str, Any]) -> Task:
    """The task ``{"name": ..., "params": {...}}``; the last few stay in memory, until their definition or file changes.

    Raises:
        RegistryError: no task has this name.
        DataError: the data cannot serve, or a parameter is unknown.
    """
    from .definition import Task

    entry = TASKS[spec["name"]]
    params = dict(spec.get("params") or {})
    key = (entry.obj, json.dumps(params, sort_keys=True), _file_state(params.get("path")))
    if key not in _loaded:
        try:
            made = entry.obj(**params)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise
            raise DataError(f'The task "{entry.name}" cannot be made with these parameters: {error}.') from None
        if not isinstance(made, Task):
            raise DataError(f'The task "{entry.name}" returned {type(made).__name__}; it must return a Task (see Task.from_arrays).')
        _loaded[key] = made
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
    _loaded.move_to_end(key)
    return _loaded[key]


def _file_state(path: Any) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except (OSError, TypeError):
        return None
    return state.st_mtime_ns, state.st_size
