"""The best rows of a bank for each query, exactly: a fast product proposes, a bound on its error says which rows can matter, float64 decides.

What is largest is `z.b`, or `-|z - b|` for the nearest. With `a` the fast product's number for a row and `m` a bound on its error, the true
number lies between `a - m` and `a + m`. The k-th largest of `a - m` is a floor: a row with `a + m` below it is not among the k best. The few
others are computed in float64. A query for which they are many (a bank of copies, say) goes over the whole bank in float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.stats import double

ROWS = 2048  # queries that a detector should give at once
_BLOCK = 4096  # rows of the bank multiplied at once; four times as many for a few queries
_WORTH = 2**21  # numbers in a bank below which float64 is as fast
_GATHERED = 2**18  # numbers of gathered rows held at once: what a cache holds


def largest(z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int, *, nearest: bool = False, only_last: bool = False) -> Float[Tensor, "n k"]:
    """The `k` largest `z.b` over the rows `b` of a bank, or with `nearest` the `k` largest `-|z - b|`, in float64 and in no order.

    Args:
        z: the queries, in any precision.
        bank: the rows, in any precision; they are read block by block, so that they may be mapped from a file.
        k: how many, at most the rows of the bank.
        nearest: whether to rank by distance.
        only_last: whether only the least of the k is wanted; larger ones may then be given as infinity, which saves computing them.

    >>> largest(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), 2)
    tensor([[6., 2.]], dtype=torch.float64)
    """
    # A graph that is exported has no place for numbers of rows that depend on the data, nor have gradients.
    plain = torch.compiler.is_compiling() or (torch.is_grad_enabled() and z.requires_grad) or z.device.type not in ("cpu", "cuda")
    if plain or bank.dtype == torch.float64 or bank.numel() < _WORTH or 8 * k > len(bank) or len(z) == 0:
        return exact(z, bank, k, nearest=nearest)
    query, row, a, m = candidates(z, bank, k, nearest=nearest)
    # One row of a table for each query; `query` is in order.
    sizes = torch.bincount(query, minlength=len(z))
    place = torch.arange(len(query), device=z.device) - (sizes.cumsum(0) - sizes)[query]
    table = (len(z), max(k, int(sizes.amax()) if len(sizes) else 0))
    found = torch.full(table, -torch.inf, dtype=torch.float64, device=z.device)
    wanted = torch.ones_like(query, dtype=torch.bool)
    if only_last:
        highest = torch.full(table, -torch.inf, device=z.device)
        highest[query, place] = a + m
        wanted = a - m <= highest.topk(k, 1).values[query, -1]
        found[query[~wanted], place[~wanted]] = torch.inf
    query, row, place = query[wanted], row[wanted], place[wanted]
    found[query, place] = torch.cat([_value(double(z[q]), double(bank[r]), nearest) for q, r in _parts(query, row, z.shape[1])])
    found = found.topk(k, 1, sorted=False).values
    undecided = (sizes < k).nonzero()[:, 0]
    if len(undecided):
        found[undecided] = exact(z[undecided], bank, k, nearest=nearest)
    return found


def exact(z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int, *, nearest: bool = False) -> Float[Tensor, "n k"]:
    """The same by products in float64 alone, which tell apart what float32 holds apart."""
    z = double(z)
    best, index = z[:, :0], z[:, :0].long()
    for start in range(0, len(bank), _BLOCK):
        block = double(bank[start : start + _BLOCK])
        # argmin_i |z - b_i|^2 = argmax_i z.b_i - |b_i|^2 / 2
        products = torch.addmm(block.square().sum(1) / 2, z, block.T, beta=-1) if nearest else z @ block.T
        top, here = products.topk(min(k, len(block)), 1, sorted=False)
        best, index = torch.cat([best, top], 1), torch.cat([index, here + start], 1)
        if start:
            best, choice = best.topk(min(k, best.shape[1]), 1, sorted=False)
            index = index.gather(1, choice)
    if not nearest:
        return best
    index = index.to(bank.device)
    if torch.compiler.is_compiling():
        return _value(z[:, None], double(bank[index]), nearest)
    # By the differences, which keep the digits of a small distance.
    return torch.cat([_value(q[:, None], double(bank[i]), nearest) for q, i in _parts(z, index, k * z.shape[1])])


def candidates(
    z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int, *, nearest: bool = False
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Float[Tensor, " p"], Float[Tensor, " p"]]:
    """Every row that may be among the k best of a query: queries in order, rows, numbers `a` by the fast product, and bounds `m` on their errors.

    The numbers are `z.b`, or with `nearest` `z.b - |b|^2 / 2`. A query with more than `4 k + 64` such rows has none.
    """
    n, limit = len(z), 4 * k + 64
    exactly = double(z)
    low = exactly.to(_fast(z.device.type))
    length, off = exactly.norm(dim=1), (exactly - low.double()).norm(dim=1)
    top, floor = torch.empty(n, 0, device=z.device), torch.full((n,), -torch.inf, device=z.device)
    lost = torch.zeros(n, dtype=torch.bool, device=z.device)
    query = row = torch.zeros(0, dtype=torch.int64, device=z.device)
    a = m = torch.zeros(0, device=z.device)
    # On a GPU the blocks are larger, for what is done once a block takes longer than the product.
    step = max(_BLOCK * (16 if z.is_cuda else max(1, min(4, ROWS // n))), 8 * k)
    room = torch.empty(min(step, len(bank)) if bank.dtype != torch.float32 else 0, bank.shape[1], device=bank.device)
    for start in range(0, len(bank), step):
        block = bank[start : start + step]
        if block.dtype != torch.float32:
            block = room[: len(block)].copy_(block)  # new room for each block would take longer than filling it
        numbers, margin = _numbers(low, length, off, block, nearest)
        # Rows in groups, those of a group far apart: neighbours in the bank, which may be of one class, fall into different ones.
        size = next(size for size in (32, 16, 8, 4, 2, 1) if size == 1 or size * 4 * k <= numbers.shape[1])
        if numbers.shape[1] % size:
            numbers = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % size), value=-torch.inf)
        grouped = numbers.view(n, size, -1)
        best = grouped.amax(1)
        # The k-th largest of one number of each group: as many different rows are at least that.
        top = torch.cat([top, best - margin[:, None]], 1)
        top = top.topk(min(k, top.shape[1]), 1, sorted=False).values
        if top.shape[1] == k:
            floor = top.amin(1)
        above = best >= (floor - margin)[:, None]
        lost |= (above.sum(1) > limit) | ~margin.isfinite()
        above &= ~lost[:, None]
        q, group = above.nonzero(as_tuple=True)
        inside = grouped[q, :, group]
        hit, member = (inside >= (floor - margin)[q, None]).nonzero(as_tuple=True)
        query, row = torch.cat([query, q[hit]]), torch.cat([row, start + member * best.shape[1] + group[hit]])
        a, m = torch.cat([a, inside[hit, member]]), torch.cat([m, margin[q[hit]]])
        # What an earlier, lower floor let through.
        lost |= torch.bincount(query[a + m >= floor[query]], minlength=n) > limit
        kept = (a + m >= floor[query]) & ~lost[query]
        query, row, a, m = query[kept], row[kept], a[kept], m[kept]
    query, order = query.sort(stable=True)
    return query, row[order], a[order], m[order]


def _numbers(
    low: Float[Tensor, "n d"], length: Float[Tensor, " n"], off: Float[Tensor, " n"], block: Float[Tensor, "m d"], nearest: bool
) -> tuple[Float[Tensor, "n m"], Float[Tensor, " n"]]:
    """The fast product of queries, which were `length` long and lost `off` in rounding, and a block; and a bound on the error of each query's."""
    d, rounded = block.shape[1], block.to(low.dtype)
    lengths = torch.linalg.vector_norm(block, dim=1)
    halves = lengths.square() / 2
    # A sum of d products in float32, in whatever order, is off by at most d 2^-24 of the sum of their sizes; twice that covers what else is rounded here.
    summing = (d + 16) * 2**-23
    longest = lengths.amax().double() * (1 + summing) + 1e-18  # where squares vanish in float32
    lost, output = torch.zeros_like(longest), torch.zeros_like(length)
    if low.dtype == torch.float32:
        numbers = low @ rounded.T
        summing += _loose(block.device.type)
    else:
        lost = torch.linalg.vector_norm(block - rounded.float(), dim=1).amax().double() * (1 + summing)
        if block.device.type == "cuda":
            numbers = torch.mm(low, rounded.T, out_dtype=torch.float32)
        else:
            numbers = (low @ rounded.T).float()
            output = 2**-8 * numbers.abs().amax(1).double()  # which is rounded, too
    if nearest:
        numbers -= halves
    margin = off * longest + (length + off) * lost + summing * ((length + off) * longest + halves.amax() * nearest) + output
    return numbers, (margin * (1 + 1e-6)).float()


