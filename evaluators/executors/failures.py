"""What went wrong with a candidate, in one sentence its user can act on."""

from __future__ import annotations

import traceback
from pathlib import Path

from ...search_space.errors import ArchwrightError

ERROR_FILE = "error.txt"
_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


class TimeLimitReached(BaseException):
    """Raised inside an evaluator when its time is up; no ``except Exception`` of its own may swallow it."""


def time_limit_reason(limit: float, step: int) -> str:
    return f"time limit of {limit:g} s reached after step {step}; raise time_limit, or let the space build cheaper candidates"


def died_twice_reason(step: int, memory: bool = False) -> str:
    why = " from lack of memory" if memory else ""
    return f"its worker died twice{why}, the last time after step {step}; usual causes are a crash in native code and too little memory"


def reason_of(error: BaseException) -> str:
    """One sentence for an exception that ended a candidate."""
    if isinstance(error, ArchwrightError):
        return str(error)
    if is_out_of_memory(error):
        return f"out of memory ({_first_line(error)}); make the batch size or the candidates smaller, or give a worker more memory"
    if isinstance(error, SystemExit):
        return f"the evaluator called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {_first_line(error)}" if str(error).strip() else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """True for Python's, PyTorch's and the allocators' ways of saying so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_SIGNS)


def keep_traceback(folder: str, error: BaseException) -> None:
    """Write the traceback to ``error.txt`` in the trial's folder; a folder that cannot be written loses it, not the study."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, ERROR_FILE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        pass


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]
