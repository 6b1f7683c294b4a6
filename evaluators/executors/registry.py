"""The registry of executors."""

from __future__ import annotations

from ...search_space.registry import Registry

_HOME = "archwright.evaluators.executors"
#: Each entry is a class built as ``cls(workers=..., gpus=..., threads=..., time_limit=..., address=...)``.
EXECUTORS = Registry("executor", (f"{_HOME}.inline", f"{_HOME}.ray_pool"))
