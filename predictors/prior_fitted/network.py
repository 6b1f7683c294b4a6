"""The transformer: rows of other candidates in, the distribution of a candidate's final value out."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .bars import BARS, first_guess
from .rows import WIDTH

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values [B, heads, n + 1, d / heads] of every layer."""


class RowTransformer(nn.Module):
    """A pre-norm transformer without positions: the order of the candidates means nothing.

    Rows of the context attend to each other and to one learned row; rows asked about attend to those and not to each other, so
    what the context says is computed once for all of them.

    Args:
        width: of the residual stream.
        layers, heads: of attention.
        hidden: width of the feed-forward layers.
    """

    def __init__(self, *, width: int = 128, layers: int = 5, heads: int = 4, hidden: int = 384) -> None:
        super().__init__()
        self.sizes = {"width": width, "layers": layers, "heads": heads, "hidden": hidden}
        self.empty = nn.Parameter(torch.zeros(1, 1, width))
        self.embed = nn.Sequential(nn.Linear(WIDTH, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.layers = nn.ModuleList(_Layer(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BARS + 2)
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            self.head.bias.copy_(torch.from_numpy(first_guess()))

    def memory(self, context: Tensor) -> Memory:
        """What rows asked about attend to; ``context`` is [B, n, WIDTH], n may be 0."""
        stream = torch.cat([self.empty.expand(len(context), -1, -1), self.embed(context)], dim=1)
        kept: Memory = []
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            kept.append(layer.keys_values(stream))
            stream = layer(stream, kept[-1])
        return kept

    def answer(self, memory: Memory, asked: Tensor) -> Tensor:
        """Log probabilities [B, m, 82] of the classes for rows ``asked`` [B, m, WIDTH]."""
        stream = self.embed(asked)
        for layer, kept in zip(self.layers, memory, strict=True):
            stream = layer(stream, kept)
        return functional.log_softmax(self.head(self.norm(stream)), dim=-1)

    def forward(self, context: Tensor, asked: Tensor) -> Tensor:
        return self.answer(self.memory(context), asked)


class _Layer(nn.Module):
    """Attention of some rows to others, then a feed-forward layer; both begin with a norm and add to the stream."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.forth = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def keys_values(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.key_value(self.before(stream)).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, stream: Tensor, kept: tuple[Tensor, Tensor]) -> Tensor:
        seen = functional.scaled_dot_product_attention(self._split(self.query(self.before(stream))), *kept)
        stream = stream + self.out(seen.transpose(1, 2).flatten(2))
        return stream + self.forth(stream)

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def save_network(network: RowTransformer, path: Path | str) -> None:
    """Write the weights as safetensors, with the sizes of the network as metadata."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, path, {name: str(size) for name, size in network.sizes.items()})


def load_network(path: Path | str) -> RowTransformer:
    """The network that :func:`save_network` wrote.

    Raises:
        OSError, SafetensorError, ValueError, TypeError, RuntimeError: the file is missing or holds something else.
    """
    with safe_open(path, "pt") as file:
        network = RowTransformer(**{name: int(size) for name, size in (file.metadata() or {}).items()})
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return network.eval().requires_grad_(False)
