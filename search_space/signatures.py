"""Parameters in one spelling: defaults filled in, numbers cast to the type the block expects, written as text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .architecture import Architecture
from .choices import Domain, Integer, OneOf, Real
from .registry import Entry

CellName = Callable[[Architecture], str]
_TYPES = {int: int, float: float, "int": int, "float": float}


@dataclass(frozen=True)
class Signature:
    """What a factory says of its keyword parameters: defaults, and the number type of each that has one."""

    defaults: Mapping[str, Any]
    types: Mapping[str, type]


@lru_cache(maxsize=4096)
def signature_of(factory: Any) -> Signature:
    """The defaults and number types in the signature of ``factory``; specs and ``output`` are not parameters."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # builtins without a signature
        return Signature({}, {})
    defaults, types = {}, {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY) or name == "output":
            continue
        default = parameter.default
        if _is_json(default):
            defaults[name] = tuple(default) if isinstance(default, list) else default
        if parameter.annotation in _TYPES:
            types[name] = _TYPES[parameter.annotation]
        elif type(default) in (int, float):
            types[name] = type(default)
    return Signature(defaults, types)


def filled(params: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    """``params`` with the factory's defaults filled in and numbers cast to the type of their knob, annotation or default.

    So ``heads=4``, ``heads=4.0`` and no ``heads`` at all are one, where 4 is the default of an integer.
    """
    signature = signature_of(entry.obj)
    merged = {**signature.defaults, **params}
    return {key: _cast(value, entry.knobs.get(key), signature.types.get(key)) for key, value in merged.items()}


def _cast(value: Any, knob: Domain | None, kind: type | None) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(knob, OneOf):
        return next((option for option in knob.options if option == value and not isinstance(option, bool)), value)
    if isinstance(knob, Integer):
        kind = int
    elif isinstance(knob, Real):
        kind = float
    if kind is int:
        return int(value) if value == value // 1 else value
    return float(value) if kind is float else value


def canonical_text(value: Any, cell_name: CellName) -> str:
    """``value`` as text, equal exactly for equal values; keys sorted, an architecture by ``cell_name``."""
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, Architecture):
        return f"<{cell_name(value)}>"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(key)}:{canonical_text(value[key], cell_name)}" for key in sorted(value)) + "}"
    return "[" + ",".join(canonical_text(item, cell_name) for item in value) + "]"


def plain_numbers(value: Any) -> Any:
    """``value`` with whole floats as integers, for fields whose type nobody declares (``training``)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: plain_numbers(item) for key, item in value.items()}
    return tuple(plain_numbers(item) for item in value) if isinstance(value, tuple) else value


def _is_json(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, str | int | float | bool)
