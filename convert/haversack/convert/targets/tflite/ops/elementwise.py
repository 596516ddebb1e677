"""Arithmetic, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers


def _unary(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor) -> Tensor:
        return steps.unary(b, code, x)

    return lowering


def _binary(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor, y: Tensor) -> Tensor:
        return steps.binary(b, code, x, y)

    return lowering


LOWERINGS.table(
    _unary,
    {
        "Abs": "ABS",
        "Ceil": "CEIL",
        "Cos": "COS",
        "Exp": "EXP",
        "Floor": "FLOOR",
        "Log": "LOG",
        "Neg": "NEG",
        "Round": "ROUND",
        "Sin": "SIN",
        "Sqrt": "SQRT",
    },
)
LOWERINGS.table(_binary, {"Add": "ADD", "Div": "DIV", "Mul": "MUL", "Sub": "SUB"})


@lowers("Sign")
def sign(b: Builder, x: Tensor) -> Tensor:
    """SIGN, which takes floats only; integers clipped to ±1."""
    if np.dtype(x.nominal).kind == "f":
        return steps.unary(b, "SIGN", x)
    lowest = 0 if x.nominal.startswith("u") else -1
    return steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", x, lowest), 1)


def _variadic(code: str) -> Lowering:
    def lowering(b: Builder, *inputs: Tensor) -> Tensor:
        y = inputs[0]
        for x in inputs[1:]:
            y = steps.binary(b, code, y, x)
        return y

    return lowering


LOWERINGS.table(_variadic, {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD"})


@lowers("Mean")
def mean(b: Builder, *inputs: Tensor) -> Tensor:
    """The inputs' sum over their count."""
    y = inputs[0]
    for x in inputs[1:]:
        y = steps.binary(b, "ADD", y, x)
    return steps.scalar(b, "MUL", y, 1.0 / len(inputs)) if len(inputs) > 1 else y


@lowers("Pow")
def power(b: Builder, x: Tensor, exponent: Tensor) -> Tensor:
    """MUL or SQRT for the powers that are one; a number stands in the base's type."""
    if exponent.constant and exponent.size and x.nominal == "float32":
        value = exponent.value()
        known = {2.0: "SQUARE", 0.5: "SQRT", -0.5: "RSQRT", 1.0: None}
        first = float(value.reshape(-1)[0])
        if np.all(value == first) and first in known and np.broadcast_shapes(x.shape, exponent.shape) == x.shape:
            code = known[first]
            if code == "SQUARE":
                return steps.binary(b, "MUL", x, x)
            return x if code is None else steps.unary(b, code, x)
    if exponent.nominal != x.nominal:
        exponent = b.cast(exponent, x.nominal)
    return steps.binary(b, "POW", x, exponent)


