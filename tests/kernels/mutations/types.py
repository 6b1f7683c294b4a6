"""A mistake made on purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """``old`` becomes ``new`` in ``archwright.kernels.<module>``; kernel ``kernel`` on ``backend`` must then fail ``check_case``.

    ``home`` is the module that registers the spec, where it is not the first part of ``module``.
    """

    kernel: str
    module: str
    old: str
    new: str
    backend: str
    home: str | None = None

    def __str__(self) -> str:
        return f"{self.module}: {self.old.strip()[:40]} -> {self.new.strip()[:40]}".replace("\n", " ")
