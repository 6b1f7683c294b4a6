"""What attention and Hopfield retrieval share: heads, and attention of the newest tokens to all seen so far."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import BuildError
from ..initialise import checked


def checked_heads(block: str, width: int, heads: int) -> int:
    """``heads`` if it divides ``width``.

    Raises:
        BuildError: it does not.
    """
    if width % checked(block, "heads", heads):
        raise BuildError(f'"{block}" cannot split a width of {width} into {heads} heads; choose heads that divide the width.')
    return heads


def split(x: Tensor, heads: int) -> Tensor:
    """[batch, tokens, width] -> [batch, heads, tokens, width / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """[batch, heads, tokens, head width] -> [batch, tokens, width]."""
    return x.transpose(1, 2).flatten(2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool, scale: float | None = None) -> Tensor:
    """``softmax(scale Q K') V`` where the queries belong to the last of the tokens that have keys.

    Args:
        queries: [batch, heads, new tokens, head width].
        keys, values: [batch, heads, all tokens, head width].
        causal: query t reads keys up to its own position.
        scale: inverse temperature; None is ``head width ** -0.5``.
    """
    new, seen = queries.shape[-2], keys.shape[-2]
    if not causal or new == 1:
        return F.scaled_dot_product_attention(queries, keys, values, scale=scale)
    if new == seen:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
    mask = torch.ones(new, seen, dtype=torch.bool, device=queries.device).tril(seen - new)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)


def appended(past: Tensor | None, new: Tensor) -> Tensor:
    """``new`` after ``past`` along the token axis."""
    return new if past is None else torch.cat([past, new], dim=1)


def refuse_state(block: str, causal: bool, state: object) -> None:
    """Raise BuildError when a mixer that reads both directions is asked to go on from a state."""
    if not causal and state is not None:
        raise BuildError(f'"{block}" with causal=False reads the whole sequence at once; it has no state to go on from. Use causal=True.')
