"""Tiles of kernels from what a GPU has: computed by the integer solver, never measured at run time.

A table entry belongs to a kernel, a compute capability and sizes rounded up to powers of two. The solver picks the tiles that keep
most warps resident on a multiprocessor while shared memory and registers suffice; "FlashRNN: Optimizing Traditional RNNs on Modern
Hardware" (2024, 2412.07752) chooses so.

Who has measured better ones names a JSON file in the variable ``ARCHWRIGHT_KERNEL_TUNING``, a list of entries; sizes left out stand
for any::

    [{"kernel": "rnn", "capability": "9.0", "sizes": {"head_width": 64, "itemsize": 2}, "tiles": {"BLOCK_B": 32, "num_warps": 8}}]
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .integer_solver import Problem, divides

VARIABLE = "ARCHWRIGHT_KERNEL_TUNING"
TILES = {"rnn": ("BLOCK_B", "num_warps"), "attention": ("BLOCK_C", "BLOCK_V", "num_warps")}
SIZES = {"rnn": ("head_width", "gates", "states", "itemsize"), "attention": ("key_width", "value_width", "itemsize")}

Capability = tuple[int, int]
Tiles = dict[str, int]


class TuningError(ValueError):
    """The file of ``ARCHWRIGHT_KERNEL_TUNING`` cannot be used; the message says what is wrong in it."""


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor has; bytes of shared memory for one program and for all, 32-bit registers, resident warps."""

    shared: int
    shared_of_all: int
    warps: int
    registers: int = 64 * 1024
    registers_per_thread: int = 255


LIMITS: dict[Capability, Limits] = {
    (8, 0): Limits(163 * 1024, 164 * 1024, 64),
    (8, 6): Limits(99 * 1024, 100 * 1024, 48),
    (8, 7): Limits(163 * 1024, 164 * 1024, 48),
    (8, 9): Limits(99 * 1024, 100 * 1024, 48),
    (9, 0): Limits(227 * 1024, 228 * 1024, 64),
    (10, 0): Limits(227 * 1024, 228 * 1024, 64),
    (12, 0): Limits(99 * 1024, 100 * 1024, 48),
}
ADDRESSES = 64  # registers of a thread that hold pointers, masks and temporaries
MATRIX = 16 * 8  # elements that a warp's matrix instruction makes; more warps than such pieces repeat one another's work
PROGRAMS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # that share a multiprocessor
PROGRAM = 1024  # bytes of shared memory that each program takes besides its own


def limits(capability: Capability) -> Limits:
    """Those of the newest known GPU that is not newer than ``capability``. Raises ValueError: it is older than 8.0."""
    known = [each for each in LIMITS if each <= capability]
    if not known:
        raise ValueError(f"Tiles are known for GPUs of compute capability 8.0 and above. Got {capability[0]}.{capability[1]} instead.")
    return LIMITS[max(known)]


def rnn_tiles(head_width: int, gates: int, states: int, itemsize: int, capability: Capability) -> Tiles | None:
    """Tiles for the fused time loop of an RNN, whose recurrent weights of one head stay on chip; None where they do not fit.

    With tile B of the batch and width d, shared memory holds the weights, d d gates, and the gates of a tile, B d gates, in the
    precision of the inputs; registers hold gates, states and the gradient of a state in float32. Threads divide B d and each warp has
    a matrix instruction of its own. Of equally many resident warps the smallest batch tile wins, since that leaves the most programs.

    Args:
        head_width: width of a head. gates: gates of the cell. states: states of the cell. itemsize: bytes per element.
        capability: of the GPU, as ``torch.cuda.get_device_capability`` gives it.

    Returns:
        ``BLOCK_B`` and ``num_warps``.

    Raises:
        ValueError: a size is not positive, or the GPU is too old. TuningError: see there.
    """
    return _tiles("rnn", capability, head_width=head_width, gates=gates, states=states, itemsize=itemsize)


def attention_tiles(key_width: int, value_width: int, itemsize: int, capability: Capability) -> Tiles | None:
    """Tiles for chunked linear attention, whose state of one head stays in registers; None where it does not fit.

    With chunks of C steps, keys of width K (whole) and a tile V of the values, shared memory holds queries, keys and values of a chunk,
    the C x C matrix between its steps and a copy of the state for the tensor cores; registers hold the state and its gradient, the
    outputs and the C x C matrix in float32. Of equally many resident warps (16 are enough) the longest chunk wins, then the widest V.

    Args:
        key_width: K. value_width: width of all values of a head. itemsize: bytes per element.
        capability: of the GPU, as ``torch.cuda.get_device_capability`` gives it.

    Returns:
        ``BLOCK_C``, ``BLOCK_V`` and ``num_warps``.

    Raises:
        ValueError: a size is not positive, or the GPU is too old. TuningError: see there.
    """
    return _tiles("attention", capability, key_width=key_width, value_width=value_width, itemsize=itemsize)


def _tiles(kernel: str, capability: Capability, **sizes: int) -> Tiles | None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"The argument {name} of {kernel}_tiles must be at least 1. Got {size} instead.")
    bucket = {name: _bucket(name, size) for name, size in sizes.items()}
    computed = _SOLVERS[kernel](limits(capability), *bucket.values())
    return _overridden(kernel, capability, bucket, None if computed is None else dict(computed))


def _bucket(name: str, size: int) -> int:
    """Gates and states are few, and are no axes of a tile."""
    return size if name in ("gates", "states") else bucketed(size)


def bucketed(size: int) -> int:
    """The power of two that covers ``size``."""
    return 1 << (size - 1).bit_length()


