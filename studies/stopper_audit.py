"""What a stopper says of itself: saved, risked, and the audit so far; a small file in the study's folder, kept up to date."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..search_space.files import write_atomically

FILE = "stopping.json"


def write_audit(folder: Path, stopper: Any) -> None:
    """Write what ``stopper.audit()`` returns; nothing where the stopper has no such method."""
    audit = getattr(stopper, "audit", None)
    if callable(audit):
        write_atomically(folder / FILE, json.dumps({name: float(value) for name, value in audit().items()}) + "\n")


def read_audit(folder: Path) -> dict[str, float]:
    """The audit on file; empty where there is none."""
    try:
        found = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): float(value) for name, value in found.items()} if isinstance(found, dict) else {}


def in_words(audit: Mapping[str, float]) -> str:
    """One line for people; empty where nothing is known.

    >>> in_words({"saved": 0.75, "risk": 0.05, "audited": 4.0, "audit_lost": 0.0})
    'steps saved 75%; stated risk 5%; audit: 0 of 4 let run at random would have been a loss'
    """
    parts = [f"steps saved {audit['saved']:.0%}"] if "saved" in audit else []
    parts += [f"stated risk {audit['risk']:.0%}"] if "risk" in audit else []
    if "audited" in audit:
        parts.append(f"audit: {audit.get('audit_lost', 0):.0f} of {audit['audited']:.0f} let run at random would have been a loss")
    return "; ".join(parts)
