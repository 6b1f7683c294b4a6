"""Code the user names: files, modules and installed entry points that register spaces, blocks, tasks, controllers.

A file is imported from its *text* under ``archwright_user_<hash>``, on the driver and on every worker alike, so that a worker
needs no access to the file and both sides hold the same code.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import linecache
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ArchwrightError, PluginError, did_you_mean

ENTRY_POINT_GROUP = "archwright.plugins"
USER_PREFIX = "archwright_user_"


class _TextLoader(importlib.abc.InspectLoader):
    """Imports a module from source text; tracebacks show the user's own file and lines."""

    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source

    def get_source(self, fullname: str) -> str:
        return self.source

    def get_code(self, fullname: str) -> Any:
        return compile(self.source, self.path, "exec")

    def is_package(self, fullname: str) -> bool:
        return False


def load_plugin(name: str) -> ModuleType:
    """Import the plug-in ``name``: a path ending in ``.py``, an entry point of ``archwright.plugins``, or a module's dotted name."""
    if name.endswith(".py"):
        return load_file(name)
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return _imported(point.load, f'plug-in "{name}"')
    return _imported(lambda: importlib.import_module(name), f'plug-in "{name}"')


def load_file(path: str | os.PathLike[str]) -> ModuleType:
    """Import a user's Python file by its text."""
    try:
        source = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f'The plug-in file "{path}" cannot be read ({_reason(error)}); give the path of a Python file.') from None
    return load_source(str(path), source)


def load_source(path: str, source: str, sha256: str | None = None) -> ModuleType:
    """Import ``source`` under a name made from its hash; a second call returns the same module."""
    digest = hashlib.sha256(source.encode()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise PluginError(f'The plug-in "{path}" has hash {digest[:12]}, but {sha256[:12]} was expected; its text was changed on the way.')
    name = USER_PREFIX + digest[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, _TextLoader(path, source), origin=path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    sys.modules[name] = module
    try:
        _imported(lambda: spec.loader.exec_module(module), f'plug-in file "{path}"')  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise
    return module


def describe(module: ModuleType) -> dict[str, str]:
    """What a job carries so that a worker can import ``module`` too."""
    loader = getattr(module.__spec__, "loader", None)
    if isinstance(loader, _TextLoader):
        return {"path": loader.path, "sha256": hashlib.sha256(loader.source.encode()).hexdigest(), "source": loader.source}
    return {"module": module.__name__}


def load_job_plugins(plugins: Sequence[Mapping[str, Any]]) -> None:
    """Import what :func:`describe` described, on a worker, before anything is built."""
    for plugin in plugins:
        if "module" in plugin:
            if plugin["module"] not in sys.modules:
                load_plugin(plugin["module"])
        else:
            load_source(plugin["path"], plugin["source"], plugin["sha256"])


def resolve(reference: str) -> tuple[Any, ModuleType]:
    """The object that ``file.py:name`` or ``package.module:name`` points to, with its module."""
    where, _, name = reference.rpartition(":")
    module = load_plugin(where)
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if not key.startswith("_") and callable(value)]
        raise PluginError(f'The file "{where}" has no "{name}"; {did_you_mean(name, public)}')
    return getattr(module, name), module


def load_entry_points() -> None:
    """Import every installed plug-in; one that fails is reported in a warning and left out."""
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            _imported(point.load, f'installed plug-in "{point.name}"')
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)


def _imported(load: Any, what: str) -> Any:
    try:
        return load()
    except ArchwrightError:
        raise
    except ModuleNotFoundError as error:
        raise PluginError(
            f'The {what} needs the module "{error.name}", which is not installed; install it (a plug-in file cannot import its neighbours).'
        ) from error
    except Exception as error:
        raise PluginError(f"The {what} failed to import: {_reason(error)}{_line_of(error)}.") from error


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    trace, line = error.__traceback__, None
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith(USER_PREFIX):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    return f"{type(error).__name__}: {text}" if not isinstance(error, OSError) else text
