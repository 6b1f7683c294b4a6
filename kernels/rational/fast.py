"""The safe rational function on CPUs: blocks of rows in cache, in place, closed-form gradients; nothing is saved but the arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..function import Core, Optional, Tensors, accumulate_dtype, fused
from ..rows import buffers, row_blocks
from .reference import largest_plain, over_columns, reference
from .reversed import reversed_backward, reversed_forward

Given = tuple[Any, ...]


def fast(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> Tensor:
    """A compiler is given the definition, which it fuses itself."""
    if torch.compiler.is_compiling():
        return reference(x, p, q, denominator=denominator)
    return fused(CORE, x, p, q, denominator=denominator)[0]


def _forward(x: Tensor, p: Tensor, q: Tensor, *, denominator: str) -> tuple[Tensors, Optional]:
    rows, a, b = _prepared(x, p, q, denominator)
    y = torch.empty_like(rows)
    if _reaches_far(rows, a, b):
        for block in row_blocks(rows):
            y[block] = reversed_forward(rows[block].to(a.dtype), a, b, denominator)
        return (y.view_as(x),), ()
    result, below = buffers(rows, a.dtype, 2)
    for block in row_blocks(rows):
        at = rows[block].to(a.dtype)
        under, out = below[: len(at)], y[block] if y.dtype == a.dtype else result[: len(at)]
        base = at if denominator == "abs-sum" else torch.abs(at, out=out)
        _horner(under, base, b).mul_(base).abs_().add_(1.0)
        _horner(out, at, a).div_(under)
        if y.dtype != a.dtype:
            y[block] = out
    return (y.view_as(x),), ()


def _backward(args: Given, outputs: Tensors, saved: Given, cotangents: Given, wanted: tuple[bool, ...], *, denominator: str) -> Optional:
    r"""With S the sum in the denominator Q, over = dy / Q and under = -over sign(S) P / Q:

    da_i = sum over x^i, db_j = sum under x^j, dx = over P' + under S'.
    """
    x, p, q = args
    rows, a, b = _prepared(x, p, q, denominator)
    dys, dx = cotangents[0].reshape(rows.shape), torch.empty_like(rows)
    blocks = list(row_blocks(rows))
    sums = torch.empty((len(blocks), len(a) + len(b), rows.shape[1]), dtype=a.dtype, device=a.device)
    if _reaches_far(rows, a, b):
        for block, totals in zip(blocks, sums, strict=True):
            dx[block], totals[: len(a)], totals[len(a) :] = reversed_backward(
                rows[block].to(a.dtype), a, b, dys[block].to(a.dtype), denominator
            )
    else:
        _plain_backward(rows, a, b, dys, dx, sums, denominator)
    above, below = sums.sum(0).split([len(a), len(b)])
    if denominator == "sum-abs":
        below = below * over_columns(q, x.shape[-1]).sign()
    return dx.view_as(x), _per_group(above, p), _per_group(below, q)


CORE = Core(_forward, _backward, reference)


def _plain_backward(rows: Tensor, a: Tensor, b: Tensor, dys: Tensor, dx: Tensor, sums: Tensor, denominator: str) -> None:
    """Writes ``dx``, and into ``sums`` (blocks, terms, width) the coefficients' gradients by block and column."""
    work = buffers(rows, a.dtype, 6)
    slopes_above, slopes_below = a[1:] * _count(a, len(a) - 1), b * _count(b, len(b))
    for block, totals in zip(row_blocks(rows), sums, strict=True):
        at = rows[block].to(a.dtype)
        inner, over, under, value, base, result = (buffer[: len(at)] for buffer in work)
        out = dx[block] if dx.dtype == a.dtype else result
        base = at if denominator == "abs-sum" else torch.abs(at, out=base)
        _horner(inner, base, b).mul_(base)
        torch.abs(inner, out=value).add_(1.0)
        torch.div(dys[block], value, out=over)
        _horner(under, at, a).mul_(over).div_(value).mul_(inner.sign_()).neg_()
        _horner(out, base, slopes_below).mul_(under)
        if denominator == "sum-abs":
            out.mul_(torch.sign(at, out=value))
        if len(slopes_above):
            out.add_(_horner(value, at, slopes_above).mul_(over))
        if dx.dtype != a.dtype:
            dx[block] = out
        first, *rest = totals.unbind()
        torch.sum(over, 0, out=first)
        for total in rest[: len(a) - 1]:
            torch.sum(over.mul_(at), 0, out=total)
        for total in rest[len(a) - 1 :]:
            torch.sum(under.mul_(base), 0, out=total)


def _prepared(x: Tensor, p: Tensor, q: Tensor, denominator: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of x, and the coefficients of every column in the dtype of the arithmetic."""
    dtype, width = accumulate_dtype(x, p, q), x.shape[-1]
    b = q.abs() if denominator == "sum-abs" else q
    return x.reshape(-1, width), over_columns(p.to(dtype), width), over_columns(b.to(dtype), width)


def _reaches_far(rows: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether some power could overflow; on other devices than the CPU this is not looked up, and so assumed."""
    if rows.device.type != "cpu":
        return True
    bound = largest_plain(a.dtype, len(a), len(b))
    low, high = torch.aminmax(rows)
    return not (-low <= bound and high <= bound)


def _horner(value: Tensor, at: Tensor, coefficients: Tensor) -> Tensor:
    """``sum_i c_i at^i``, written over ``value``."""
    *lower, highest = coefficients.unbind()
    if not lower:
        return value.copy_(highest.expand(value.shape))
    torch.addcmul(lower[-1], at, highest, out=value)
    for c in reversed(lower[:-1]):
        torch.addcmul(c, value, at, out=value)
    return value


def _count(like: Tensor, terms: int) -> Tensor:
    return torch.arange(1, terms + 1, dtype=like.dtype, device=like.device)[:, None]


def _per_group(sums: Tensor, coefficients: Tensor) -> Tensor:
    return sums.unflatten(1, (coefficients.shape[1], -1)).sum(-1).to(coefficients.dtype)
