"""One autograd function for every kernel: a forward and a backward without autograd, made differentiable, and twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Optional = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Core:
    """A kernel's two directions, written out; neither may change its arguments.

    Args:
        forward: ``forward(*args, **options) -> (outputs, saved)``; ``saved`` are new tensors (or None) that backward wants besides
            the arguments. A core that saves nothing recomputes.
        backward: ``backward(args, outputs, saved, cotangents, wanted, **options) -> gradients``, one gradient or None per argument.
            A cotangent is None where that output was not used; ``wanted`` says which arguments need a gradient; ``outputs`` is
            empty unless ``keeps_outputs``.
        reference: the definition, for empty tensors and for derivatives of the gradient (which run through it and autograd).
        keeps_outputs: the outputs are saved for backward.
        twice: ``False`` refuses a second derivative in one sentence.
    """

    forward: Callable[..., tuple[Tensors, Optional]]
    backward: Callable[..., Optional]
    reference: Callable[..., Any]
    keeps_outputs: bool = False
    twice: bool = True


def fused(core: Core, *args: Tensor | None, outputs: int = 1, **options: Any) -> Tensors:
    """Call a core as one differentiable operation; ``outputs`` is how many it returns.

    Autocast does not reach inside: a kernel computes in the precision its arguments ask for.
    """
    given = [arg for arg in args if arg is not None]
    with _without_autocast(given[0]):
        if any(arg.numel() == 0 for arg in given):
            return as_tuple(core.reference(*args, **options))
        # what torch.func and torch.compile need costs three times as much per call as the plain form
        traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        results: Tensors = (_Functional if traced else _Plain).apply(core, options, outputs, *args)
    return results[:outputs]


def as_tuple(result: Any) -> Tensors:
    return result if isinstance(result, tuple) else (result,)


class _Plain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, core: Core, options: Mapping[str, Any], outputs: int, *args: Tensor | None) -> Tensors:
        results, saved = core.forward(*args, **options)
        _keep(ctx, core, options, args, results, saved)
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Optional:
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
        args, rest = tensors[: ctx.arguments], tensors[ctx.arguments :]
        kept = ctx.count if ctx.core.keeps_outputs else 0
        saved, outputs = rest[: len(rest) - kept], rest[len(rest) - kept :]
        used = cotangents[: ctx.count]
        if all(cotangent is None for cotangent in used):
            return (None,) * (3 + ctx.arguments)
        with _without_autocast(next(arg for arg in args if arg is not None)):
            if torch.is_grad_enabled():
                gradients = _differentiable(ctx.core, args, used, wanted, ctx.options)
            else:
                gradients = ctx.core.backward(args, outputs, saved, used, wanted, **ctx.options)
        return (None, None, None, *gradients)


class _Functional(_Plain):
    """The same with its context set up from inputs and outputs, which include what is saved."""

    @staticmethod
    def forward(core: Core, options: Mapping[str, Any], outputs: int, *args: Tensor | None) -> Optional:  # type: ignore[override]
        results, saved = core.forward(*args, **options)
        return (*results, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        core, options, count, *args = inputs
        results, saved = output[:count], output[count:]
        ctx.mark_non_differentiable(*(tensor for tensor in saved if tensor is not None))
        _keep(ctx, core, options, args, results, saved)


def _keep(ctx: Any, core: Core, options: Mapping[str, Any], args: Sequence[Tensor | None], results: Tensors, saved: Optional) -> None:
    ctx.core, ctx.options, ctx.arguments, ctx.count = core, options, len(args), len(results)
    ctx.save_for_backward(*args, *saved, *(results if core.keeps_outputs else ()))
    ctx.set_materialize_grads(False)


def _differentiable(core: Core, args: Optional, cotangents: Optional, wanted: tuple[bool, ...], options: Mapping[str, Any]) -> Optional:
    """The gradients as a graph of their own: autograd through the definition."""
    if not core.twice:
        raise RuntimeError(
            "This kernel keeps too little to be differentiated twice; "
            'call it with backend="reference", or without create_graph=True, to go on.'
        )
    results = as_tuple(core.reference(*args, **options))
    pairs = [(out, cot.to(out.dtype)) for out, cot in zip(results, cotangents, strict=True) if cot is not None and out.requires_grad]
    asked = [arg for arg, want in zip(args, wanted, strict=True) if want and arg is not None]
    found = iter(torch.autograd.grad([out for out, _ in pairs], asked, [cot for _, cot in pairs], create_graph=True, allow_unused=True))
    return tuple(next(found) if want and arg is not None else None for arg, want in zip(args, wanted, strict=True))


def _without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    kind = tensor.device.type
    active = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # the meta device has no autocast
    return torch.autocast(kind, enabled=False) if active else nullcontext()


def accumulate_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if any tensor is (or is complex128), else float32: what statistics, gates, states and partial sums are computed in."""
    wide = (torch.float64, torch.complex128)
    return torch.float64 if any(t is not None and t.dtype in wide for t in tensors) else torch.float32
