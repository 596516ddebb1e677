"""What arithmetic nodes compute, as a polynomial of chosen values: the many spellings of one formula compare equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant
from haversack.runtimes.engines import Array

Monomial = tuple[int, ...]
"""The exponent of each symbol; negative ones are divisions."""

Polynomial = dict[Monomial, Array]
"""Coefficients in float64. Arrays broadcast from the right, as ONNX's operands do."""

ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Reciprocal", "Pow"})

DEPTH = 8
"""How many nodes deep a formula is followed: GELU by tanh, the deepest one written, takes six."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)

MOST_TERMS = 8
MOST_ELEMENTS = 1 << 16


def polynomial(value: ir.Value | None, symbols: Mapping[ir.Value, Monomial], depth: int = DEPTH) -> Polynomial | None:
    """Work out `value` from the nodes that compute it, up to the symbols.

    Args:
        value: What is asked for.
        symbols: Values that stand for themselves; at least one, all with exponents of one length.
        depth: How many nodes deep to look.

    Returns:
        Its terms without those that vanish; None where other operators than `ARITHMETIC` and constants take part, or
        a sum is divided by.
    """
    if value is None:
        return None
    if value in symbols:
        return {symbols[value]: np.array(1.0)}
    array = constant(value)
    if array is not None:
        usable = array.dtype.kind == "f" and 0 < array.size <= MOST_ELEMENTS
        return {(0,) * len(next(iter(symbols.values()))): array.astype(np.float64)} if usable else None
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in ARITHMETIC or depth == 0:
        return None
    if node.op_type == "Pow":
        base, exponent = polynomial(node.inputs[0], symbols, depth - 1), constant(node.inputs[1])
        return None if base is None or exponent is None else _power(base, exponent)
    operands = [polynomial(each, symbols, depth - 1) for each in node.inputs]
    known = [each for each in operands if each is not None]
    return _combined(node.op_type, known) if len(known) == len(operands) else None


def _combined(op: str, operands: Sequence[Polynomial]) -> Polynomial | None:
    left, right = operands[0], operands[-1]
    if op == "Neg":
        return _scaled(left, -1)
    if op == "Reciprocal":
        return _inverse(left)
    if op in ("Mul", "Div"):
        factor = right if op == "Mul" else _inverse(right)
        return None if factor is None else _product(left, factor)
    total = dict(left)
    for monomial, coefficient in (right if op == "Add" else _scaled(right, -1)).items():
        total[monomial] = total[monomial] + coefficient if monomial in total else coefficient
    return _short(total)


def _scaled(terms: Polynomial, factor: float) -> Polynomial:
    return {monomial: factor * coefficient for monomial, coefficient in terms.items()}


def _inverse(terms: Polynomial) -> Polynomial | None:
    if len(terms) != 1:
        return None
    ((monomial, coefficient),) = terms.items()
    return {tuple(-n for n in monomial): 1 / coefficient} if np.all(coefficient) else None


def _product(left: Polynomial, right: Polynomial) -> Polynomial | None:
    total: Polynomial = {}
    for one, a in left.items():
        for other, b in right.items():
            monomial = tuple(n + m for n, m in zip(one, other, strict=True))
            total[monomial] = total[monomial] + a * b if monomial in total else a * b
    return _short(total)


def _power(base: Polynomial, exponent: Array) -> Polynomial | None:
    if exponent.size != 1 or float(exponent.reshape(())) not in (2, 3):
        return None
    result: Polynomial | None = base
    for _ in range(int(exponent.reshape(())) - 1):
        result = None if result is None else _product(result, base)
    return result


def _short(terms: Polynomial) -> Polynomial | None:
    kept = {monomial: coefficient for monomial, coefficient in terms.items() if np.any(coefficient)}
    return kept if len(kept) <= MOST_TERMS else None


def close(found: Polynomial | None, wanted: Mapping[Monomial, float], like: ir.Value) -> bool:
    """Whether a polynomial has just the wanted scalar coefficients, up to the rounding of the element type of `like`.

    Exporters write constants such as 1/6 or 1/sqrt(2) rounded to the element type, and multiply a few of them.
    """
    if found is None or found.keys() != wanted.keys() or like.dtype not in FLOATS:
        return False
    tolerance = 4 * float(np.finfo(like.dtype.numpy()).eps)
    return all(
        c.size == 1 and abs(float(c.reshape(())) - wanted[m]) <= tolerance * abs(wanted[m])
        for m, c in ((m, np.asarray(c)) for m, c in found.items())
    )


def below(value: ir.Value | None, depth: int = DEPTH) -> Iterator[ir.Value]:
    """`value` and what it is computed from by arithmetic, nearest first; no constants."""
    seen: dict[ir.Value, None] = {} if value is None or constant(value) is not None else {value: None}
    layer = list(seen)
    for _ in range(depth):
        yield from layer
        makers = [node for each in layer if (node := each.producer()) is not None and _is_arithmetic(node)]
        inputs = [each for node in makers for each in node.inputs if each is not None and constant(each) is None]
        layer = [each for each in dict.fromkeys(inputs) if each not in seen]
        seen.update(dict.fromkeys(layer))


def above(value: ir.Value, depth: int = DEPTH) -> Iterator[ir.Value]:
    """What arithmetic computes from `value`, nearest first, in the graph of its producer."""
    seen: dict[ir.Value, None] = {}
    layer = [value]
    for _ in range(depth):
        readers = [use.node for each in layer for use in each.uses() if _is_arithmetic(use.node)]
        layer = [node.outputs[0] for node in readers if node.graph is value.graph and node.outputs[0] not in seen]
        layer = list(dict.fromkeys(layer))
        seen.update(dict.fromkeys(layer))
        yield from layer


def _is_arithmetic(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in ARITHMETIC


def is_closed(result: ir.Value, source: ir.Value) -> bool:
    """Whether `result` could be computed from `source` by one node, and every node between the two would be dead.

    So no value between them is read elsewhere, and both have the same shape: no constant broadcasts one to more axes.
    """
    if source.shape is None or result.shape is None or len(source.shape) != len(result.shape):
        return False
    between: dict[ir.Node, None] = {}
    waiting = [result]
    while waiting:
        node = waiting.pop().producer()
        if node is None or node in between:
            continue
        between[node] = None
        waiting += [each for each in node.inputs if each is not None and each is not source]
    inner = [value for node in between for value in node.outputs if value is not result]
    return all(not value.is_graph_output() and all(use.node in between for use in value.uses()) for value in inner)


def find(
    start: ir.Value, source: ir.Value, symbols: Mapping[ir.Value, Monomial], accepts: Callable[[Polynomial], bool]
) -> ir.Node | None:
    """What computes the furthest value above `start` that is as wanted, and that one node could take the place of.

    Args:
        start: A value between `source` and the result.
        source: What the one node would read.
        symbols: As for `polynomial`.
        accepts: Whether a value with this polynomial is wanted.
    """
    found = None
    for value in above(start):
        terms = polynomial(value, symbols)
        if terms is not None and accepts(terms) and is_closed(value, source):
            found = value.producer()
    return found
