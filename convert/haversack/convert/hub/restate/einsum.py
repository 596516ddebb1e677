"""Einsum: one matrix product for each further operand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.around import Around
from haversack.convert.hub.shapes import static_shape


@dataclass(frozen=True)
class _Operand:
    """A value whose axes are labelled, of known sizes."""

    value: ir.Value
    labels: str
    sizes: dict[str, int]

    def shape(self, *groups: str) -> list[int]:
        """One axis a group of labels."""
        return [int(np.prod([self.sizes[label] for label in group], dtype=np.int64)) for group in groups]


def einsum(make: Around, node: ir.Node) -> ir.Value:
    """The operands' product, summed over the labels that the result has not (ONNX's Einsum, NumPy's einsum)."""
    values = [value for value in node.inputs if value is not None]
    shapes = [static_shape(value) or () for value in values]
    terms, result = _terms(node.attributes.get_string("equation", "").replace(" ", ""), [len(s) for s in shapes])
    operands = [_diagonal(make, *each) for each in zip(values, terms, shapes, strict=True)]
    y = operands[0]
    for n, operand in enumerate(operands[1:], start=2):
        y = _pair(make, y, operand, set(result).union(*(other.labels for other in operands[n:])))
    y = _summed(make, y, set(result))
    order = [y.labels.index(label) for label in result]
    return make("Transpose", y.value, perm=order) if order else make("Identity", y.value)


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


def _diagonal(make: Around, x: ir.Value, labels: str, shape: Sequence[int]) -> _Operand:
    """The elements whose indices agree on every axis of a repeated label."""
    sizes = list(shape)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            order = [n for n in range(len(labels)) if n not in (first, second)] + [first, second]
            size = sizes[first]
            sizes = [sizes[n] for n in order[:-1]]
            flat = _reshape(make, make("Transpose", x, perm=order), [*sizes[:-1], size * size])
            places = make.const(np.arange(size, dtype=np.int64) * (size + 1))
            x = make("Gather", flat, places, axis=len(order) - 2)
            labels = "".join(labels[n] for n in order[:-1])
    return _Operand(x, labels, dict(zip(labels, sizes, strict=True)))


def _summed(make: Around, operand: _Operand, needed: set[str]) -> _Operand:
    axes = [n for n, label in enumerate(operand.labels) if label not in needed]
    if not axes:
        return operand
    total = make("ReduceSum", operand.value, make.const(np.array(axes, np.int64)), keepdims=0)
    return _Operand(total, "".join(label for label in operand.labels if label in needed), operand.sizes)


def _pair(make: Around, one: _Operand, two: _Operand, needed: set[str]) -> _Operand:
    """Labels of both are a batch (needed later) or summed by MatMul, those of one are rows or columns."""
    one = _summed(make, one, needed | set(two.labels))
    two = _summed(make, two, needed | set(one.labels))
    shared = [label for label in one.labels if label in two.labels]
    batch = "".join(label for label in shared if label in needed)
    inner = "".join(label for label in shared if label not in needed)
    rows = "".join(label for label in one.labels if label not in two.labels)
    columns = "".join(label for label in two.labels if label not in one.labels)
    sizes = {label: max(each.sizes.get(label, 1) for each in (one, two)) for label in one.labels + two.labels}

    def matrices(operand: _Operand, *groups: str) -> ir.Value:
        order = "".join(groups)
        moved = make("Transpose", operand.value, perm=[operand.labels.index(label) for label in order])
        full = [sizes[label] for label in order]
        if full != [operand.sizes[label] for label in order]:  # an axis of size 1 that the other operand has in full
            moved = make("Expand", moved, make.const(np.array(full, np.int64)))
        return _reshape(make, moved, _Operand(moved, order, sizes).shape(*groups))

    product = make("MatMul", matrices(one, batch, rows, inner), matrices(two, batch, inner, columns))
    made = batch + rows + columns
    return _Operand(_reshape(make, product, [sizes[label] for label in made]), made, sizes)


def _reshape(make: Around, x: ir.Value, shape: Sequence[int]) -> ir.Value:
    return make("Reshape", x, make.const(np.array(shape, np.int64)), allowzero=1)
