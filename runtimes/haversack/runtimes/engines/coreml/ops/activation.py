"""Activation functions; `alpha` and `beta` are MIL's names of their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.elementwise import erf
from haversack.runtimes.engines.coreml.registry import op
from haversack.runtimes.errors import EngineError


@op("relu")
def relu(x: Array) -> Any:
    """Return max(x, 0)."""
    return np.maximum(x, 0)


@op("relu6")
def relu6(x: Array) -> Any:
    """Return min(max(x, 0), 6)."""
    return np.minimum(np.maximum(x, 0), 6)


@op("leaky_relu")
def leaky_relu(x: Array, alpha: float) -> Any:
    """Return x where x >= 0, else alpha * x."""
    return np.where(x >= 0, x, x * np.float32(alpha))


@op("clamped_relu")
def clamped_relu(x: Array, alpha: float, beta: float) -> Any:
    """Return min(beta, x) where x >= 0, else min(beta, alpha * x)."""
    return np.minimum(np.where(x >= 0, x, x * np.float32(alpha)), np.float32(beta))


@op("thresholded_relu")
def thresholded_relu(x: Array, alpha: float) -> Any:
    """Return x where x >= alpha, else 0."""
    return np.where(x >= np.float32(alpha), x, np.float32(0))


@op("prelu")
def prelu(x: Array, alpha: Array) -> Any:
    """Return x where x > 0, else alpha * x, with one alpha a channel (axis 1)."""
    return np.where(x > 0, x, x * per_channel(alpha, x.ndim))


@op("elu")
def elu(x: Array, alpha: float) -> Any:
    """Return x where x > 0, else alpha * (e^x - 1)."""
    return np.where(x > 0, x, np.float32(alpha) * np.expm1(np.minimum(x, 0)))


@op("gelu")
def gelu(x: Array, mode: str = "EXACT") -> Any:
    """Return the Gaussian error linear unit in one of MIL's three forms."""
    if mode == "EXACT":
        return np.float32(0.5) * x * (1 + erf(x * np.float32(np.sqrt(0.5))))
    if mode == "TANH_APPROXIMATION":
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.float32(0.5) * x * (1 + np.tanh(inner))
    if mode == "SIGMOID_APPROXIMATION":
        return x * logistic(np.float32(1.702) * x)
    raise EngineError(f"gelu has no mode {mode}")


@op("sigmoid")
def sigmoid(x: Array) -> Any:
    """Return 1 / (1 + e^-x)."""
    return logistic(x)


@op("silu")
def silu(x: Array) -> Any:
    """Return x * sigmoid(x)."""
    return x * logistic(x)


@op("sigmoid_hard")
def sigmoid_hard(x: Array, alpha: float, beta: float) -> Any:
    """Return min(max(alpha * x + beta, 0), 1)."""
    return np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1))


@op("linear_activation")
def linear_activation(x: Array, alpha: float, beta: float) -> Any:
    """Return alpha * x + beta."""
    return np.float32(alpha) * x + np.float32(beta)


@op("scaled_tanh")
def scaled_tanh(x: Array, alpha: float, beta: float) -> Any:
    """Return alpha * tanh(beta * x)."""
    return np.float32(alpha) * np.tanh(np.float32(beta) * x)


@op("softplus")
def softplus(x: Array) -> Any:
    """Return ln(1 + e^x)."""
    return np.logaddexp(x, np.float32(0))


@op("softplus_parametric")
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Any:
    """Return alpha * ln(1 + e^(beta * x)), with one alpha and beta a channel (axis 1)."""
    return per_channel(alpha, x.ndim) * np.logaddexp(per_channel(beta, x.ndim) * x, np.float32(0))


@op("softsign")
def softsign(x: Array) -> Any:
    """Return x / (1 + |x|)."""
    return x / (1 + np.abs(x))


@op("softmax")
def softmax(x: Array, axis: int = -1) -> Any:
    """Return e^x divided by its sum along the axis; the maximum is taken off first, which changes nothing."""
    if x.ndim == 0:
        return np.ones_like(x)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def logistic(x: Array) -> Any:
    """Return 1 / (1 + e^-x) in the dtype of x without overflow."""
    half = x.dtype.type(0.5)
    return half * np.tanh(half * x) + half


def per_channel(values: Array, rank: int) -> Array:
    """Shape one value a channel so that it broadcasts along axis 1 of an array of this rank."""
    return values.reshape((-1,) + (1,) * (rank - 2))
