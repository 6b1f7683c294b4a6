"""The errors a user can cause. Each carries one clear sentence: what was given, what was expected, where, the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchwrightError(Exception):
    """Base of every error the command line prints as one sentence (exit status 2) instead of a traceback."""


class SpaceError(ArchwrightError):
    """A search space was written or asked in a way that has no meaning."""


class ReplayError(SpaceError):
    """A trace does not fit the space it is replayed on."""


class ArchitectureError(ArchwrightError):
    """A graph of nodes is not a valid architecture."""


class BuildError(ArchwrightError):
    """An architecture cannot be made into a module; names the node and the shapes that clash."""


class RegistryError(ArchwrightError):
    """A name is unknown, or registered twice."""


class PluginError(ArchwrightError):
    """Plug-in code could not be found or imported."""


class ConfigError(ArchwrightError):
    """A study's configuration is invalid."""


class DataError(ArchwrightError):
    """A data set cannot serve as a task."""


class StudyError(ArchwrightError):
    """A study's folder is missing, held by another process, or damaged."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The sentence that suggests the nearest known name, or lists what there is.

    >>> did_you_mean("layernrom", ["layernorm", "rmsnorm"])
    'did you mean "layernorm"?'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(names)}" if names else "nothing is registered"
