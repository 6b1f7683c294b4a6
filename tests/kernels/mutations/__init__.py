"""Mistakes that the kernels' tests must catch: one sign, one mask, one index in a kernel's source, broken on purpose.

Each module here lists the ``MUTATIONS`` of a family. :func:`broken` gives the spec of a kernel whose source holds the mistake.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import archwright.kernels as kernels
from archwright.kernels.spec import KERNELS, KernelSpec

from .types import Mutation


def every() -> list[Mutation]:
    """All mutations, by family."""
    found: list[Mutation] = []
    for info in pkgutil.iter_modules(__path__):
        found += getattr(importlib.import_module(f"{__name__}.{info.name}"), "MUTATIONS", [])
    return found


@contextmanager
def broken(mutation: Mutation, folder: Path) -> Iterator[KernelSpec]:
    """The kernel's spec made anew from its source with the mistake in it; the real modules come back afterwards."""
    home = mutation.home or mutation.module.split(".")[0]
    home = home.removesuffix("_triton")
    list(KERNELS)
    before = dict(sys.modules)
    attributes = dict(vars(kernels))
    made: dict[str, KernelSpec] = {}
    affected = {name for name in before if _concerns(name, home, mutation.module)}
    try:
        for name in affected:
            del sys.modules[name]
            vars(kernels).pop(name.rpartition(".")[2], None) if name.count(".") == 2 else None
        with mock.patch.object(type(KERNELS), "add", lambda _, spec: made.setdefault(spec.name, spec)), _altered(mutation, folder):
            importlib.import_module(f"archwright.kernels.{home}")
            importlib.import_module(f"archwright.kernels.{mutation.module}")
            yield made[mutation.kernel]
    finally:
        for name in [name for name in sys.modules if _concerns(name, home, mutation.module)]:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in affected})
        vars(kernels).clear()
        vars(kernels).update(attributes)


def _concerns(name: str, home: str, module: str) -> bool:
    roots = {f"archwright.kernels.{part}" for part in (home, f"{home}_triton", module)}
    return any(name == root or name.startswith(root + ".") for root in roots)


@contextmanager
def _altered(mutation: Mutation, folder: Path) -> Iterator[None]:
    """Imports of the module find the altered source, in a file of its own since Triton reads the source of its kernels."""
    target = f"archwright.kernels.{mutation.module}"
    path = Path(kernels.__file__).parent.joinpath(*mutation.module.split("."))
    package = path.is_dir()
    source = (path / "__init__.py" if package else path.with_suffix(".py")).read_text()
    assert source.count(mutation.old) == 1, f"{mutation}: the old text occurs {source.count(mutation.old)} times in {mutation.module}"
    altered = folder / f"{path.name}_broken.py"
    altered.write_text(source.replace(mutation.old, mutation.new))

    class Finder:
        @staticmethod
        def find_spec(name, _path=None, _target=None):
            if name != target:
                return None
            return importlib.util.spec_from_file_location(name, altered, submodule_search_locations=[str(path)] if package else None)

    sys.meta_path.insert(0, Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)
