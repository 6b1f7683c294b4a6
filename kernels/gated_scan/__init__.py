r"""Gated recurrences ``h_t = a_t h_{t-1} + x_t`` with what makes ``a`` and ``x`` fused into the scan, in both directions.

Each function takes what a layer's projections give (logits, not gates), so that no gate is rounded before it is used and none reaches
memory. Gates at exactly 0 and 1 are as good as any others: nothing is divided by a gate and no gate is taken through a logarithm.
States start from ``h0`` (None is zero) and the last one is returned beside all of them, in float32 or complex64 (float64, complex128
for such arguments), as in :func:`archwright.kernels.linear_scan`; ``reverse`` runs from the last step to the first. Every tensor
receives gradients, any number of times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dispatch import call
from ..scan.differentiable import Run
from .specs import SPECS


def rg_lru_scan(
    recurrence: Tensor, entry: Tensor, u: Tensor, log_odds: Tensor, h0: Tensor | None = None, *,
    c: float = 8.0, reverse: bool = False, backend: str | None = None,
) -> Run:  # fmt: skip
    """The real-gated linear recurrent unit of Griffin.

    ``log a_t = -c softplus(-log_odds) sigmoid(recurrence_t)``, ``h_t = a_t h_{t-1} + sqrt(1 - a_t^2) sigmoid(entry_t) u_t``.

    Args:
        recurrence, entry: logits of the two gates, (batch, steps, width).
        u: input, (batch, steps, width).
        log_odds: Lambda, (width,); ``sigmoid(log_odds) ** c`` is the decay under an open gate.
        h0: (batch, width).

    Returns:
        h: (batch, steps, width) in the dtype of ``u``. last: (batch, width).

    The square root is computed from ``log a`` without cancellation, and its gradient is finite and exact for ``a`` up to 1.

    Raises:
        ValueError: shapes do not match. TypeError: a dtype that is not served. BackendError: see dispatch.

    Paper: Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models (2024, 2402.19427).
    """
    _check("rg_lru_scan", {"recurrence": recurrence, "entry": entry, "u": u}, {"log_odds": log_odds}, h0)
    result: Run = call(SPECS["rg_lru_scan"], recurrence, entry, u, log_odds, h0, backend=backend, c=c, reverse=reverse)
    return result


def min_gru_scan(
    update: Tensor, candidate: Tensor, h0: Tensor | None = None, *, positive: bool = True, reverse: bool = False, backend: str | None = None
) -> Run:
    """The recurrence of minGRU, ``h_t = (1 - z_t) h_{t-1} + z_t g(candidate_t)`` with ``z_t = sigmoid(update_t)``.

    Args:
        update: logits of z, (batch, steps, width).
        candidate: (batch, steps, width).
        h0: (batch, width).
        positive: ``g(v) = v + 1/2`` for v >= 0 and ``sigmoid(v)`` below, which keeps states positive; otherwise ``g(v) = v``.

    Returns:
        h: (batch, steps, width) in the dtype of ``candidate``. last: (batch, width).

    Raises:
        ValueError: shapes do not match. TypeError: a dtype that is not served. BackendError: see dispatch.

    Paper: Were RNNs All We Needed? (2024, 2410.01201).
    """
    _check("min_gru_scan", {"update": update, "candidate": candidate}, {}, h0)
    result: Run = call(SPECS["min_gru_scan"], update, candidate, h0, backend=backend, positive=positive, reverse=reverse)
    return result


def hgrn_scan(
    forget: Tensor, value: Tensor, floor: Tensor | None = None, phase: Tensor | None = None, h0: Tensor | None = None, *,
    reverse: bool = False, backend: str | None = None,
) -> Run:  # fmt: skip
    """The hierarchically gated recurrence.

    ``f_t = floor + (1 - floor) sigmoid(forget_t)``, ``h_t = f_t e^{i phase} h_{t-1} + (1 - f_t) value_t``.

    Args:
        forget: logits, (batch, steps, width).
        value: (batch, steps, width), real or complex.
        floor: what the forget gate cannot fall below, (width,), in [0, 1]; None is 0.
        phase: angle by which a state turns at every step, (width,); None is 0.
        h0: (batch, width).

    Returns:
        h: (batch, steps, width), complex if ``phase`` is given or ``value`` or ``h0`` is complex, else in the dtype of ``value``.
        last: (batch, width).

    Raises:
        ValueError: shapes do not match. TypeError: a dtype that is not served. BackendError: see dispatch.

    Paper: Hierarchically Gated Recurrent Neural Network for Sequence Modeling (2023, 2311.04823).
    """
    _check("hgrn_scan", {"forget": forget, "value": value}, {"floor": floor, "phase": phase}, h0, complex_=("value", "h0"))
    if h0 is not None and (phase is not None or value.is_complex() or h0.is_complex()):
        value, h0 = (_complex(value) if h0.is_complex() else value), _complex(h0)
    result: Run = call(SPECS["hgrn_scan"], forget, value, floor, phase, h0, backend=backend, reverse=reverse)
    return result


def gate_loop_scan(
    magnitude: Tensor, phase: Tensor, key: Tensor, value: Tensor, h0: Tensor | None = None, *,
    input_gate: bool = False, reverse: bool = False, backend: str | None = None,
) -> Run:  # fmt: skip
    """The recurrence of GateLoop, one channel per head.

    ``h_t = a_t h_{t-1} + key_t value_t`` with ``a_t = sigmoid(magnitude_t) e^{i phase_t}``.

    Args:
        magnitude: logits of |a|, (batch, steps, width).
        phase: angles, (batch, steps, width).
        key, value: real, (batch, steps, width).
        h0: (batch, width).
        input_gate: multiply the input by ``1 - |a_t|``.

    Returns:
        h: (batch, steps, width), complex64 (complex128 for float64). last: (batch, width).

    Raises:
        ValueError: shapes do not match. TypeError: a dtype that is not served. BackendError: see dispatch.

    Paper: GateLoop: Fully Data-Controlled Linear Recurrence for Sequence Modeling (2023, 2311.01927).
    """
    _check("gate_loop_scan", {"magnitude": magnitude, "phase": phase, "key": key, "value": value}, {}, h0, complex_=("h0",))
    h0 = None if h0 is None else _complex(h0)
    spec = SPECS["gate_loop_scan"]
    result: Run = call(spec, magnitude, phase, key, value, h0, backend=backend, input_gate=input_gate, reverse=reverse)
    return result


def lru_scan(
    u: Tensor, nu: Tensor, theta: Tensor, log_gamma: Tensor, h0: Tensor | None = None, *, reverse: bool = False, backend: str | None = None
) -> Run:
    """The linear recurrent unit: ``h_t = exp(-exp(nu) + i theta) h_{t-1} + exp(log_gamma) u_t``.

    Args:
        u: B times the input, (batch, steps, width), real or complex.
        nu, theta, log_gamma: (width,). The gate has magnitude below 1 for every nu (exactly 1 and 0 where exp rounds to them).
        h0: (batch, width).

    Returns:
        h: (batch, steps, width), complex64 (complex128 for float64). last: (batch, width).

    Raises:
        ValueError: shapes do not match. TypeError: a dtype that is not served. BackendError: see dispatch.

    Paper: Resurrecting Recurrent Neural Networks for Long Sequences (2023, 2303.06349).
    """
    _check("lru_scan", {"u": u}, {"nu": nu, "theta": theta, "log_gamma": log_gamma}, h0, complex_=("u", "h0"))
    h0 = None if h0 is None else _complex(h0)
    result: Run = call(SPECS["lru_scan"], u, nu, theta, log_gamma, h0, backend=backend, reverse=reverse)
    return result


def _complex(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.dtype in (torch.float64, torch.complex128) else torch.complex64)


def _check(
    name: str, sequences: dict[str, Tensor], vectors: dict[str, Tensor | None], h0: Tensor | None, complex_: tuple[str, ...] = ()
) -> None:
    """One shape for the sequences, one for the vectors, one device, and dtypes that are served."""
    first = next(iter(sequences))
    shape = sequences[first].shape
    if len(shape) != 3:
        raise ValueError(f'The argument "{first}" of {name} must be (batch, steps, width). Got the shape {tuple(shape)} instead.')
    expected = {**dict.fromkeys(sequences, tuple(shape)), **dict.fromkeys(vectors, (shape[2],)), "h0": (shape[0], shape[2])}
    for argument, tensor in {**sequences, **vectors, "h0": h0}.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != expected[argument]:
            raise ValueError(
                f'The argument "{argument}" of {name} must have the shape {expected[argument]}. Got {tuple(tensor.shape)} instead.'
            )
        if not (tensor.is_floating_point() or (tensor.is_complex() and argument in complex_)):
            kinds = "floating point or complex" if argument in complex_ else "real floating point"
            raise TypeError(f'The argument "{argument}" of {name} must be {kinds}. Got {tensor.dtype} instead.')
        if tensor.device != sequences[first].device:
            raise ValueError(
                f'The argument "{argument}" of {name} must be on {sequences[first].device} like "{first}". Got {tensor.device} instead.'
            )
