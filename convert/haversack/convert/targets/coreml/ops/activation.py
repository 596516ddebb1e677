"""Activation functions, each by the formula of its ONNX operator specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import LOWERINGS, lowers


def _plain(kind: str) -> Any:
    def lowering(b: Builder, x: Value) -> Var:
        return b.op(kind, x=x)

    return lowering


LOWERINGS.table(_plain, {"Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign", "Tanh": "tanh"})


@lowers("Relu")
def relu(b: Builder, x: Value) -> Var:
    """max(x, 0); integers have no `relu` in MIL."""
    return b.op("relu", x=x) if x.floating else b.op("maximum", x=x, y=0)


@lowers("Clip")
def clip(b: Builder, x: Value, low: Value | None = None, high: Value | None = None) -> Var | Value:
    """Bounds that are constants become `relu6` or `clip`; ONNX lets the upper bound win where they cross."""
    least = None if low is None or low.array is None else float(low.array.item())
    most = None if high is None or high.array is None else float(high.array.item())
    if x.floating and least == 0.0 and (most == 6.0 or high is None):
        return b.op("relu" if high is None else "relu6", x=x)
    if x.floating and least is not None and most is not None and -np.inf < least <= most < np.inf:
        return b.op("clip", x=x, alpha=least, beta=most)
    result: Var | Value = x
    if low is not None:
        result = b.op("maximum", x=result, y=b.reshape(b.var(low), ()))
    if high is not None:
        result = b.op("minimum", x=result, y=b.reshape(b.var(high), ()))
    return result


@lowers("LeakyRelu")
def leaky_relu(b: Builder, x: Value, *, alpha: float = 0.01) -> Var:
    """x, and alpha·x where it is negative."""
    return b.op("leaky_relu", x=x, alpha=alpha)


@lowers("PRelu")
def prelu(b: Builder, x: Value, slope: Value) -> Var:
    """`prelu` takes one slope a channel (axis 1); any other broadcast is written out as max(x,0) + slope·min(x,0)."""
    if slope.array is not None and x.rank in (3, 4, 5):
        if slope.array.size == 1:
            return b.op("leaky_relu", x=x, alpha=float(slope.array.reshape(-1)[0]))
        aligned = (1,) * (x.rank - slope.rank) + slope.shape
        if aligned == (1, x.shape[1]) + (1,) * (x.rank - 2):
            return b.op("prelu", x=x, alpha=slope.array.reshape(-1))
    return b.op("add", x=b.op("relu", x=x), y=b.op("mul", x=slope, y=b.op("minimum", x=x, y=0.0)))


@lowers("Elu")
def elu(b: Builder, x: Value, *, alpha: float = 1.0) -> Var:
    """x, and alpha·(exp(x) - 1) where it is negative."""
    return b.op("elu", x=x, alpha=alpha)


@lowers("Selu")
def selu(
    b: Builder, x: Value, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Var:
    """gamma·elu(x, alpha)."""
    return b.op("mul", x=b.op("elu", x=x, alpha=alpha), y=gamma)


@lowers("Celu")
def celu(b: Builder, x: Value, *, alpha: float = 1.0) -> Var:
    """max(0, x) + min(0, alpha·(exp(x/alpha) - 1)), which is alpha·elu(x/alpha)."""
    return b.op("mul", x=b.op("elu", x=b.op("mul", x=x, y=1.0 / alpha), alpha=1.0), y=alpha)


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Var:
    """max(0, min(1, alpha·x + beta))."""
    return b.op("sigmoid_hard", x=x, alpha=alpha, beta=beta)


@lowers("HardSwish")
def hard_swish(b: Builder, x: Value) -> Var:
    """X · HardSigmoid(x, 1/6, 1/2)."""
    return b.op("mul", x=x, y=b.op("sigmoid_hard", x=x, alpha=1 / 6, beta=0.5))


@lowers("Gelu")
def gelu(b: Builder, x: Value, *, approximate: str = "none") -> Var:
    """Exact (by erf) or the tanh approximation."""
    return b.op("gelu", x=x, mode="TANH_APPROXIMATION" if approximate == "tanh" else "EXACT")


@lowers("Mish")
def mish(b: Builder, x: Value) -> Var:
    """X · tanh(softplus(x))."""
    return b.op("mul", x=x, y=b.op("tanh", x=b.op("softplus", x=x)))


@lowers("ThresholdedRelu")
def thresholded_relu(b: Builder, x: Value, *, alpha: float = 1.0) -> Var:
    """X where x > alpha, else 0; MIL's own `thresholded_relu` keeps x = alpha, so it is a selection."""
    above = b.op("greater", x=x, y=alpha)
    return b.op("mul", x=x, y=b.cast(above, b.float_name))


@lowers("Shrink")
def shrink(b: Builder, x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Var:
    """X + bias below -lambd, x - bias above lambd, else 0."""
    low = b.cast(b.op("less", x=x, y=-lambd), b.float_name)
    high = b.cast(b.op("greater", x=x, y=lambd), b.float_name)
    below = b.op("mul", x=b.op("add", x=x, y=bias), y=low)
    above = b.op("mul", x=b.op("sub", x=x, y=bias), y=high)
    return b.op("add", x=below, y=above)


@lowers("Softmax")
def softmax(b: Builder, x: Value, *, axis: int = -1) -> Var:
    """exp(x) over its sum along one axis."""
    return b.op("softmax", x=x, axis=axis)


@lowers("LogSoftmax")
def log_softmax(b: Builder, x: Value, *, axis: int = -1) -> Var:
    """(x - max) - log(sum(exp(x - max))): the logarithm of a softmax that underflowed would be minus infinity."""
    shifted = b.op("sub", x=x, y=b.op("reduce_max", x=x, axes=[axis], keep_dims=True))
    total = b.op("reduce_sum", x=b.op("exp", x=shifted), axes=[axis], keep_dims=True)
    return b.op("sub", x=shifted, y=b.op("log", x=total, epsilon=0.0))


@lowers("Hardmax")
def hardmax(b: Builder, x: Value, *, axis: int = -1) -> Var:
    """1 at the first maximum along one axis, else 0."""
    axis %= x.rank
    where = b.op("reduce_argmax", x=x, axis=axis, keep_dims=False)
    return b.op("one_hot", indices=where, one_hot_vector_size=x.shape[axis], axis=axis, on_value=1.0, off_value=0.0)
