"""What is registered, by kind, with knobs and papers: for people as a table, for tools as JSON."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from ..search_space.choices import Domain, Integer, OneOf, Real
from ..search_space.errors import RegistryError, did_you_mean
from ..search_space.plugins import load_plugin
from ..search_space.registry import Entry

_REGISTRIES = {
    "spaces": ("search_space.space", "SPACES"),
    "blocks": ("search_space.facts", "BLOCKS"),
    "residual-rules": ("search_space.facts", "RESIDUALS"),
    "tasks": ("evaluators.tasks", "TASKS"),
    "tables": ("evaluators.tables.registry", "TABLES"),
    "controllers": ("controllers.registry", "CONTROLLERS"),
    "evaluators": ("evaluators.registry", "EVALUATORS"),
    "proxies": ("evaluators.proxies.registry", "PROXIES"),
    "executors": ("evaluators.executors.registry", "EXECUTORS"),
    "predictors": ("predictors.registry", "PREDICTORS"),
    "stoppers": ("predictors.registry", "STOPPERS"),
    "kernels": ("kernels.spec", "KERNELS"),
}


def everything(plugins: Sequence[str] = (), kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Kind to the facts of everything registered under it; presets are a kind too."""
    for plugin in plugins:
        load_plugin(plugin)
    kinds = [*_REGISTRIES, "presets"]
    if kind is not None and kind not in kinds:
        raise RegistryError(f'There is no kind "{kind}" to list; {did_you_mean(kind, kinds)}')
    found = {name: _facts(name) for name in kinds if kind in (None, name)}
    return {name: rows for name, rows in found.items() if rows}


def _facts(kind: str) -> list[dict[str, Any]]:
    if kind == "presets":
        from .config import load_config, presets

        return [{"name": name, "summary": _preset_summary(load_config(path))} for name, path in presets().items()]
    module, attribute = _REGISTRIES[kind]
    registry = getattr(import_module(f"..{module}", __package__), attribute)
    return [_entry(name, registry[name]) for name in registry]


def _entry(name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Entry):  # a kernel: what its public function says
        function = entry.public.__name__
        said = _summary(getattr(import_module("..kernels", __package__), function, entry.public))
        return {"name": name, "summary": said if function == name else f"{function}: {said}"}
    facts: dict[str, Any] = {"name": name, "summary": _summary(entry.obj)}
    if entry.knobs:
        facts["knobs"] = {name: domain_text(domain) for name, domain in entry.knobs.items()}
    if entry.paper:
        facts["paper"] = entry.paper
    for fact in ("kind", "layouts", "norm"):
        value = getattr(entry.facts, fact, None)
        if value:
            facts[fact] = list(value) if isinstance(value, tuple) else value
    return facts


def _summary(obj: Any) -> str:
    return (inspect.getdoc(obj) or "").split("\n\n")[0].replace("\n", " ")


def _preset_summary(config: Any) -> str:
    on = config.task.name if config.task else f"the table {config.evaluator.params.get('table')}"
    epochs = f"{config.epochs} epoch{'' if config.epochs == 1 else 's'}"
    return f"{config.trials} trials of {config.space.name} on {on}, {config.controller.name}, {epochs} each"


def domain_text(domain: Domain | Any) -> str:
    """A domain in words: ``1..8``, ``0.05..32 (log)``, ``gelu | silu``."""
    if isinstance(domain, OneOf):
        return " | ".join(str(option) for option in domain.options)
    if isinstance(domain, Integer | Real):
        step = f" step {domain.step}" if domain.step not in (None, 1) else ""
        return f"{domain.low}..{domain.high}{step}{' (log)' if domain.log else ''}"
    return str(domain)


def listing_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """The listing as rich tables, one a kind."""
    from rich.console import Group
    from rich.table import Table

    tables = []
    for kind, rows in found.items():
        table = Table(title=f"{kind} ({len(rows)})", title_justify="left", title_style="bold", expand=False, pad_edge=False)
        table.add_column("name", style="cyan", no_wrap=True)
        if any("kind" in row for row in rows):
            table.add_column("kind")
        table.add_column("what")
        if any("knobs" in row for row in rows):
            table.add_column("knobs")
        if any("paper" in row for row in rows):
            table.add_column("paper", style="dim")
        for row in rows:
            table.add_row(*(_cell(row, column.header) for column in table.columns))
        tables.append(table)
    return Group(*tables)


def _cell(row: Mapping[str, Any], column: Any) -> str:
    if column == "what":
        return str(row["summary"])
    if column == "knobs":
        return "\n".join(f"{name}: {text}" for name, text in row.get("knobs", {}).items())
    return str(row.get(column, ""))
