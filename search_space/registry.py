"""Names for the things a configuration, a command line or an architecture must be able to spell."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import RegistryError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """One registered thing: its name, the object, and the facts that ``archwright list`` prints."""

    name: str
    obj: Any
    knobs: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""
    facts: Any = None

    @property
    def summary(self) -> str:
        """The first line of the object's docstring."""
        return (inspect.getdoc(self.obj) or "").split("\n", 1)[0]


class Registry(Mapping[str, Entry]):
    """A mapping from kebab-case name to :class:`Entry`; built-in modules are imported at the first look-up."""

    def __init__(self, kind: str, builtins: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._builtins = builtins
        self._entries: dict[str, Entry] = {}
        self._loaded = not builtins
        #: Counts registrations, so that what was derived from the entries can tell when it is out of date.
        self.changes = 0

    def register(self, name: str, obj: Any, *, knobs: Mapping[str, Any] | None = None, paper: str = "", facts: Any = None) -> None:
        """Add ``obj`` under ``name``; a user's own definition may be replaced (a reload), a second owner of a name is an error."""
        old = self._entries.get(name)
        if old is not None and not _replaceable(old.obj, obj):
            raise RegistryError(f'{self.kind} "{name}" is already registered by {_where(old.obj)}; choose another name in {_where(obj)}.')
        self.changes += 1
        self._entries[name] = Entry(name, obj, dict(knobs or {}), paper, facts)

    def decorator(self, name: str, **facts: Any) -> Callable[[Any], Any]:
        def add(obj: Any) -> Any:
            self.register(name, obj, **facts)
            return obj

        return add

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True  # first, so that a built-in module may look others up while it is imported
            for module in self._builtins:
                importlib.import_module(module)
            _load_installed_once()

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            self._load()
        try:
            return self._entries[name]
        except KeyError:
            cure = did_you_mean(name, self._entries)
            stop = "" if cure.endswith("?") else "."
            raise RegistryError(
                f'No {self.kind} is called "{name}"; {cure}{stop} A plug-in that defines it is loaded with --plugin.'
            ) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)


_installed_loaded = False


def _load_installed_once() -> None:
    global _installed_loaded
    if not _installed_loaded:
        _installed_loaded = True
        from .plugins import load_entry_points

        load_entry_points()


def _where(obj: Any) -> str:
    return f"{getattr(obj, '__module__', '?')}.{getattr(obj, '__qualname__', obj)}"


def _replaceable(old: Any, new: Any) -> bool:
    """True for a reload: the same source again, or a user's own file or session defining its name anew."""
    users = str(getattr(old, "__module__", "")).startswith(("archwright_user_", "__main__"))
    return old is new or users or (_where(old) == _where(new) and "<locals>" not in _where(new))
