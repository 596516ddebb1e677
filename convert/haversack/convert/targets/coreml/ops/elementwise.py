"""Elementwise arithmetic: binary and variadic ops with broadcasting, and unary mathematics.

Semantics are the ONNX operator specifications'. MIL's `inverse`, `log` and `rsqrt` add an epsilon to their input, large
enough to change a result (`inverse(1e-3)` is 909 by default), so a reciprocal is a division and `log` gets 0.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import LOWERINGS, lowers


def wide(b: Builder, *values: Value) -> None:
    """Refuse arithmetic on integers narrower than 32 bits: ONNX wraps them around, int32 in Core ML would not."""
    for value in values:
        if value.dtype.kind in "iu" and (value.dtype.itemsize < 4 or value.dtype == np.uint32):
            b.refuse(f"arithmetic on {value.dtype} wraps around, Core ML computes in int32", "cast to int32 before it")


def _binary(kind: str) -> Any:
    def lowering(b: Builder, x: Value, y: Value) -> Var:
        wide(b, x, y)
        return b.op(kind, x=x, y=y)

    return lowering


LOWERINGS.table(_binary, {"Add": "add", "Sub": "sub", "Mul": "mul"})


@lowers("Div")
def div(b: Builder, x: Value, y: Value) -> Var:
    """Integer division truncates towards zero (C's rule); MIL's floors."""
    if x.floating:
        return b.op("real_div", x=x, y=y)
    wide(b, x, y)
    quotient = b.op("floor_div", x=b.op("abs", x=x), y=b.op("abs", x=y))
    return b.op("mul", x=b.op("mul", x=b.op("sign", x=x), y=b.op("sign", x=y)), y=quotient)


@lowers("Mod")
def mod(b: Builder, x: Value, y: Value, *, fmod: int = 0) -> Var:
    """Sign of the divisor (`fmod=0`, integers), or of the dividend (`fmod=1`, C's fmod)."""
    wide(b, x, y)
    if not fmod:
        return b.op("mod", x=x, y=y)
    magnitude = b.op("mod", x=b.op("abs", x=x), y=b.op("abs", x=y))
    return b.op("mul", x=b.op("sign", x=x), y=magnitude)


@lowers("Pow")
def power(b: Builder, x: Value, y: Value) -> Var:
    """The result has the type of the base."""
    wide(b, x)
    if not x.floating:
        b.refuse("Core ML has no exact integer power", "cast the base to float before it")
    exponent = y.array if y.array is not None and y.array.size == 1 and y.array.ndim <= x.rank else None
    if exponent is not None and float(exponent.reshape(-1)[0]) == 2.0:
        return b.op("square", x=x)
    return b.op("pow", x=x, y=b.cast(b.var(y), b.float_name))


def _variadic(kind: str) -> Any:
    def lowering(b: Builder, *values: Value) -> Var:
        if kind == "add":
            wide(b, *values)
        if len(values) == 1:
            return values[0]
        return functools.reduce(lambda x, y: b.op(kind, x=x, y=y), values)

    return lowering


LOWERINGS.table(_variadic, {"Sum": "add", "Max": "maximum", "Min": "minimum"})


@lowers("Mean")
def mean(b: Builder, *values: Value) -> Var | Value:
    """Mean over the inputs."""
    total = _variadic("add")(b, *values)
    return total if len(values) == 1 else b.op("mul", x=total, y=1.0 / len(values))


def _unary(kind: str) -> Any:
    def lowering(b: Builder, x: Value) -> Var:
        return b.op(kind, x=x)

    return lowering


LOWERINGS.table(
    _unary,
    {
        "Acos": "acos",
        "Asin": "asin",
        "Atan": "atan",
        "Atanh": "atanh",
        "Ceil": "ceil",
        "Cos": "cos",
        "Cosh": "cosh",
        "Erf": "erf",
        "Exp": "exp",
        "Floor": "floor",
        "Round": "round",  # both round halves to even
        "Sin": "sin",
        "Sinh": "sinh",
        "Sqrt": "sqrt",
        "Tan": "tan",
    },
)


@lowers("Abs")
def absolute(b: Builder, x: Value) -> Var:
    """Magnitude."""
    wide(b, x)
    return b.op("abs", x=x)


@lowers("Neg")
def negate(b: Builder, x: Value) -> Var:
    """MIL has no negation."""
    wide(b, x)
    return b.op("mul", x=x, y=-1.0 if x.floating else -1)


@lowers("Sign")
def sign(b: Builder, x: Value) -> Var:
    """-1, 0 or 1."""
    return b.op("sign", x=x)


@lowers("Reciprocal")
def reciprocal(b: Builder, x: Value) -> Var:
    """1/x, without `inverse`'s epsilon."""
    return b.op("real_div", x=1.0, y=x)


@lowers("Log")
def log(b: Builder, x: Value) -> Var:
    """The natural one; of 0 it is minus infinity."""
    return b.op("log", x=x, epsilon=0.0)


@lowers("Asinh")
def asinh(b: Builder, x: Value) -> Var:
    """sign(x) · log(|x| + sqrt(x² + 1)): of the magnitude, so that negative x does not cancel."""
    magnitude = b.op("abs", x=x)
    root = b.op("sqrt", x=b.op("add", x=b.op("square", x=x), y=1.0))
    return b.op("mul", x=b.op("sign", x=x), y=b.op("log", x=b.op("add", x=magnitude, y=root), epsilon=0.0))


@lowers("Acosh")
def acosh(b: Builder, x: Value) -> Var:
    """log(x + sqrt(x - 1) · sqrt(x + 1)): the product of roots keeps precision near 1, where x² - 1 cancels."""
    root = b.op("mul", x=b.op("sqrt", x=b.op("sub", x=x, y=1.0)), y=b.op("sqrt", x=b.op("add", x=x, y=1.0)))
    return b.op("log", x=b.op("add", x=x, y=root), epsilon=0.0)


@lowers("IsNaN")
def is_nan(b: Builder, x: Value) -> Var:
    """NaN is the one number that differs from itself."""
    return b.op("not_equal", x=x, y=x)


@lowers("IsInf")
def is_inf(b: Builder, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Var:
    """Comparison with infinity."""
    if detect_negative and detect_positive:
        return b.op("equal", x=b.op("abs", x=x), y=np.inf)
    if detect_positive:
        return b.op("equal", x=x, y=np.inf)
    return b.op("equal", x=x, y=-np.inf if detect_negative else np.nan)
