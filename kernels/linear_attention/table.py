"""No decay, or one number per step and head: what two rows of a chunk have to do with each other is a table of numbers up to one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Table:
    """Products of decays within chunks: for each of them (groups = chunks), per head (groups = heads) or the same everywhere (1).

    Args:
        inner: from after row j up to row i, (groups, C, C); zero for j > i, one for j = i.
        enter: from the beginning of the chunk up to row i, (groups, C, 1).
        leave: from after row j to the end, (groups, C, 1).
    """

    inner: Tensor
    enter: Tensor
    leave: Tensor

    @staticmethod
    def of(decay: Tensor) -> Table:
        """From the decays (groups, C) of each row: each row of the table is the one above times its decay."""
        groups, size = decay.shape
        table = decay.new_zeros(groups, size, size + 1)  # column 0 is the beginning, column j + 1 is row j
        table.diagonal(1, 1, 2).fill_(1)
        table[:, 0, 0] = decay[:, 0]
        for i in range(1, size):
            torch.mul(table[:, i - 1, : i + 1], decay[:, i : i + 1], out=table[:, i, : i + 1])
        return Table(table[:, :, 1:].contiguous(), table[:, :, :1].contiguous(), table[:, -1, 1:, None].contiguous())


def times_(tensor: Tensor, factor: Tensor) -> Tensor:
    """``tensor`` (chunks, ...) multiplied in place by ``factor`` (groups, ...), chunks being counted by heads last."""
    tensor.unflatten(0, (-1, len(factor))).mul_(factor)
    return tensor


def times(tensor: Tensor, factor: Tensor) -> Tensor:
    return torch.mul(tensor.unflatten(0, (-1, len(factor))), factor).flatten(0, 1)
