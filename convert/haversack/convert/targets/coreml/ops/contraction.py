"""Einsum: one matrix product for each further operand (MIL's own `einsum` knows two equations)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers

Labelled = tuple[Var, str]


@lowers("Einsum")
def einsum(b: Builder, *inputs: Value, equation: str) -> Var:
    """The operands' product, summed over the labels that the result has not."""
    terms, result = _terms(equation.replace(" ", ""), [x.rank for x in inputs])
    operands = [_diagonal(b, b.var(x), labels) for x, labels in zip(inputs, terms, strict=True)]
    y = operands[0]
    for n, operand in enumerate(operands[1:], start=2):
        needed = set(result).union(*(labels for _, labels in operands[n:]))
        y = _pair(b, y, operand, needed)
    var, labels = _summed(b, y, set(result))
    return b.transpose(var, [labels.index(label) for label in result])


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """One label an axis; the axes of an ellipsis get labels of their own, aligned at the last."""
    left, _, right = equation.partition("->")
    terms = left.split(",")
    hidden = max((rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0)
    extra = "".join(chr(0x100 + n) for n in range(hidden))
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term) + 3
        full.append(term.replace("...", extra[hidden - count :] if count else ""))
    if "->" in equation:
        return full, right.replace("...", extra)
    named = left.replace("...", "").replace(",", "")
    return full, extra + "".join(sorted(label for label in set(named) if named.count(label) == 1))


def _diagonal(b: Builder, x: Var, labels: str) -> Labelled:
    """The elements whose indices agree on every axis of a repeated label."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            order = [n for n in range(len(labels)) if n not in (first, second)] + [first, second]
            moved = b.transpose(x, order)
            size = moved.shape[-1]
            flat = b.reshape(moved, (*moved.shape[:-2], size * size))
            places = [n * (size + 1) for n in range(size)]
            x = b.op("gather", x=flat, indices=places, axis=len(order) - 2, batch_dims=0)
            labels = "".join(labels[n] for n in order[:-1])
    return x, labels


def _summed(b: Builder, operand: Labelled, needed: set[str]) -> Labelled:
    x, labels = operand
    axes = [n for n, label in enumerate(labels) if label not in needed]
    if axes:
        x = b.op("reduce_sum", x=x, axes=axes, keep_dims=False)
    return x, "".join(label for label in labels if label in needed)


def _pair(b: Builder, one: Labelled, two: Labelled, needed: set[str]) -> Labelled:
    """Labels of both are a batch (needed later) or summed by `matmul`, those of one are rows or columns."""
    x, left = _summed(b, one, needed | set(two[1]))
    y, right = _summed(b, two, needed | set(left))
    shared = [label for label in left if label in right]
    batch = "".join(label for label in shared if label in needed)
    inner = "".join(label for label in shared if label not in needed)
    rows = "".join(label for label in left if label not in right)
    columns = "".join(label for label in right if label not in left)
    sizes = dict.fromkeys(left + right, 1)
    for labels, shape in ((left, x.shape), (right, y.shape)):
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(sizes[label], int(size))

    def arranged(var: Var, labels: str, order: tuple[str, ...]) -> Var:
        moved = b.transpose(var, [labels.index(label) for label in "".join(order)])
        full = b.expand(moved, [sizes[label] for label in "".join(order)])
        return b.reshape(full, [_product(sizes, part) for part in order])

    matrices = arranged(x, left, (batch, rows, inner)), arranged(y, right, (batch, inner, columns))
    made = b.op("matmul", x=matrices[0], y=matrices[1], transpose_x=False, transpose_y=False)
    return b.reshape(made, [sizes[label] for label in batch + rows + columns]), batch + rows + columns


def _product(sizes: dict[str, int], labels: str) -> int:
    return math.prod(sizes[label] for label in labels)
