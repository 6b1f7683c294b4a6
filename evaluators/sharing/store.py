"""The store behind inheritance: one file of tensors for each thing that must match, with the score of their owner."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...search_space.architecture import Architecture
from ...search_space.facts import BLOCKS
from ...search_space.files import write_atomically
from ..training.loop import Training
from .labels import Owner, check_named, is_norm, owner_of, owners_of

MATCHING = ("heads", "attention", "activation")

Groups = Mapping[str, tuple[str, ...]]  # key -> names of the parameters that are inherited together


def groups_of(network: nn.Module, architecture: Architecture, mode: str) -> dict[str, tuple[str, ...]]:
    """What a candidate may inherit: for each node its key and the names of its parameters, norms left out.

    Raises:
        EvaluationError: a layer is not named by its choice scope.
    """
    if mode == "none":
        return {}
    check_named(architecture)
    owners = owners_of(architecture)
    fresh = {name for name, module in network.named_modules() if is_norm(module)}
    names: dict[str, list[str]] = defaultdict(list)
    for name, _ in network.named_parameters():
        owner = owner_of(name, owners)
        of_norm = any(name.startswith(f"{norm}.") for norm in fresh)
        if not (of_norm or owner.block == "close" or owner.block.startswith("open:")):
            names[owner.prefix].append(name)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    return {_key(owners[prefix], [(n, shapes[n]) for n in found], mode): tuple(found) for prefix, found in names.items()}


def _key(owner: Owner, tensors: list[tuple[str, tuple[int, ...]]], mode: str) -> str:
    same: list[Any] = [owner.prefix, owner.block, tensors]
    if mode == "constrained":
        own = getattr(BLOCKS[owner.block].obj, "share_key", None) if owner.block in BLOCKS else None
        same.append(own(owner.params) if own is not None else [owner.params.get(name) for name in MATCHING])
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:32]


class Store:
    """Tensors by key in a folder; safetensors with the owner's score as metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def score(self, key: str) -> float | None:
        """The score of the owner of what is held under ``key``; None where nothing is."""
        from safetensors import safe_open

        path = self.folder / f"{key}.safetensors"
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            return float((file.metadata() or {})["score"])

    def tensors(self, key: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        path = self.folder / f"{key}.safetensors"
        return load_file(path) if path.exists() else {}

    def offer(self, groups: Groups, network: nn.Module, score: float) -> None:
        """Keep the network's tensors wherever the key is empty or the score beats the owner's."""
        from filelock import FileLock
        from safetensors.torch import save

        self.folder.mkdir(parents=True, exist_ok=True)
        values = dict(network.named_parameters())
        with FileLock(self.folder / "lock"):
            for key, names in groups.items():
                before = self.score(key)
                if before is None or score > before:
                    tensors = {name: values[name].detach().cpu().contiguous().clone() for name in names}
                    write_atomically(self.folder / f"{key}.safetensors", save(tensors, metadata={"score": repr(score)}))


def keep_inherited(training: Training, groups: Groups, store: Store, path: Path, key: str) -> float:
    """Give a fresh training what the store holds for it, and write that to ``path``; a continued one reads it there.

    Returns:
        The share of the network's learnable numbers that are inherited.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    known = None
    if path.exists():
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get("key")
    if known == key:
        found = load_file(path)
    else:
        found = {name: tensor for group in groups for name, tensor in store.tensors(group).items()}
        write_atomically(path, save(found, metadata={"key": key}))
    own = dict(training.network.named_parameters())
    averaged = dict(training.kept.named_parameters())
    with torch.no_grad():
        for name, tensor in found.items():
            own[name].copy_(tensor)
            averaged[name].copy_(tensor)
    total = sum(parameter.numel() for parameter in own.values())
    return sum(tensor.numel() for tensor in found.values()) / total if total else 0.0
