"""Bitwise operators and shifts, on integers of any width.

LiteRT has XOR and right shifts of up to 32 bits, and no AND or OR. Those follow from addition, whose carries are the
places where both bits are set: `x + y = (x ^ y) + 2 (x & y)`, computed in a wider type so that nothing is lost. Words
of 64 bits are taken as two of 32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers
from haversack.convert.targets.tflite.unsigned import bitcast

Bitwise = Callable[[Builder, Tensor, Tensor], Tensor]

_HALF = 1 << 16


def _bits(dtype: str) -> int:
    return np.dtype(dtype).itemsize * 8


def _exclusive_or(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    return steps.binary(b, "BITWISE_XOR", x, y)


def _small_and(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """Half of what addition carries, of words of up to 16 bits: exact in int32."""
    wide = [b.cast(t, "int32") for t in (x, y, _exclusive_or(b, x, y))]
    carried = steps.binary(b, "SUB", steps.binary(b, "ADD", wide[0], wide[1]), wide[2])
    return b.cast(steps.scalar(b, "DIV", carried, 2), x.dtype)


def _and(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    if _bits(x.dtype) <= 16:
        return _small_and(b, x, y)
    words = [bitcast(b, t, "int32") for t in (x, y)]
    pairs = [[part(b, word) for part in (_high, _low)] for word in words]
    high, low = (b.cast(_small_and(b, p, q), "int32") for p, q in zip(*pairs, strict=True))
    return bitcast(b, steps.binary(b, "ADD", steps.scalar(b, "MUL", high, _HALF), low), x.dtype)


def _low(b: Builder, x: Tensor) -> Tensor:
    return b.cast(steps.scalar(b, "FLOOR_MOD", x, _HALF), "uint16")


def _high(b: Builder, x: Tensor) -> Tensor:
    return b.cast(steps.scalar(b, "FLOOR_DIV", x, _HALF), "int16")


def _or(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """The bits of `x ^ y` and of `x & y` are never set in one place."""
    return _exclusive_or(b, _exclusive_or(b, x, y), _and(b, x, y))


def _bitwise(operation: Bitwise) -> Lowering:
    def lowering(b: Builder, x: Tensor, y: Tensor) -> Tensor:
        if _bits(x.dtype) < 64:
            return operation(b, x, y)
        shape = np.broadcast_shapes(x.shape, y.shape)
        halves = [bitcast(b, steps.broadcast_to(b, bitcast(b, t, "int64"), shape), "int32") for t in (x, y)]
        return bitcast(b, operation(b, halves[0], halves[1]), x.dtype)

    return lowering


LOWERINGS.table(_bitwise, {"BitwiseAnd": _and, "BitwiseOr": _or, "BitwiseXor": _exclusive_or})


@lowers("BitwiseNot")
def bitwise_not(b: Builder, x: Tensor) -> Tensor:
    """XOR with ones."""
    ones = b.const(np.array(-1, np.int64).astype("int32" if _bits(x.dtype) == 64 else x.dtype))
    if _bits(x.dtype) < 64:
        return _exclusive_or(b, x, ones)
    return bitcast(b, _exclusive_or(b, bitcast(b, x, "int32"), ones), x.dtype)


@lowers("BitShift")
def bit_shift(b: Builder, x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """Of unsigned integers: a product by a power of two, modulo the word; or RIGHT_SHIFT. Long shifts leave nothing."""
    bits = _bits(x.dtype)
    if bits == 64 and direction == "RIGHT":
        raise b.refuse("LiteRT shifts no 64-bit integers to the right", "cast to uint32 first")
    amount = bitcast(b, y, "int64") if bits == 64 else b.cast(y, "int64")
    if direction == "LEFT":
        powers = [2**n for n in range(bits)] + [0]
        table = b.const(np.array(powers, np.uint64).view(np.int64))
        factor = steps.gather(b, table, b.cast(steps.scalar(b, "MINIMUM", amount, bits), "int32"), 0)
        wide = bitcast(b, x, "int64") if bits == 64 else b.cast(x, "int64")
        product = steps.binary(b, "MUL", wide, factor)
        if bits == 64:
            return bitcast(b, product, x.dtype)
        return b.cast(steps.scalar(b, "FLOOR_MOD", product, 2**bits), x.dtype)
    shifted = steps.binary(b, "RIGHT_SHIFT", x, y)
    inside = steps.binary(b, "LESS", amount, b.const(bits, "int64"), "bool")
    signed = bitcast(b, shifted, f"int{bits}")
    return bitcast(b, steps.elementwise(b, "SELECT_V2", [inside, signed, b.const(0, signed.dtype)]), x.dtype)