def _loose(device: str) -> float:
    """What a float32 product may lose by the rounding of its factors, where the process allows that: at most that of bfloat16."""
    matmul = torch.backends.cuda.matmul if device == "cuda" else getattr(torch.backends.mkldnn, "matmul", None)
    precision = getattr(matmul, "fp32_precision", None) or torch.get_float32_matmul_precision()
    return 0.0 if precision in ("none", "ieee", "highest") else 2**-7


@cache
def _fast(device: str) -> torch.dtype:
    """In what numbers to multiply: bfloat16 on GPUs that can, and on CPUs that have units for it, as a trial shows; else float32."""
    if device == "cuda":
        try:
            x = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
            torch.mm(x, x, out_dtype=torch.float32)
        except (TypeError, RuntimeError):  # of an older torch, or GPU
            return torch.float32
        return torch.bfloat16
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(256, 256, dtype=dtype)
        times[dtype] = min(_seconds(x) for _ in range(5))
    return torch.bfloat16 if times[torch.bfloat16] < times[torch.float32] / 1.5 else torch.float32


def _seconds(x: Float[Tensor, "m m"]) -> float:
    started = time.perf_counter()
    x @ x
    return time.perf_counter() - started


def _value(z: Float[Tensor, "... d"], b: Float[Tensor, "... d"], nearest: bool) -> Float[Tensor, ...]:
    """What is to be large, from float64."""
    return -torch.linalg.vector_norm(z - b, dim=-1) if nearest else (z * b).sum(-1)


def _parts(a: Tensor, b: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in pieces, so short that so wide a row for each is not much memory; one piece at least."""
    step = max(1, _GATHERED // width)
    return zip(a.split(step), b.split(step), strict=True)
