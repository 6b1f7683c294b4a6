"""One driver per study: a lock of the operating system that vanishes with the process that holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from ..search_space.errors import StudyError

LOCK, HOLDER = "lock", "driver.json"


class StudyLock:
    """Held while a process drives the study in ``folder``; a SIGKILL leaves nothing to clean up.

    Raises:
        StudyError: another driver holds it; the sentence names process, host and since when.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK, timeout=0)

    def __enter__(self) -> StudyLock:
        try:
            self._lock.acquire()
        except Timeout:
            raise StudyError(f"The study {self._folder} is already run by {_holder(self._folder)}; wait, or end that process.") from None
        except OSError as error:
            raise StudyError(f"The study's folder {self._folder} cannot be locked ({error.strerror}); make it writable.") from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        (self._folder / HOLDER).write_text(json.dumps(holder))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        (self._folder / HOLDER).unlink(missing_ok=True)
        self._lock.release()


def is_running(folder: Path) -> bool:
    """True while some process drives the study in ``folder``."""
    if not (folder / LOCK).exists():
        return False
    probe = FileLock(folder / LOCK, timeout=0)
    try:
        probe.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    probe.release()
    return False


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
