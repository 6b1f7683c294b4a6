r"""A norm over the last axis, its affine map, an activation and the residual sum before it, as one operation.

.. math:: h = x + residual, \quad y = \phi(\gamma \hat h + \beta)

where :math:`\hat h` is :math:`(h - \mu)/\sqrt{var + eps}` (layer), :math:`h / \sqrt{mean(h^2) + eps}` (rms), or
:math:`h / \max(\lVert h \rVert, eps)` with a single gain (scale). "Layer Normalization" (2016, 1607.06450), "Root Mean Square Layer
Normalization" (2019, 1910.07467), "Transformers without Tears: Improving the Normalization of Self-Attention" (2019, 1910.05895).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .dispatch import call
from .function import Core, Optional, Tensors, accumulate_dtype, fused
from .known_bad import refusal
from .spec import KERNELS, Benchmark, Inputs, KernelSpec, Variant

NORMS = ("layer", "rms", "scale")
ACTIVATIONS = ("identity", "relu", "relu2", "silu", "gelu", "tanh")
WIDEST = 4096


def norm_act(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    norm: str = "layer",
    act: str = "identity",
    eps: float = 1e-5,
    backend: str | None = None,
) -> Any:
    """``act(norm(x + residual) * weight + bias)`` over the last axis.

    Args:
        x: (..., width), real.
        weight: gains, (width); for ``norm="scale"`` one gain, a tensor without axes. None is one.
        bias: (width); None is zero.
        residual: as ``x``; its sum with ``x`` is what is normalised.
        norm: ``layer``, ``rms`` or ``scale``.
        act: ``identity``, ``relu``, ``relu2`` (its square), ``silu``, ``gelu`` (exact) or ``tanh``.
        eps: added to the variance or mean square; for ``scale`` the least length a row is divided by.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        y: as ``x``; with a residual the pair (y, x + residual).

    Statistics are in float32 (float64 for float64 inputs). Differentiable any number of times in every tensor.

    Raises:
        ValueError: a shape, the norm, the activation or eps does not fit. TypeError: a tensor is not real floating point.
        BackendError: see dispatch.
    """
    _check(x, weight, bias, residual, norm, act, eps)
    return call(SPEC, x, weight, bias, residual, backend=backend, norm=norm, act=act, eps=eps)


def _check(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, norm: str, act: str, eps: float) -> None:
    if norm not in NORMS:
        raise ValueError(f'norm_act knows the norms {", ".join(NORMS)}. Got norm="{norm}" instead.')
    if act not in ACTIVATIONS:
        raise ValueError(f'norm_act knows the activations {", ".join(ACTIVATIONS)}. Got act="{act}" instead.')
    if not eps > 0:
        raise ValueError(f"norm_act needs eps above 0. Got {eps} instead.")
    if x.dim() == 0:
        raise ValueError("norm_act normalises the last axis of x. Got a tensor without axes.")
    gain = () if norm == "scale" else (x.shape[-1],)
    for name, tensor, shape in (("x", x, x.shape), ("weight", weight, gain), ("bias", bias, x.shape[-1:]), ("residual", residual, x.shape)):
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of norm_act must be real floating point. Got {tensor.dtype} instead.')
        if tensor.shape != shape:
            raise ValueError(f'norm_act with norm="{norm}" needs {name} of shape {tuple(shape)}. Got {tuple(tensor.shape)} instead.')


# --- reference: the definition ---------------------------------------------------------------------------------------


_POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh}


def activate(z: Tensor, act: str) -> Tensor:
    if act == "identity":
        return z
    if act == "relu2":
        return F.relu(z).square()
    return _POINTWISE[act](z)


def reference(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *, norm: str, act: str, eps: float
) -> Tensor | Tensors:
    h = x if residual is None else (x + residual).to(x.dtype)
    if norm == "layer":
        centred = h - h.mean(-1, keepdim=True)
        z = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    elif norm == "rms":
        z = h / (h.square().mean(-1, keepdim=True) + eps).sqrt()
    else:
        z = h / torch.linalg.vector_norm(h, dim=-1, keepdim=True).clamp_min(eps)
    z = z if weight is None else z * weight
    z = z if bias is None else z + bias
    y = activate(z, act).to(x.dtype)
    return y if residual is None else (y, h)


def composed(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *, norm: str, act: str, eps: float
) -> Tensor | Tensors:
    """PyTorch's own functions one after the other."""
    h = x if residual is None else x + residual
    if norm == "layer":
        z = F.layer_norm(h, h.shape[-1:], weight, bias, eps)
    else:
        z = F.rms_norm(h, h.shape[-1:], weight, eps) if norm == "rms" else F.normalize(h, dim=-1, eps=eps)
        z = z if norm == "rms" or weight is None else z * weight
        z = z if bias is None else z + bias
    y = activate(z, act)
    return y if residual is None else (y, h)


