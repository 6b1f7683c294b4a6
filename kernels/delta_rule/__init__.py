r"""The delta rule: a matrix memory that is corrected at each key instead of only added to, with an optional decay.

.. math:: S_t = e^{g_t} (I - \beta_t k_t k_t^T) S_{t-1} + \beta_t k_t v_t^T, \qquad o_t = \mathrm{scale} \cdot q_t S_t

Writing first reads: with :math:`y_t = v_t - e^{g_t} k_t S_{t-1}`, what the memory gets wrong at this key, :math:`S_t = e^{g_t} S_{t-1} +
\beta_t k_t y_t^T`. For unit keys the transition has the eigenvalue :math:`1 - \beta`: the old value is overwritten at 1, and reflected
at 2, which is what lets a linear recurrence track a state.

The memory is from "Linear Transformers Are Secretly Fast Weight Programmers" (2021, 2102.11174), the form in chunks from "Parallelizing
Linear Transformers with the Delta Rule over Sequence Length" (2024, 2406.06484), the decay from "Gated Delta Networks: Improving Mamba2
with Delta Rule" (2024, 2412.06464) and rates up to 2 from "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues" (2024,
2411.12537).
"""

from __future__ import annotations

from torch import Tensor

from ..dispatch import call
from ..known_bad import refusal
from ..spec import KERNELS, Benchmark, KernelSpec, Variant
from .cases import BENCHMARKS, CASES, SMALL_CASES, bytes_moved, flops, inputs
from .fast import fast
from .reference import Run, reference


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
    backend: str | None = None,
) -> Run:
    """What the memory returns to each query, and the memory after the last step.

    Args:
        q: queries, (batch, steps, heads, width).
        k: keys, (batch, steps, heads, width). The recurrence is stable for ``beta * |k|^2`` at most 2.
        v: values, (batch, steps, heads, values).
        beta: how much of the error is corrected at each step, (batch, steps, heads), in (0, 2); 2 sigmoid(x) is the caller's to make.
        log_decay: the logarithm of the factor by which the memory shrinks before a step, (batch, steps, heads), at most 0; None is 0.
        state: the memory before the first step, (batch, heads, width, values); None is zero.
        scale: of the outputs; None is ``width ** -0.5``.
        chunk: how many steps are worked on at once. It changes the speed, not the result; None is 16,
            and Triton always takes 16.
        normalise: divide queries and keys by their L2 norms, ``sqrt(|x|^2 + 1e-6)``.
        backend: ``fast``, ``reference`` or ``triton``; None lets :mod:`archwright.kernels.dispatch` choose.

    Returns:
        o: (batch, steps, heads, values) in the dtype of ``v``.
        last: the final memory, (batch, heads, width, values), in float32 (float64 for float64 inputs); feed it as ``state`` to go on.

    Raises:
        ValueError: shapes do not match, or chunk is below 1. TypeError: a tensor is not real floating point. BackendError: see dispatch.
    """
    _check({"q": q, "k": k, "v": v, "beta": beta, "log_decay": log_decay, "state": state}, chunk)
    result: Run = call(SPEC, q, k, v, beta, log_decay, state, backend=backend, scale=scale, chunk=chunk, normalise=normalise)
    return result


def _check(tensors: dict[str, Tensor | None], chunk: int | None) -> None:
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    for name, tensor in given.items():
        if not tensor.is_floating_point():
            raise TypeError(f'The argument "{name}" of delta_rule must be real floating point. Got {tensor.dtype} instead.')
    q, v = given["q"], given["v"]
    if q.dim() != 4 or v.dim() != 4:
        raise ValueError(f"delta_rule needs q and v of shape (batch, steps, heads, width). Got {tuple(q.shape)} and {tuple(v.shape)}.")
    batch, steps, heads, width = q.shape
    rate, memory = (batch, steps, heads), (batch, heads, width, v.shape[-1])
    wanted = {"k": tuple(q.shape), "v": (*rate, v.shape[-1]), "beta": rate, "log_decay": rate, "state": memory}
    for name, shape in wanted.items():
        if name in given and given[name].shape != shape:
            raise ValueError(
                f"delta_rule needs {name} of shape {shape} to go with q {tuple(q.shape)}. Got {tuple(given[name].shape)} instead."
            )
    if len({tensor.device for tensor in given.values()}) > 1:
        raise ValueError(f"delta_rule needs its tensors on one device. Got {sorted({str(x.device) for x in given.values()})}.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"delta_rule needs a chunk of at least one step. Got {chunk}.")


def triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> Run:
    """One launch per direction; see :mod:`archwright.kernels.delta_rule.triton_`."""
    from . import triton_

    return triton_.run(q, k, v, beta, log_decay, state, scale=scale, chunk=chunk, normalise=normalise)


def supports(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int | None = None,
    normalise: bool = False,
) -> str | None:
    """Why Triton cannot serve these arguments, or None when it can."""
    return refusal(q, kernel="delta_rule")


def variants() -> list[Variant]:
    from . import triton_

    return triton_.variants()


SPEC = KERNELS.add(
    KernelSpec(
        name="delta_rule",
        public=delta_rule,
        reference=reference,
        fast=fast,
        triton=triton,
        inputs=inputs,
        cases=CASES,
        small_cases=SMALL_CASES,
        differentiable=("q", "k", "v", "beta", "log_decay", "state"),
        per_sample=("q", "k", "v", "beta", "log_decay", "state"),
        bytes=bytes_moved,
        flops=flops,
        supports=supports,
        benchmarks=tuple(Benchmark(case, target) for case, target in BENCHMARKS),
        variants=variants,
    )
)
