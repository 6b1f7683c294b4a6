"""Connecting to Ray quietly, and knowing beforehand whether the workers asked for can exist."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ...search_space.errors import ConfigError

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # the study says so itself, in its own words
}
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's switch for "this machine only", on Linux as well
EVERY_TICKET = 2**62
_OBJECT_STORE_BYTES = 100 * 2**20  # reports are small; Ray's own default takes 30 % of the machine's memory


def connect(address: str | None, cpus: int) -> bool:
    """Join the Ray session of this process, the cluster at ``address``, or start a local one on the loopback interface.

    Args:
        address: a cluster's address (``auto``, ``host:6379``, ``ray://...``); None is this machine.
        cpus: how many CPUs a local session should count.

    Returns:
        True when the session was started or joined here, and so is ours to shut down.

    Raises:
        ConfigError: there is no cluster at ``address``.
    """
    if address is not None and address != "auto":
        _check_answers(address)
    _prepare(local=address is None)
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {
        "configure_logging": False,
        "log_to_driver": False,
        "namespace": f"archwright-{uuid.uuid4().hex[:12]}",
    }
    constants = sys.modules["ray._private.ray_constants"]
    constants.ENABLE_RAY_CLUSTER = address is not None  # type: ignore[attr-defined]  # Ray may have been imported before
    if address is None:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **quiet,
        )
        return True
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f'No Ray cluster answers at "{address}" ({why}); correct ray.address, or leave it out.') from None
    return True


def _check_answers(address: str) -> None:
    """Raise ConfigError unless something listens at the address: Ray's own attempt would hang for minutes, deaf to Ctrl-C."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f'The ray.address "{address}" is not of the form host:port; give one such as "10.0.0.1:6379", or "auto".')
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f'No Ray cluster answers at "{address}" ({error}); correct ray.address, or leave it out.') from None


def _prepare(local: bool) -> None:
    """Set what Ray reads from the environment when it is imported and started; its child processes inherit it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not local:
        os.environ.pop(_LOOPBACK, None)
        return
    os.environ[_LOOPBACK] = "0"


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nodes() -> list[dict[str, float]]:
    """The resources of every living node of the session."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def threads_per_worker(machines: Sequence[Mapping[str, float]], workers: int) -> int:
    """Each worker's share of the cluster's cores, at least 1 and never more than the smallest machine has."""
    sizes = [int(machine["CPU"]) for machine in machines if machine.get("CPU")]
    return max(1, min([sum(sizes) // workers, *sizes]))


def check_capacity(machines: Sequence[Mapping[str, float]], *, workers: int, gpus: float, threads: int) -> None:
    """Raise ConfigError, in one sentence, for workers that Ray could never place; it would wait for them without a word.

    >>> check_capacity([{"CPU": 8.0, "GPU": 1.0}], workers=2, gpus=0.5, threads=4)
    """
    if gpus > 1 and not float(gpus).is_integer():
        raise ConfigError(f"gpus is {gpus:g} per worker; give a fraction below 1 (workers share a GPU) or a whole number.")
    found = sum(machine.get("GPU", 0.0) for machine in machines)
    room = sum(_workers_on(machine.get("GPU", 0.0), gpus) for machine in machines) if gpus else workers
    if room < workers:
        raise ConfigError(
            f"workers: {workers} with gpus: {gpus:g} each were asked for, but Ray finds {found:g} GPUs, enough for {room:g} of them; "
            f"set gpus: 0 or fewer workers."
        )
    cpus = sum(int(machine.get("CPU", 0.0)) // threads for machine in machines)
    if cpus < workers:
        raise ConfigError(
            f"workers: {workers} with threads: {threads} each were asked for, but the Ray cluster has CPUs for {cpus} of them; "
            f"set fewer workers or threads."
        )


def _workers_on(available: float, gpus: float) -> int:
    """Workers that fit on a machine: a fraction must lie on one GPU."""
    if gpus < 1:
        return int(available) * math.floor(1 / gpus + 1e-9)
    return int(available // gpus)


def disconnect(actors: Sequence[Any], *, grace: float, shutdown: bool) -> None:
    """End the actors, after up to ``grace`` seconds for what they do to be closed, and Ray itself if it is ours."""
    import ray

    if not ray.is_initialized():
        return
    for actor in actors:
        actor.stop.options(concurrency_group="control").remote(EVERY_TICKET)
    closing = [actor.finish.remote(EVERY_TICKET) for actor in actors]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=grace)
    for actor in actors:
        ray.kill(actor)
    if shutdown:
        ray.shutdown()
