"""Activations. Those without a kernel are decomposed so that no intermediate overflows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder, NoInt8Kernel
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers

LIMITS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
"""Clip bounds that have a kernel of their own."""


def _one_to_one(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor) -> Tensor:
        return steps.unary(b, code, x)

    return lowering


LOWERINGS.table(_one_to_one, {"Sigmoid": "LOGISTIC", "Tanh": "TANH", "HardSwish": "HARD_SWISH"})


@lowers("Relu")
def relu(b: Builder, x: Tensor) -> Tensor:
    """`max(x, 0)`, of integers too."""
    if x.nominal in ("float32", "float16", "float64"):
        return steps.unary(b, "RELU", x)
    return steps.scalar(b, "MAXIMUM", x, 0)


@lowers("Clip")
def clip(b: Builder, x: Tensor, minimum: Tensor | None = None, maximum: Tensor | None = None) -> Tensor:
    """A bounded activation where there is one, else MAXIMUM and MINIMUM."""
    if all(t is None or (t.constant and t.nominal == "float32") for t in (minimum, maximum)):
        low = -math.inf if minimum is None else float(minimum.value().reshape(()))
        high = math.inf if maximum is None else float(maximum.value().reshape(()))
        if b.mode == "integer" and x.quantization is not None and b.result.quantization is None:
            levels = [bound / float(x.quantization.scale[0]) for bound in (low, high) if not math.isinf(bound)]
            if any(level != round(level) for level in levels):
                raise NoInt8Kernel("a bound lies between two steps and its result is not quantized")
        if (low, high) in LIMITS:
            return steps.unary(b, LIMITS[low, high], x)
        if b.mode == "integer" and x.quantization is not None:
            return _clip_integers(b, x, low, high)
    if minimum is not None:
        x = steps.binary(b, "MAXIMUM", x, minimum)
    if maximum is not None:
        x = steps.binary(b, "MINIMUM", x, maximum)
    return x


def _clip_integers(b: Builder, x: Tensor, low: float, high: float) -> Tensor:
    """Rounding is monotonic, so bounds rounded to the result's scale clip its integers exactly."""
    target = b.result.quantization or x.quantization
    assert target is not None
    x = b.requantize(x, target, x.dtype)
    limits = np.iinfo(x.dtype)
    for code, bound, outside in (("MAXIMUM", low, limits.min), ("MINIMUM", high, limits.max)):
        if math.isinf(bound):
            continue
        exact = np.rint(bound / float(target.scale[0])) + target.zero_point[0]
        level = np.clip(exact, limits.min, limits.max).astype(x.dtype)
        if level != outside:
            x = steps.binary(b, code, x, Tensor((), x.dtype, np.array(level), target))
    return x


