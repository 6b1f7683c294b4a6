"""What every residual rule is: a module for the ends of a stream, and one for each write on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..specs import TensorSpec

Stream = Any  # whatever ``init`` makes: a tensor, or several


class Write(nn.Module):
    """One write on the stream; the plain rule x <- x + y.

    Args:
        shared: what the writes of one layer share (:meth:`Rule.layer`); owned by the stream, so kept out of this module's
            parameters.
    """

    def __init__(self, shared: nn.Module | None = None) -> None:
        super().__init__()
        self._shared = (shared,)

    @property
    def shared(self) -> Any:
        return self._shared[0]

    def read(self, stream: Stream) -> Tensor:
        """The input of the branch, before its norm."""
        return stream

    def write(self, stream: Stream, y: Tensor) -> Stream:
        """The stream after the branch gave ``y``."""
        return stream + y

    def skip(self, stream: Stream) -> Stream:
        """The stream where the branch is dropped: not ``write(stream, 0)`` for every rule."""
        return stream


class Rule(nn.Module):
    """The ends of a stream, and the factory of its writes; one object per stream.

    Args:
        spec: layout and shape of the tensor that opens the stream.
        total: number L of writes along the stream.
    """

    unwired: str | None = None  # for a rule with ports: the rule it is where nothing is wired

    def __init__(self, spec: TensorSpec, total: int) -> None:
        super().__init__()
        self.spec = spec
        self.total = total

    def init(self, x: Tensor) -> Stream:
        """The stream that ``x`` opens."""
        return x

    def final(self, stream: Stream) -> Tensor:
        """The tensor a stream ends as, before the final norm; its width may differ from that of ``init``."""
        return stream

    @classmethod
    def taking(cls, index: int, knobs: Mapping[str, Any]) -> dict[str, Any] | None:
        """For a rule with ports: the parameters a mixer of layer ``index`` gets to use them, or None where it shall not."""
        return {}

    def layer(self, index: int) -> nn.Module | None:
        """What the writes of layer ``index`` (0, 1, ...) share."""
        return None

    def write_at(self, k: int, shared: nn.Module | None) -> Write:
        """The write number ``k`` (0 ... total - 1)."""
        return Write(shared)