@cache
def _rnn(limit: Limits, width: int, gates: int, states: int, itemsize: int) -> Mapping[str, int] | None:
    width = max(16, width)
    problem = Problem()
    batch, warps = problem.variable("BLOCK_B", (16, 32, 64)), problem.variable("num_warps", (1, 2, 4, 8, 16))
    programs = problem.variable("programs", PROGRAMS)
    shared = batch * (width * gates * itemsize) + width * width * gates * itemsize
    words = batch * (width * (gates + 2 * states + 1))
    problem.require(divides(warps * 32, batch * width), warps * MATRIX <= batch * width)
    _fit(problem, limit, shared, words, warps, programs)
    return _best(problem.solve(maximise=programs * warps * 128 + batch * -1), "rnn")


@cache
def _attention(limit: Limits, keys: int, values: int, itemsize: int) -> Mapping[str, int] | None:
    keys, values = max(16, keys), max(16, values)
    problem = Problem()
    chunk, columns = problem.variable("BLOCK_C", (16, 32, 64)), problem.variable("BLOCK_V", (16, 32, 64, 128))
    warps, programs = problem.variable("num_warps", (1, 2, 4, 8)), problem.variable("programs", PROGRAMS)
    shared = chunk * (2 * keys * itemsize) + chunk * columns * itemsize + chunk * chunk * 4 + columns * (keys * itemsize)
    words = columns * (2 * keys) + chunk * columns * 2 + chunk * chunk + chunk * keys
    problem.require(columns <= values, divides(columns, values), programs * warps <= 16, warps * MATRIX <= chunk * columns)
    _fit(problem, limit, shared, words, warps, programs)
    return _best(problem.solve(maximise=programs * warps * 1024 + chunk * 4 + columns // 16), "attention")


def _fit(problem: Problem, limit: Limits, shared: Any, words: Any, warps: Any, programs: Any) -> None:
    """So many programs of so many warps find room: ``shared`` bytes and ``words`` registers are what one program needs."""
    per_thread = words // (warps * 32) + ADDRESSES
    problem.require(
        shared <= limit.shared,
        per_thread <= limit.registers_per_thread,
        programs * (shared + PROGRAM) <= limit.shared_of_all,
        programs * warps * per_thread * 32 <= limit.registers,
        programs * warps <= limit.warps,
    )


def _best(solution: dict[str, int] | None, kernel: str) -> Mapping[str, int] | None:
    return None if solution is None else {name: solution[name] for name in TILES[kernel]}


_SOLVERS = {"rnn": _rnn, "attention": _attention}


# --- measured tiles -------------------------------------------------------------------------------------------------------


def _overridden(kernel: str, capability: Capability, sizes: Mapping[str, int], computed: Tiles | None) -> Tiles | None:
    """The first entry of the file that concerns these sizes replaces what was computed."""
    path = os.environ.get(VARIABLE)
    if not path:
        return computed
    try:
        stamp = Path(path).stat()
    except OSError as error:
        raise TuningError(f"The file {path} that {VARIABLE} names cannot be read: {error.strerror}.") from error
    for entry in _entries(path, stamp.st_mtime_ns, stamp.st_size):
        same = entry["kernel"] == kernel and entry["capability"] == f"{capability[0]}.{capability[1]}"
        if same and all(_bucket(name, size) == sizes[name] for name, size in entry.get("sizes", {}).items()):
            missing = [name for name in TILES[kernel] if name not in entry["tiles"]]
            if computed is None and missing:
                raise TuningError(f"No tiles fit {dict(sizes)} and the entry for them in {path} lacks {', '.join(missing)}.")
            return {**(computed or {}), **entry["tiles"]}
    return computed


@cache
def _entries(path: str, modified: int, size: int) -> tuple[dict[str, Any], ...]:
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise TuningError(f"The file {path} that {VARIABLE} names is not JSON: {error}.") from error
    if not isinstance(entries, list):
        raise TuningError(f"The file {path} must hold a list of entries. Got {type(entries).__name__} instead.")
    for index, entry in enumerate(entries):
        complaint = _complaint(entry)
        if complaint is not None:
            raise TuningError(f"Entry {index} of {path} cannot be used: {complaint}.")
    return tuple(entries)


def _complaint(entry: Any) -> str | None:
    """What is wrong with an entry, or None."""
    if not isinstance(entry, dict) or not {"kernel", "capability", "tiles"} <= entry.keys() <= {"kernel", "capability", "sizes", "tiles"}:
        return 'it must hold "kernel", "capability", "tiles" and perhaps "sizes", and nothing else'
    kernel, capability = entry["kernel"], entry["capability"]
    if kernel not in TILES:
        return f'kernels are {", ".join(TILES)}, not "{kernel}"'
    if not isinstance(capability, str) or [part.isdigit() for part in capability.split(".")] != [True, True]:
        return f'a capability is written as "9.0", not {json.dumps(capability)}'
    for part, names in (("sizes", SIZES[kernel]), ("tiles", TILES[kernel])):
        values = entry.get(part, {})
        if not isinstance(values, dict) or not values.keys() <= set(names):
            return f"{part} of {kernel} are {', '.join(names)}, not {json.dumps(values)}"
        for name, value in values.items():
            power = isinstance(value, int) and not isinstance(value, bool) and value > 0 and (part == "sizes" or value == bucketed(value))
            if not power:
                return f"{name} must be a positive {'integer' if part == 'sizes' else 'power of two'}, not {json.dumps(value)}"
    return None
