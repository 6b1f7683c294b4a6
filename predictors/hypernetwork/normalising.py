"""Decoded numbers of about unit variance made into weights that keep the scale of what flows through a network."""

from __future__ import annotations

from torch import Tensor

from .graph import Slot


def normalised(w: Tensor, slot: Slot, *, normalise: bool = True) -> Tensor:
    """Weights [t, *shape] of tensors like ``slot`` from decoded numbers [t, *shape].

    * ``matrix``, ``classifier``: ``w sqrt(beta / fan_in)``; beta = 2 for kernels that mix channels, which stand beside a ReLU,
      else 1;
    * ``scale``: ``2 sigmoid(w / 2)``, and ``bias``: ``tanh(0.2 w)``;
    * ``own``: the start that the block gives, plus ``tanh(0.2 w)``, over the root of fan_in where there are two axes or more.

    Without ``normalise`` the numbers are the weights, or the change of the start.
    """
    if not normalise:
        return w if slot.start is None else slot.start.to(w) + w
    if slot.kind == "scale":
        return 2.0 * (w / 2.0).sigmoid()
    if slot.kind == "bias":
        return (0.2 * w).tanh()
    if slot.kind == "own":
        assert slot.start is not None
        change = (0.2 * w).tanh() / (slot.fan_in**0.5 if len(slot.shape) > 1 else 1.0)
        return slot.start.to(w) + change
    beta = 2.0 if len(slot.shape) > 2 and slot.shape[1] > 1 else 1.0
    return w * (beta / slot.fan_in) ** 0.5
