"""Hyper-connections: several copies of the stream with learned mixing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...kernels.hyper_connection import hyper_read, hyper_write
from ..choices import Integer, OneOf
from ..errors import BuildError
from ..facts import residual
from ..specs import TensorSpec
from .rule import Rule, Stream, Write

START_SCALE = 0.01
EPSILON = 1e-6


class Mixing(nn.Module):
    """The matrix [[0, B], [A_m, A_r]] of one write, fixed or computed from the stream.

    Static: A_m = e_{k mod n}, A_r = I, B = 1 at the start; n^2 + 2n parameters. Dynamic adds, with H' = RMSNorm(H) over the
    channels of each copy, ``s_a act(H' w_m)``, ``s_a act(H' W_r)`` and ``s_b act(H' w_b)``, the maps zero and s_a = s_b = 0.01 at
    the start, act = tanh or the identity: D (n + 2) + 2 + D more parameters.
    """

    def __init__(self, streams: int, width: int, k: int, dynamic: bool, tanh: bool) -> None:
        super().__init__()
        self.read = nn.Parameter(nn.functional.one_hot(torch.tensor(k % streams), streams).to(torch.get_default_dtype()))  # A_m
        self.keep = nn.Parameter(torch.eye(streams))  # A_r
        self.give = nn.Parameter(torch.ones(streams))  # B
        for static in (self.read, self.keep, self.give):
            static.no_weight_decay = True  # type: ignore[attr-defined]
        self.dynamic, self.tanh, self.streams = dynamic, tanh, streams
        if dynamic:
            self.gain = nn.Parameter(torch.ones(width))
            self.maps = nn.Parameter(torch.zeros(width, streams + 2))  # w_m | w_b | W_r
            self.scale_read = nn.Parameter(torch.tensor(START_SCALE))  # s_a
            self.scale_give = nn.Parameter(torch.tensor(START_SCALE))  # s_b

    def reading(self, rows: Tensor) -> Tensor:
        """A_m [..., n] (or [n]) for the copies ``rows`` [..., n, D]."""
        if not self.dynamic:
            return self.read
        return self.read + self.scale_read * self._moved(rows, self.maps[:, :1]).squeeze(-1)

    def writing(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """A_r [..., n, n] (or [n, n]) and B [..., n] (or [n])."""
        if not self.dynamic:
            return self.keep, self.give
        moved = self._moved(rows, self.maps[:, 1:])
        return self.keep + self.scale_read * moved[..., 1:], self.give + self.scale_give * moved[..., 0]

    def mixed(self, keep: Tensor, rows: Tensor) -> Tensor:
        """A_r' H; fixed matrices go through einsum, which does not copy them to every position."""
        return keep.transpose(-1, -2) @ rows if self.dynamic else torch.einsum("ij,...id->...jd", keep, rows)

    def _moved(self, rows: Tensor, maps: Tensor) -> Tensor:
        """act(RMSNorm(H) W): the norm is a factor per row, so it is applied after the product."""
        mean_square = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).square() / rows.shape[-1]
        moved = rows @ (self.gain.unsqueeze(-1) * maps) * torch.rsqrt(mean_square + EPSILON)
        return torch.tanh(moved) if self.tanh else moved


class MixedWrite(Write):
    """read: h = A_m' H. write: H_j <- sum_i A_r[i, j] H_i + B_j y. skip: the copies mix, nothing is added."""

    def __init__(self, mixing: Mixing, image: bool) -> None:
        super().__init__()
        self.mixing = mixing
        self.image = image

    def read(self, stream: Stream) -> Tensor:
        x = hyper_read(stream, self.mixing.reading(stream))
        return x.movedim(-1, 1) if self.image else x

    def write(self, stream: Stream, y: Tensor) -> Stream:
        keep, give = self.mixing.writing(stream)
        y = y.movedim(1, -1) if self.image else y
        return hyper_write(stream, y, give, keep)

    def skip(self, stream: Stream) -> Stream:
        return self.mixing.mixed(self.mixing.writing(stream)[0], stream)


@residual(
    "hyper-connections",
    norm="branch",
    knobs={
        "n_streams": Integer(2, 8),
        "dynamic": OneOf((True, False)),
        "tanh": OneOf((True, False)),
        "final": OneOf(("sum", "mean")),
    },
    paper="Hyper-Connections (2024, 2409.19606)",
)
class HyperConnections(Rule):
    """n copies H of the stream; each write reads a mixture, mixes the copies, and gives to each (see :class:`MixedWrite`).

    init: n copies of x, [B, ..., n, D]. final: their sum or mean. At the start the copies stay equal, and the network is the
    pre-norm one (n times its stream before the final norm, with ``sum``).
    """

    def __init__(
        self, spec: TensorSpec, total: int, *, n_streams: int = 4, dynamic: bool = True, tanh: bool = True, final: str = "sum"
    ) -> None:
        super().__init__(spec, total)
        if n_streams < 1:
            raise BuildError(f'The "n_streams" parameter of "hyper-connections" must be at least 1. Got {n_streams!r} instead.')
        if final not in ("sum", "mean"):
            raise BuildError(f'The "final" parameter of "hyper-connections" must be sum or mean. Got {final!r} instead.')
        self.n_streams, self.dynamic, self.tanh, self.ending = n_streams, dynamic, tanh, final
        self.image = spec.layout == "image"

    def init(self, x: Tensor) -> Stream:
        x = x.movedim(1, -1) if self.image else x
        return x.unsqueeze(-2).repeat_interleave(self.n_streams, -2)

    def final(self, stream: Stream) -> Tensor:
        # a weighted sum, since the gradient of a plain one is broadcast, which makes small matrix products slow on CPU
        weight = 1.0 if self.ending == "sum" else 1.0 / self.n_streams
        x = (stream * weight).sum(-2)
        return x.movedim(-1, 1) if self.image else x

    def write_at(self, k: int, shared: nn.Module | None) -> Write:
        mixing = Mixing(self.n_streams, self.spec.width, k, self.dynamic, self.tanh)
        return MixedWrite(mixing, self.image)