# --- fast: PyTorch ------------------------------------------------------------------------------------------------------


def fast(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *, norm: str, act: str, eps: float
) -> Tensor | Tensors:
    """PyTorch's layer norm and activations, which are fused there already; rms and scale, which are not, by closed forms.

    The sum, the activation and the square are left to autograd: saving their input costs less than computing it again.
    """
    if x.numel() == 0:
        return reference(x, weight, bias, residual, norm=norm, act=act, eps=eps)
    h = x if residual is None else (x + residual).to(x.dtype)
    if norm == "layer":
        weight, bias = (None if tensor is None else tensor.to(x.dtype) for tensor in (weight, bias))
        z = F.layer_norm(h, h.shape[-1:], weight, bias, eps)
    else:
        (z,) = fused(_BY_LENGTH, h, weight, bias, norm=norm, eps=eps)
    if act == "relu2":
        from .relu2 import fast as relu2

        y = relu2(z)
    else:
        y = activate(z, act)
    y = y.to(x.dtype)
    return y if residual is None else (y, h)


def _by_length(h: Tensor, weight: Tensor | None, bias: Tensor | None, *, norm: str, eps: float) -> tuple[Tensors, Optional]:
    """The norms that divide by a length; the reciprocal length of every row is kept."""
    dtype = accumulate_dtype(h, weight, bias)
    rows = h.to(dtype)
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    reciprocal = (length.square() / h.shape[-1] + eps).rsqrt_() if norm == "rms" else length.clamp_min(eps).reciprocal_()
    z = rows * reciprocal
    if weight is not None:
        z.mul_(weight)
    if bias is not None:
        z.add_(bias)
    return (z.to(h.dtype),), (reciprocal,)


def _by_length_backward(
    args: Any, outputs: Any, saved: Any, cotangents: Any, wanted: tuple[bool, ...], *, norm: str, eps: float
) -> Optional:
    """dh = r dn - h r^3 share <h, dn> with dn = dz weight; a row below the least length is only scaled."""
    (h, weight, bias), (r,), (dz,) = args, saved, cotangents
    width = h.shape[-1]
    rows, dz, r = h.reshape(-1, width).to(r.dtype), dz.reshape(-1, width).to(r.dtype), r.reshape(-1, 1)
    product = rows * dz
    dh = dweight = dbias = None
    if weight is not None and wanted[1]:
        dweight = (r.T @ product).squeeze(0)
        dweight = (dweight.sum() if norm == "scale" else dweight).to(weight.dtype)
    if bias is not None and wanted[2]:
        dbias = dz.sum(0).to(bias.dtype)
    if wanted[0]:
        if weight is None or norm == "scale":
            along = product.sum(1, keepdim=True)
            along = along if weight is None else along * weight
        else:
            along = (product @ weight.to(r.dtype)).unsqueeze(1)
        share = r.pow(3) * along
        share = share / width if norm == "rms" else share.masked_fill_(r * eps >= 1, 0)
        scaled = torch.mul(dz, r, out=product) if weight is None else torch.mul(dz, weight, out=product).mul_(r)
        dh = scaled.addcmul_(rows, share, value=-1).view(h.shape).to(h.dtype)
    return dh, dweight, dbias


def _by_length_reference(h: Tensor, weight: Tensor | None, bias: Tensor | None, *, norm: str, eps: float) -> Any:
    return reference(h, weight, bias, None, norm=norm, act="identity", eps=eps)


_BY_LENGTH = Core(_by_length, _by_length_backward, _by_length_reference)


# --- Triton ------------------------------------------------------------------------------------------------------------


def triton(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *, norm: str, act: str, eps: float
) -> Tensor | Tensors:
    """One launch per direction; see :mod:`archwright.kernels.norm_act_triton`."""
    from .norm_act_triton import backward, forward

    core = Core(forward, backward, reference)
    results = fused(core, x, weight, bias, residual, outputs=1 if residual is None else 2, norm=norm, act=act, eps=eps)
    return results[0] if residual is None else results


def supports(x: Tensor, *others: Tensor | None, **options: Any) -> str | None:
    if x.shape[-1] > WIDEST:
        return f"a row of {x.shape[-1]} elements does not fit into the registers of one program; {WIDEST} do."
    return refusal(x, kernel="norm_act")


def variants() -> list[Variant]:
    from . import norm_act_triton

    return norm_act_triton.variants()