@lowers("LeakyRelu")
def leaky_relu(b: Builder, x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """LEAKY_RELU."""
    return steps.unary(b, "LEAKY_RELU", x, alpha=alpha)


@lowers("PRelu")
def prelu(b: Builder, x: Tensor, slope: Tensor) -> Tensor:
    """PRELU for slopes one a channel; `max(x, 0) + slope * min(x, 0)` for any other shape."""
    rank = len(x.shape)
    trimmed = steps.reshape(b, slope, slope.shape[-1:]) if slope.size == (slope.shape or (0,))[-1] else slope
    if 1 < rank <= 4 and slope.constant and trimmed.shape in ((x.shape[-1],), (1,)):
        per_channel = steps.broadcast_to(b, trimmed, x.shape[-1:]) if not slope.compressed else trimmed
        return b.op("PRELU", [x, steps.reshape(b, per_channel, (1,) * (rank - 2) + per_channel.shape)], x.shape)
    negative = steps.binary(b, "MUL", slope, steps.scalar(b, "MINIMUM", x, 0))
    return steps.binary(b, "ADD", relu(b, x), negative)


@lowers("Elu")
def elu(b: Builder, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """ELU has alpha 1; others scale its negative side."""
    if alpha == 1:
        return steps.unary(b, "ELU", x)
    return _elu(b, x, alpha, 1.0)


@lowers("Celu")
def celu(b: Builder, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`max(0, x) + alpha * expm1(min(0, x) / alpha)`."""
    return _elu(b, x, alpha, 1.0 / alpha)


@lowers("Selu")
def selu(
    b: Builder, x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Tensor:
    """`gamma * elu(x, alpha)`."""
    return steps.scalar(b, "MUL", _elu(b, x, alpha, 1.0), gamma)


def _elu(b: Builder, x: Tensor, alpha: float, inner: float) -> Tensor:
    """`max(x, 0) + alpha * expm1(inner * min(x, 0))`; ELU is LiteRT's only accurate expm1."""
    negative = steps.scalar(b, "MINIMUM", x, 0)
    if inner != 1:
        negative = steps.scalar(b, "MUL", negative, inner)
    return steps.binary(b, "ADD", relu(b, x), steps.scalar(b, "MUL", steps.unary(b, "ELU", negative), alpha))


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """`clip(alpha * x + beta, 0, 1)`, as a sixth of the RELU6 that an ADD before it can carry."""
    slope = float(np.float32(6 * alpha))  # a sixth in float32 is slope 1
    line = steps.scalar(b, "ADD", x if slope == 1 else steps.scalar(b, "MUL", x, slope), 6 * beta)
    return steps.scalar(b, "MUL", steps.unary(b, "RELU6", line), 1 / 6)


@lowers("Gelu")
def gelu(b: Builder, x: Tensor, *, approximate: str = "none") -> Tensor:
    """GELU, by erf or by tanh."""
    return steps.unary(b, "GELU", x, approximate=approximate == "tanh")


@lowers("Softplus")
def softplus(b: Builder, x: Tensor) -> Tensor:
    """`max(x, 0) + log(1 + exp(-|x|))`, which never overflows."""
    decayed = steps.unary(b, "EXP", steps.unary(b, "NEG", steps.unary(b, "ABS", x)))
    return steps.binary(b, "ADD", relu(b, x), steps.unary(b, "LOG", steps.scalar(b, "ADD", decayed, 1)))


@lowers("Softsign")
def softsign(b: Builder, x: Tensor) -> Tensor:
    """`x / (1 + |x|)`."""
    return steps.binary(b, "DIV", x, steps.scalar(b, "ADD", steps.unary(b, "ABS", x), 1))


@lowers("Mish")
def mish(b: Builder, x: Tensor) -> Tensor:
    """`x * tanh(softplus(x))`."""
    return steps.binary(b, "MUL", x, steps.unary(b, "TANH", softplus(b, x)))


@lowers("ThresholdedRelu")
def thresholded_relu(b: Builder, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """`x` where it is above alpha, else 0."""
    above = steps.binary(b, "GREATER", x, b.const(alpha, x.nominal), "bool")
    return steps.elementwise(b, "SELECT_V2", [above, x, b.const(0, x.nominal)])


@lowers("Shrink")
def shrink(b: Builder, x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """0 within ±lambd, else moved towards 0 by bias."""
    below = steps.binary(b, "LESS", x, b.const(-lambd, x.nominal), "bool")
    above = steps.binary(b, "GREATER", x, b.const(lambd, x.nominal), "bool")
    inner = steps.elementwise(b, "SELECT_V2", [above, steps.scalar(b, "SUB", x, bias), b.const(0, x.nominal)])
    return steps.elementwise(b, "SELECT_V2", [below, steps.scalar(b, "ADD", x, bias), inner])


def _last_axis(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor, *, axis: int = -1) -> Tensor:
        rank = len(x.shape)
        axis = steps.axis_of(axis, rank)
        if not rank:
            return steps.reshape(b, lowering(b, steps.reshape(b, x, (1,))), ())
        order = [n for n in range(rank) if n != axis] + [axis]
        moved = steps.transpose(b, x, order)
        flat = moved if rank <= 4 else steps.reshape(b, moved, (moved.size // x.shape[axis], x.shape[axis]))
        options: dict[str, Any] = {"beta": 1.0} if code == "SOFTMAX" else {}
        y = b.op(code, [flat], flat.shape, **options)
        return steps.transpose(b, steps.reshape(b, y, moved.shape), np.argsort(order).tolist())

    return lowering


LOWERINGS.table(_last_axis, {"Softmax": "SOFTMAX", "LogSoftmax": "LOG_SOFTMAX"})


@lowers("Hardmax")
def hardmax(b: Builder, x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first maximum along the axis, else 0."""
    axis = steps.axis_of(axis, len(x.shape))
    shape = tuple(n for a, n in enumerate(x.shape) if a != axis)
    place = b.op("ARG_MAX", [x, b.ints([axis])], shape, "int32", output_type=2)
    inputs = [place, b.const(x.shape[axis], "int32"), b.const(1, x.nominal), b.const(0, x.nominal)]
    return b.op("ONE_HOT", inputs, x.shape, axis=axis)
