"""Spreading replays over processes."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...search_space.errors import StudyError
from ..compare.worker import THREADS

Task = tuple[str, int]
Heard = Callable[[dict[str, Any]], None]


def spread(tasks: Sequence[Task], request: Mapping[str, Any], jobs: int, heard: Heard) -> None:
    """Have the tasks (stopper, seed) done by ``jobs`` processes, each taking every ``jobs``-th; ``heard`` is told of each as it ends.

    Raises:
        StudyError: a process ended before its work was done; what was heard until then stands.
    """
    jobs = min(jobs, len(tasks))
    processes = [_process({**request, "path": sys.path, "tasks": tasks[first::jobs]}) for first in range(jobs)]
    try:
        with selectors.DefaultSelector() as selector:
            for process in processes:
                assert process.stdout is not None
                selector.register(process.stdout, selectors.EVENT_READ, process)
            while selector.get_map():
                for key, _ in selector.select():
                    line = key.data.stdout.readline()
                    if line:
                        heard(json.loads(line))
                        continue
                    selector.unregister(key.data.stdout)
                    if status := key.data.wait():
                        raise StudyError(f"A process of the stopping study ended with exit status {status}; see what it printed.")
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _process(request: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    # Unbuffered, so that the selector knows of every line.
    command = [sys.executable, "-P", "-m", f"{__package__}.worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0)
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.close()
    process.stdin = None
    return process
