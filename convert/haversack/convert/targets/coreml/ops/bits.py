"""Bitwise operators and shifts: MIL has none, so integers are taken apart into their bits and put together again.

The bit n of an int32 is `floor(x / 2^n) mod 2`, of negative numbers too (two's complement), and the sign is a
comparison with 0. An int64 is held as the int32 of the same value, whose sign bit stands for all that are left out. A
uint32 exists inside a graph only, as the int32 of the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import LOWERINGS, lowers
from haversack.convert.targets.registry import Lowering

WORD = 32


def _width(x: Value) -> int:
    """How many bits its int32 needs."""
    return min(x.dtype.itemsize * 8, WORD)


def _signed(x: Value) -> bool:
    """Whether its highest bit is the int32's sign."""
    return x.dtype.kind == "i" or _width(x) == WORD


def _weights(x: Value) -> list[int]:
    """What each bit adds to the int32."""
    weights = [2**n for n in range(_width(x))]
    return [*weights[:-1], -weights[-1]] if _signed(x) else weights


def _bits(b: Builder, x: Value, shape: tuple[int, ...]) -> Var:
    """The bits of `x` broadcast to `shape`, lowest first: int32 [elements, bits], each 0 or 1."""
    column = b.reshape(b.expand(b.var(x), shape), (-1, 1)) if shape else b.reshape(b.var(x), (1, 1))
    low = _width(x) - 1 if _signed(x) else _width(x)
    bits = b.op("mod", x=b.op("floor_div", x=column, y=[[2**n for n in range(low)]]), y=2)
    if not _signed(x):
        return bits
    sign = b.cast(b.op("less", x=column, y=0), "int32")
    return b.op("concat", values=[bits, sign], axis=1, interleave=False)


def _number(b: Builder, bits: Var, weights: Var | list[list[int]], shape: tuple[int, ...]) -> Var:
    total = b.op("reduce_sum", x=b.op("mul", x=bits, y=weights), axes=[1], keep_dims=False)
    return b.reshape(total, shape)


def _bitwise(join: Callable[[Builder, Var, Var], Var]) -> Lowering:
    def lowering(b: Builder, x: Value, y: Value) -> Var:
        shape = b.outputs[0].shape
        return _number(b, join(b, _bits(b, x, shape), _bits(b, y, shape)), [_weights(x)], shape)

    return lowering


def _exclusive(b: Builder, x: Var, y: Var) -> Var:
    return b.cast(b.op("not_equal", x=x, y=y), "int32")


LOWERINGS.table(
    _bitwise,
    {
        "BitwiseAnd": lambda b, x, y: b.op("mul", x=x, y=y),
        "BitwiseOr": lambda b, x, y: b.op("maximum", x=x, y=y),
        "BitwiseXor": _exclusive,
    },
)


@lowers("BitwiseNot")
def bitwise_not(b: Builder, x: Value) -> Var:
    """-1 - x, of unsigned numbers the largest - x."""
    return b.op("sub", x=-1 if _signed(x) else 2 ** _width(x) - 1, y=x)


@lowers("BitShift")
def bit_shift(b: Builder, x: Value, y: Value, *, direction: str) -> Var:
    """Each bit counts for what the place that it moves to does, for nothing beyond the word."""
    if x.dtype.itemsize > 4:
        b.refuse("a shift of 64 bits; Core ML's widest integer has 32", "cast to uint32 before it")
    shape, width = b.outputs[0].shape, _width(x)
    bits = _bits(b, x, shape)
    amount = b.op("minimum", x=b.expand(b.var(y), shape), y=width) if y.rank or shape else b.var(y)
    # An amount that is a negative number is a large unsigned one.
    amount = b.op("select", cond=b.op("less", x=amount, y=0), a=width, b=amount)
    column = b.reshape(amount, (-1, 1)) if shape else b.reshape(amount, (1, 1))
    table = [0] * width + _weights(x) + [0] * width
    step = column if direction == "LEFT" else b.op("sub", x=0, y=column)
    places = b.op("add", x=step, y=[[width + n for n in range(width)]])
    weights = b.op("gather", x=np.array(table), indices=places, axis=0, batch_dims=0)
    return _number(b, bits, weights, shape)
