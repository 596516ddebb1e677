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
from haversack.convert.targets.coreml.ops.cast import wrapped
from haversack.runtimes.engines import Array


def narrow(value: Value) -> bool:
    """Whether its arithmetic wraps around where int32's does not."""
    return value.dtype.kind in "iu" and value.dtype.itemsize < 4


def wide(b: Builder, *values: Value) -> None:
    """Refuse arithmetic that ONNX wraps around and that is not done modulo here."""
    for value in values:
        if narrow(value):
            b.refuse(f"arithmetic on {value.dtype} wraps around, Core ML computes in int32", "cast to int32 before it")


_FOLDED = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def _binary(kind: str) -> Any:
    def lowering(b: Builder, x: Value, y: Value) -> Var | Array:
        if x.array is not None and y.array is not None and not x.floating:  # indices into palettes
            return np.asarray(_FOLDED[kind](x.array, y.array))
        if not narrow(x):
            return b.op(kind, x=x, y=y)
        if kind == "mul" and x.dtype == np.uint16:  # whose products are beyond int32: byte by byte
            low = b.op("mul", x=x, y=b.op("mod", x=y, y=256))
            high = b.op("mod", x=b.op("mul", x=x, y=b.op("floor_div", x=y, y=256)), y=256)
            return wrapped(b, b.op("add", x=low, y=b.op("mul", x=high, y=256)), x.dtype)
        return wrapped(b, b.op(kind, x=x, y=y), x.dtype)

    return lowering


LOWERINGS.table(_binary, {"Add": "add", "Sub": "sub", "Mul": "mul"})


@lowers("Div")
def div(b: Builder, x: Value, y: Value) -> Var:
    """Integer division truncates towards zero (C's rule); MIL's floors."""
    if x.floating:
        return b.op("real_div", x=x, y=y)
    quotient = b.op("floor_div", x=b.op("abs", x=x), y=b.op("abs", x=y))
    quotient = b.op("mul", x=b.op("mul", x=b.op("sign", x=x), y=b.op("sign", x=y)), y=quotient)
    return wrapped(b, quotient, x.dtype) if narrow(x) else quotient


@lowers("Mod")
def mod(b: Builder, x: Value, y: Value, *, fmod: int = 0) -> Var:
    """Sign of the divisor (`fmod=0`, integers), or of the dividend (`fmod=1`, C's fmod)."""
    if not fmod:
        return b.op("mod", x=x, y=y)
    magnitude = b.op("mod", x=b.op("abs", x=x), y=b.op("abs", x=y))
    return b.op("mul", x=b.op("sign", x=x), y=magnitude)


@lowers("Pow")
def power(b: Builder, x: Value, y: Value) -> Var:
    """The result has the type of the base."""
    whole = y.dtype.kind in "iu" or (y.array is not None and bool((y.array == np.rint(y.array)).all()))
    if not x.floating:
        if not whole:
            b.refuse("an integer to the power of a fraction rounds differently in Core ML", "cast the base to float")
        return _integer_power(b, x, y)
    exponent = y.array if y.array is not None and y.array.size == 1 and y.array.ndim <= x.rank else None
    if exponent is not None and float(exponent.reshape(-1)[0]) == 2.0:
        return b.op("square", x=x)
    return b.op("pow", x=x, y=b.cast(b.var(y), b.float_name))


def _integer_power(b: Builder, x: Value, y: Value) -> Var:
    """The product of x^(2^n) over the bits n that the exponent has; 1/x^|y|, truncated, where it is negative.

    From 64 on only powers of 0, 1 and -1 fit an integer, and of these only the exponent's lowest bit tells.
    """
    wide(b, x)
    exponent = b.constant(y.array.astype(np.int64)) if y.array is not None else b.var(y)
    size = b.op("abs", x=exponent)
    size = b.op("select", cond=b.op("less", x=size, y=64), a=size, b=b.op("add", x=b.op("mod", x=size, y=2), y=62))
    result, factor = None, b.var(x)
    for n in range(6):
        bit = b.op("mod", x=b.op("floor_div", x=size, y=2**n), y=2)
        chosen = b.op("add", x=b.op("mul", x=b.op("sub", x=factor, y=1), y=bit), y=1)
        result = chosen if result is None else b.op("mul", x=result, y=chosen)
        factor = b.op("mul", x=factor, y=factor)
    unit = b.op("equal", x=b.op("abs", x=x), y=1)
    kept = b.op("logical_or", x=unit, y=b.op("greater_equal", x=exponent, y=0))
    return b.op("mul", x=result, y=b.cast(kept, "int32"))


def _variadic(kind: str) -> Any:
    def lowering(b: Builder, *values: Value) -> Var:
        if len(values) == 1:
            return values[0]
        total = functools.reduce(lambda x, y: b.op(kind, x=x, y=y), values)
        return wrapped(b, total, values[0].dtype) if kind == "add" and narrow(values[0]) else total

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
    return wrapped(b, b.op("abs", x=x), x.dtype) if narrow(x) else b.op("abs", x=x)


@lowers("Neg")
def negate(b: Builder, x: Value) -> Var:
    """MIL has no negation."""
    negated = b.op("mul", x=x, y=-1.0 if x.floating else -1)
    return wrapped(b, negated, x.dtype) if narrow(x) else negated


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
