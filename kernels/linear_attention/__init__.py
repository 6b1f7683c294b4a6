r"""Linear attention with decay: the state is a matrix per head, and every step adds one outer product to what is left of it.

.. math:: S_t = \mathrm{diag}(e^{g_t}) S_{t-1} + k_t^\top v_t, \qquad o_t = \mathrm{scale} \cdot q_t S_t

One kernel for linear attention (no decay; "Transformers are RNNs", 2020, 2006.16236), retention (one decay per head; "Retentive
Network: A Successor to Transformer for Large Language Models", 2023, 2307.08621), Mamba-2 (one per step and head; "Transformers are
SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality", 2024, 2405.21060) and gated linear attention
(one per step and key channel; "Gated Linear Attention Transformers with Hardware-Efficient Training", 2023, 2312.06635).
"""

from __future__ import annotations

from torch import Tensor

from ..dispatch import call
from ..spec import KERNELS, KernelSpec
from .cases import BENCHMARKS, CASES, SMALL_CASES, bytes_moved, flops, inputs
from .fast import fast
from .reference import Pair, reference, scale_of
from .serving import supports, triton, variants


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    backend: str | None = None,
) -> Pair:
    """Read a decaying matrix memory at every step: ``S_t = diag(e^(g_t)) S_(t-1) + k_t^T v_t`` and ``o_t = scale q_t S_t``.

    Args:
        q: queries, (batch, steps, heads, K).
        k: keys, (batch, steps, heads, K).
        v: values, (batch, steps, heads, V).
        log_decay: g, at most 0 (not checked): (heads) for retention, (batch, steps, heads) for Mamba-2, (batch, steps, heads, K) for
            gated linear attention; None for no decay. -inf forgets everything.
        state: the state before the first step, (batch, heads, K, V); None is zero.
        scale: what queries are multiplied by; None is ``K ** -0.5``.
        chunk: steps worked on side by side, a hint that changes the cost and nothing else; strong decays take fewer, Triton takes its own.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        out: (batch, steps, heads, V) in the dtype of ``v``.
        last: the state after the last step, (batch, heads, K, V), in float32 (float64 for float64 inputs); feed it as ``state`` to go on.

    Gradients flow to every tensor from both results, any number of times.

    Raises:
        ValueError: shapes, devices or ``chunk`` do not fit. TypeError: a tensor is not floating point. BackendError: see dispatch.
    """
    _check(q, k, v, log_decay, state, chunk)
    result: Pair = call(SPEC, q, k, v, log_decay, state, backend=backend, scale=scale_of(q, scale), chunk=chunk)
    return result


def _check(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, chunk: int | None) -> None:
    named = {"q": q, "k": k, "v": v, "log_decay": log_decay, "state": state}
    for name, tensor in named.items():
        if tensor is not None and not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of linear_attention must be real floating point. Got {tensor.dtype} instead.')
    if q.dim() != 4 or k.shape != q.shape or v.shape[:-1] != q.shape[:-1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (q, k, v))
        raise ValueError(f"linear_attention needs q and k (batch, steps, heads, K) and v (batch, steps, heads, V). Got {shapes}.")
    allowed = (q.shape[2:3], q.shape[:3], q.shape)
    if log_decay is not None and log_decay.shape not in allowed:
        shapes = ", ".join(str(tuple(shape)) for shape in allowed)
        raise ValueError(f"linear_attention needs log_decay of one of the shapes {shapes}. Got {tuple(log_decay.shape)} instead.")
    expected = (q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    if state is not None and state.shape != expected:
        raise ValueError(f"linear_attention needs state of shape {expected}, (batch, heads, K, V). Got {tuple(state.shape)} instead.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"linear_attention needs chunks of at least one step. Got chunk={chunk}.")
    devices = {tensor.device for tensor in named.values() if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"linear_attention needs its tensors on one device. Got {sorted(map(str, devices))}.")


SPEC = KERNELS.add(
    KernelSpec(
        name="linear_attention",
        public=linear_attention,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=inputs,
        cases=CASES,
        small_cases=SMALL_CASES,
        differentiable=("q", "k", "v", "log_decay", "state"),
        # the strongest decay of all samples chooses the chunk on a CPU
        per_sample=("q", "k", "v", "state"),
        bytes=bytes_moved,
        flops=flops,
        supports=supports,
        benchmarks=BENCHMARKS,
        variants=variants,
    )
)