@lowers("Mod")
def mod(b: Builder, x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    """FLOOR_MOD takes the divisor's sign; `fmod` the dividend's, got from the moduli of both."""
    if not fmod:
        return steps.binary(b, "FLOOR_MOD", x, y)
    size = steps.binary(b, "FLOOR_MOD", steps.unary(b, "ABS", x), steps.unary(b, "ABS", y))
    negative = steps.binary(b, "LESS", x, b.const(0, x.nominal), "bool")
    return steps.elementwise(b, "SELECT_V2", [negative, steps.unary(b, "NEG", size), size])


@lowers("Reciprocal")
def reciprocal(b: Builder, x: Tensor) -> Tensor:
    """`1 / x`."""
    return steps.binary(b, "DIV", b.const(1, x.nominal), x)


def _atan2(b: Builder, y: Tensor, x: Tensor) -> Tensor:
    return b.op("ATAN2", [y, x], y.shape)


def _complement(b: Builder, x: Tensor) -> Tensor:
    """`sqrt(1 - x²)`, as `sqrt((1 - x) (1 + x))` so that nothing cancels near ±1."""
    one = b.const(1, x.nominal)
    product = steps.binary(b, "MUL", steps.binary(b, "SUB", one, x), steps.binary(b, "ADD", x, one))
    return steps.unary(b, "SQRT", product)


def _tan(b: Builder, x: Tensor) -> Tensor:
    return steps.binary(b, "DIV", steps.unary(b, "SIN", x), steps.unary(b, "COS", x))


def _asin(b: Builder, x: Tensor) -> Tensor:
    return _atan2(b, x, _complement(b, x))


def _acos(b: Builder, x: Tensor) -> Tensor:
    return _atan2(b, _complement(b, x), x)


def _atan(b: Builder, x: Tensor) -> Tensor:
    return _atan2(b, x, b.const(np.ones(x.shape), x.nominal))


def _hyperbolic(code: str) -> Callable[[Builder, Tensor], Tensor]:
    def lowering(b: Builder, x: Tensor) -> Tensor:
        grown, shrunk = steps.unary(b, "EXP", x), steps.unary(b, "EXP", steps.unary(b, "NEG", x))
        return steps.scalar(b, "MUL", steps.binary(b, code, grown, shrunk), 0.5)

    return lowering


def _asinh(b: Builder, x: Tensor) -> Tensor:
    """Odd, so the log is taken of `|x| + sqrt(x² + 1)`, where nothing cancels."""
    size = steps.unary(b, "ABS", x)
    root = steps.unary(b, "SQRT", steps.scalar(b, "ADD", steps.binary(b, "MUL", x, x), 1))
    return steps.binary(b, "MUL", steps.unary(b, "SIGN", x), steps.unary(b, "LOG", steps.binary(b, "ADD", size, root)))


def _acosh(b: Builder, x: Tensor) -> Tensor:
    one = b.const(1, x.nominal)
    product = steps.binary(b, "MUL", steps.binary(b, "SUB", x, one), steps.binary(b, "ADD", x, one))
    return steps.unary(b, "LOG", steps.binary(b, "ADD", x, steps.unary(b, "SQRT", product)))


def _atanh(b: Builder, x: Tensor) -> Tensor:
    one = b.const(1, x.nominal)
    ratio = steps.binary(b, "DIV", steps.binary(b, "ADD", x, one), steps.binary(b, "SUB", one, x))
    return steps.scalar(b, "MUL", steps.unary(b, "LOG", ratio), 0.5)


LOWERINGS.table(
    lambda lowering: lowering,
    {
        "Tan": _tan,
        "Asin": _asin,
        "Acos": _acos,
        "Atan": _atan,
        "Sinh": _hyperbolic("SUB"),
        "Cosh": _hyperbolic("ADD"),
        "Asinh": _asinh,
        "Acosh": _acosh,
        "Atanh": _atanh,
    },
)

_ERF_RATE = 0.3275911
_ERF_TERMS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: absolute error at most 1.5e-7."""


@lowers("Erf")
def erf(b: Builder, x: Tensor) -> Tensor:
    """`sign(x) (1 - poly(t) exp(-x²))`, `t = 1 / (1 + p |x|)`."""
    scaled = steps.scalar(b, "ADD", steps.scalar(b, "MUL", steps.unary(b, "ABS", x), _ERF_RATE), 1)
    t = steps.binary(b, "DIV", b.const(1, x.nominal), scaled)
    poly = steps.scalar(b, "MUL", t, _ERF_TERMS[0])
    for term in _ERF_TERMS[1:]:
        poly = steps.binary(b, "MUL", steps.scalar(b, "ADD", poly, term), t)
    bell = steps.unary(b, "EXP", steps.unary(b, "NEG", steps.binary(b, "MUL", x, x)))
    tail = steps.binary(b, "SUB", b.const(1, x.nominal), steps.binary(b, "MUL", poly, bell))
    return steps.binary(b, "MUL", steps.unary(b, "SIGN", x), tail)


@lowers("IsNaN")
def is_nan(b: Builder, x: Tensor) -> Tensor:
    """Only NaN differs from itself."""
    return steps.binary(b, "NOT_EQUAL", x, x, "bool")


@lowers("IsInf")
def is_inf(b: Builder, x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Infinities of the signs asked for."""
    if not detect_negative and not detect_positive:
        return b.const(np.zeros(x.shape, np.bool_))
    if detect_negative and detect_positive:
        x = steps.unary(b, "ABS", x)
    number = math.inf if detect_positive else -math.inf
    return steps.binary(b, "EQUAL", x, b.const(number, x.nominal), "bool")
