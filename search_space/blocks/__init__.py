"""The blocks that come with Archwright; importing this package registers them all."""

from __future__ import annotations

from . import activations, channels, heads, mixers, norms, ops, stems, structure

__all__ = ["activations", "channels", "heads", "mixers", "norms", "ops", "stems", "structure"]
