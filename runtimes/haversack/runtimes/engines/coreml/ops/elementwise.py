"""Elementwise arithmetic, comparison, logic and conversion.

Binary ops broadcast as NumPy does. Integer division and `mod` follow the sign of the divisor, as MIL documents
(`floor_div` rounds toward negative infinity).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import op
from haversack.runtimes.engines.coreml.weights import STORAGE
from haversack.runtimes.errors import EngineError

# MIL's short names of dtypes, as `cast` takes them
DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}

UNARY: dict[str, Callable[[Any], Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "floor": np.floor,
    "logical_not": np.logical_not,
    "round": np.rint,  # half to even
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "sub": np.subtract,
}


def _unary(name: str, function: Callable[[Any], Any]) -> None:
    @op(name)
    def apply(x: Array) -> Any:
        return function(x)


def _binary(name: str, function: Callable[[Any, Any], Any]) -> None:
    @op(name)
    def apply(x: Array, y: Array) -> Any:
        return function(x, y)


for _name, _unary_function in UNARY.items():
    _unary(_name, _unary_function)
for _name, _binary_function in BINARY.items():
    _binary(_name, _binary_function)


@op("real_div")
def real_div(x: Array, y: Array) -> Any:
    """Return x / y; the quotient of integers is rounded toward zero, for the result is an integer too."""
    if x.dtype.kind in "iu":
        return np.trunc(np.divide(x, y)).astype(x.dtype)
    return np.divide(x, y)


@op("pow")
def pow_(x: Array, y: Array) -> Any:
    """Return x to the power y; integers go through floating point so that a negative exponent is legal."""
    if x.dtype.kind in "iu":
        return np.power(x.astype(np.float64), y.astype(np.float64)).astype(x.dtype)
    return np.power(x, y)


@op("exp2")
def exp2(x: Array) -> Any:
    """Return 2 to the power x."""
    if x.dtype.kind in "iu":
        return np.exp2(x.astype(np.float64)).astype(x.dtype)
    return np.exp2(x)


@op("inverse")
def inverse(x: Array, epsilon: float = 1e-4) -> Any:
    """Return 1 / (x + epsilon). The default epsilon is large: the inverse of 1e-3 is 909, not 1,000."""
    return np.reciprocal(x + np.float32(epsilon))


@op("log")
def log(x: Array, epsilon: float = 1e-45) -> Any:
    """Return ln(x + epsilon)."""
    return np.log(x + np.float32(epsilon))


@op("rsqrt")
def rsqrt(x: Array, epsilon: float = 1e-12) -> Any:
    """Return 1 / sqrt(x + epsilon)."""
    return np.float32(1) / np.sqrt(x + np.float32(epsilon))


@op("clip")
def clip(x: Array, alpha: float, beta: float) -> Any:
    """Return x limited to [alpha, beta]."""
    return np.minimum(np.maximum(x, np.float32(alpha)), np.float32(beta))


@op("threshold")
def threshold(x: Array, alpha: Array) -> Any:
    """Return max(x, alpha)."""
    return np.maximum(x, alpha)


@op("erf")
def erf_(x: Array) -> Any:
    """Return the error function of x."""
    return erf(x)


@op("identity", moves=True)
def identity(x: Array) -> Any:
    """Return x."""
    return x


@op("select", moves=True)
def select(cond: Array, a: Array | None = None, b: Array | None = None) -> Any:
    """Return a where cond, b elsewhere; with neither, the indices of the true elements, one a row."""
    if a is None or b is None:
        return np.argwhere(cond).astype(np.int32)
    return np.where(cond, a, b)


@op("cast", moves=True)
def cast(x: Array, dtype: str) -> Any:
    """Convert to another dtype: floating point to integer truncates toward zero, anything but 0 is true.

    A float outside the integer's range saturates, as the device's conversion instructions do; NaN becomes 0.
    """
    name = DTYPES.get(dtype, dtype)
    if name not in STORAGE:
        raise EngineError(f"cast to {dtype} is not known")
    target = np.dtype(STORAGE[name][0])
    if x.dtype.kind == "f" and target.kind in "iu":
        limits = np.iinfo(target)
        whole = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0, posinf=limits.max, neginf=limits.min)
        return np.clip(whole, limits.min, limits.max).astype(target)
    return x.astype(target)


# Rational Chebyshev approximations of erf and erfc: W. J. Cody, Mathematics of Computation 23 (1969), 631-637.
_NEAR_P = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
           3.20937758913846947e3)  # fmt: skip
_NEAR_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_FAR_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
          2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
          1.23033935479799725e3)  # fmt: skip
_FAR_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
          3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)  # fmt: skip


def erf(x: Array) -> Array:
    """Return the error function in the dtype of x, exact to its rounding in float32.

    Computed in float64, because 1 - erfc loses digits in float32. Beyond |x| = 4, erf is 1 to within 2e-8.
    """
    exact = np.asarray(x, np.float64)
    size = np.abs(exact)
    inner = np.clip(exact, -0.46875, 0.46875)
    square = inner * inner
    near = inner * np.polyval(_NEAR_P, square) / np.polyval(_NEAR_Q, square)
    limited = np.minimum(size, 4.0)
    far = 1.0 - np.exp(-limited * limited) * np.polyval(_FAR_P, limited) / np.polyval(_FAR_Q, limited)
    far = np.copysign(np.where(size >= 4.0, 1.0, far), exact)
    result: Array = np.where(np.isnan(exact), np.nan, np.where(size <= 0.46875, near, far)).astype(x.dtype)
    return result