# --- spec --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One size and setting; ``scale`` multiplies the inputs, ``shift`` moves them."""

    rows: int
    width: int
    norm: str = "layer"
    act: str = "identity"
    weight: bool = True
    bias: bool = True
    residual: bool = False
    scale: float = 1.0
    shift: float = 0.0

    def __str__(self) -> str:
        given = "".join(f"-{name}" for name in ("weight", "bias", "residual") if getattr(self, name))
        values = "" if (self.scale, self.shift) == (1.0, 0.0) else f"-{self.scale:g}x+{self.shift:g}"
        return f"{self.rows}x{self.width}-{self.norm}-{self.act}{given}{values}"


def _inputs(case: Case, dtype: torch.dtype, device: str, generator: torch.Generator) -> Inputs:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = case.scale * draw(case.rows, case.width) + case.shift
    weight = (1 + 0.3 * draw(*(() if case.norm == "scale" else (case.width,)))) if case.weight else None
    bias = 0.3 * draw(case.width) if case.bias else None
    residual = case.scale * draw(case.rows, case.width) if case.residual else None
    made = tuple(None if t is None else t.to(device=device, dtype=dtype) for t in (x, weight, bias, residual))
    return Inputs(made, {"norm": case.norm, "act": case.act, "eps": 1e-5})


def _bytes(case: Case, dtype: torch.dtype, direction: str) -> int:
    """Forward reads x and writes y; backward reads x, dy and writes dx; a residual adds one read and one write or read."""
    moved = {"forward": 2, "backward": 3}[direction] + 2 * case.residual
    return moved * case.rows * case.width * dtype.itemsize


def _flops(case: Case, direction: str) -> int:
    return {"forward": 10, "backward": 20}[direction] * case.rows * case.width


_FIRST = Case(11, 5, "layer", "silu", residual=True)
# Two things are ill-conditioned and left to tests/kernels/test_norm_act.py: the gradient of the one gain of "scale" over many
# elements, a sum whose terms cancel, and rows of one to four elements, whose gradient is nearly or exactly zero.
_SETTINGS = (
    *(Case(9, 5, norm, act, residual=norm == "rms") for norm in ("layer", "rms") for act in ACTIVATIONS),
    *(Case(2, 4, "scale", act) for act in ACTIVATIONS),
)
_GIVEN = tuple(
    Case(7, 6, norm, "gelu", weight and norm != "scale", bias, residual)
    for norm in NORMS
    for weight, bias, residual in ((False, False, False), (True, False, False), (False, True, True))
)
_CASES = (
    *_SETTINGS,
    *_GIVEN,
    *(Case(3, width, norm, "silu", weight=norm != "scale") for width in (5, 31, 32, 33, 96, 127) for norm in NORMS),
    *(Case(2, 4097, norm, weight=norm != "scale", residual=True) for norm in NORMS),
    *(Case(rows, width, "rms", residual=True) for rows, width in ((0, 5), (5, 0))),
    Case(0, 5, "scale"),
    *(Case(4, 64, norm, "tanh", weight=norm != "scale", scale=100.0) for norm in NORMS),
    *(Case(4, 64, norm, weight=norm != "scale", scale=1e-4) for norm in NORMS),
    Case(4, 64, "layer", shift=3.0),
)
_SEARCH, _LARGE = Case(8192, 64, "layer", "silu", residual=True), Case(2048, 1024, "layer", "silu", residual=True)

SPEC = KERNELS.add(
    KernelSpec(
        name="norm_act",
        public=norm_act,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=_inputs,
        cases=_CASES,
        small_cases=(
            _FIRST,
            *_SETTINGS[1:],
            *_GIVEN,
            Case(75, 6, "layer", "gelu"),
            Case(75, 6, "scale", "gelu", weight=False),
            Case(3, 33, "layer", "tanh", scale=100.0),
            Case(2, 2100, "layer", "relu2", residual=True),
        ),
        differentiable=("x", "weight", "bias", "residual"),
        per_sample=("x", "residual"),
        bytes=_bytes,
        flops=_flops,
        supports=supports,
        min_work=1 << 20,
        peers={"torch": composed},
        benchmarks=(
            Benchmark(_SEARCH, 0.9, against="torch"),
            Benchmark(_LARGE, 0.9, against="torch"),
            Benchmark(Case(8192, 64, "rms", "silu", bias=False), 2, against="torch"),
            Benchmark(Case(2048, 1024, "rms", "silu", bias=False), 2, against="torch"),
            Benchmark(Case(8192, 64, "scale", bias=False), 1.5, against="torch"),
        ),
        variants=variants,
    )
)
