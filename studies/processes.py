"""Work spread over processes of their own, which read a line of JSON for each task and answer a line.

A worker is a module that calls :func:`main`. It is started afresh: its libraries take one thread from the first import on, nothing of
the caller's state (its main module, its open connections) comes along, and what a user's code prints cannot be taken for an answer.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Generic, Protocol, TypeVar

from ..search_space.errors import ArchwrightError, StudyError

#: Every library that would otherwise start a pool of threads of its own.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Answer = Mapping[str, Any]
Do = Callable[[Mapping[str, Any]], Answer]


class Written(Protocol):
    """A task that can be written down."""

    def to_json(self) -> Mapping[str, Any]: ...


Task = TypeVar("Task", bound=Written)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(tasks: Iterable[Task], worker: str, request: Mapping[str, Any], jobs: int, heard: Callable[[Task, Answer], None]) -> None:
    """Have ``tasks`` done by ``jobs`` processes.

    Args:
        tasks: each is given to the next process that is free.
        worker: the module that each process runs.
        request: what a process must know before its first task, as JSON.
        jobs: processes at most.
        heard: told of each task with its answer; ``{"error": sentence}`` where the process died over it, which is then replaced.

    Raises:
        StudyError: a process could not even begin.
    """
    waiting = deque(tasks)
    hosts: list[_Host[Task]] = []
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(min(jobs, len(waiting))):
                hosts.append(_Host(worker, request))
                selector.register(hosts[-1].answers, selectors.EVENT_READ, hosts[-1])
            while selector.get_map():
                for key, _ in selector.select():
                    host: _Host[Task] = key.data
                    host.hear(heard)
                    if waiting and host.alive:
                        host.give(waiting.popleft())
                        continue
                    selector.unregister(host.answers)
                    if waiting:
                        hosts.append(_Host(worker, request))
                        selector.register(hosts[-1].answers, selectors.EVENT_READ, hosts[-1])
        finally:
            for host in hosts:
                host.end()


class _Host(Generic[Task]):
    """One process, at most one task in its hands."""

    def __init__(self, worker: str, request: Mapping[str, Any]) -> None:
        environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "OMP_WAIT_POLICY": "PASSIVE"}
        roots = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": roots},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self.answers = self._process.stdin, self._process.stdout
        self._task: Task | None = None
        self._ready = False
        self.alive = True
        self._write({**request, "path": sys.path})

    def give(self, task: Task) -> None:
        self._task = task
        self._write(task.to_json())

    def hear(self, heard: Callable[[Task, Answer], None]) -> None:
        """Read one answer; the end of the process is the answer of its task."""
        line = self.answers.readline()
        if line.endswith("\n"):
            self._ready = True
            answer = json.loads(line)
        else:
            self.alive = False
            status = self._process.wait()
            if not self._ready:
                raise StudyError(f"A process ended before its first run (exit status {status}); see what it printed.")
            answer = {"error": f"its process ended with exit status {status}; perhaps the machine ran out of memory"}
        if self._task is not None:
            heard(self._task, answer)
            self._task = None

    def end(self) -> None:
        """Let an idle process go, kill a busy one."""
        if self._task is not None:
            self._process.kill()
        for stream in (self._asks, self.answers):
            try:
                stream.close()
            except BrokenPipeError:
                continue
        self._process.wait()

    def _write(self, what: Mapping[str, Any]) -> None:
        try:
            self._asks.write(json.dumps(what) + "\n")
            self._asks.flush()
        except BrokenPipeError:
            pass  # its death is read from the other pipe


# --- in the worker


def serve(prepare: Callable[[Mapping[str, Any]], Do], asked: IO[str], answers: IO[str]) -> None:
    """Answer until no more is asked; ``prepare(request)`` gives what does one task."""
    request = json.loads(asked.readline())
    sys.path[:] = request["path"]
    do = prepare(request)
    _answer(answers, {"ready": True})
    for line in asked:
        _answer(answers, do(json.loads(line)))


def _answer(answers: IO[str], what: Answer) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def main(prepare: Callable[[Mapping[str, Any]], Do]) -> None:
    """Serve the caller; prints of the code under test go to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        serve(prepare, sys.stdin, answers)
    except BrokenPipeError:
        sys.exit(1)
    except ArchwrightError as error:
        sys.exit(str(error))
