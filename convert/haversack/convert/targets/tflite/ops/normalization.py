"""Normalizations, decomposed: TFLite has kernels for none of them but LRN. Spatial data is channels-last."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers


@lowers("BatchNormalization")
def batch_normalization(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    """One factor and one offset a channel."""
    if training_mode:
        raise b.refuse("batch statistics", "export the model in inference mode")
    root = np.sqrt(b.known(variance, "the variance").astype(np.float64) + epsilon)
    factor = b.known(scale, "the scale") / root
    offset = b.known(bias, "the bias") - b.known(mean, "the mean") * factor
    y = steps.binary(b, "MUL", x, b.const(factor, "float32"))
    return steps.binary(b, "ADD", y, b.const(offset, "float32"))


def _standardized(b: Builder, x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """`(x - mean) / sqrt(variance + epsilon)`, the mean, and the reciprocal deviation."""
    mean = steps.reduce(b, "MEAN", x, axes)
    centred = steps.binary(b, "SUB", x, mean)
    variance = steps.reduce(b, "MEAN", steps.binary(b, "MUL", centred, centred), axes)
    inverse = steps.unary(b, "RSQRT", steps.scalar(b, "ADD", variance, epsilon))
    return steps.binary(b, "MUL", centred, inverse), mean, inverse


@lowers("InstanceNormalization")
def instance_normalization(b: Builder, x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Statistics over the spatial axes of each example and channel."""
    y, _, _ = _standardized(b, x, range(1, len(x.shape) - 1), epsilon)
    return steps.binary(b, "ADD", steps.binary(b, "MUL", y, scale), bias)


@lowers("GroupNormalization")
def group_normalization(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    """Statistics over the spatial axes and the channels of a group."""
    grouped = steps.reshape(
        b, x, (x.shape[0], -(-x.size // (x.shape[0] * x.shape[-1])), num_groups, x.shape[-1] // num_groups)
    )
    y, _, _ = _standardized(b, grouped, (1, 3), epsilon)
    y = steps.reshape(b, y, x.shape)
    return steps.binary(b, "ADD", steps.binary(b, "MUL", y, scale), bias)


@lowers("LayerNormalization")
def layer_normalization(
    b: Builder,
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, ...]:
    """Statistics over the last axes; the mean and the reciprocal deviation are outputs too."""
    rank = len(x.shape)
    y, mean, inverse = _standardized(b, x, range(steps.axis_of(axis, rank), rank), epsilon)
    if scale.data is None or scale.compressed or (scale.data != 1).any():
        y = steps.binary(b, "MUL", y, scale)
    return (y if bias is None else steps.binary(b, "ADD", y, bias), mean, inverse)[: len(b.results)]


@lowers("LpNormalization")
def lp_normalization(b: Builder, x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """The vector over its norm; a vector of zeros stays one (L2_NORMALIZATION has a floor of 1e-6 instead)."""
    axes = [steps.axis_of(axis, len(x.shape))]
    if p == 1:
        norm = steps.reduce(b, "SUM", steps.unary(b, "ABS", x), axes)
    else:
        norm = steps.unary(b, "SQRT", steps.reduce(b, "SUM", steps.binary(b, "MUL", x, x), axes))
    return steps.binary(b, "DIV", x, steps.scalar(b, "MAXIMUM", norm, float(np.finfo(np.float32).tiny)))


@lowers("LRN")
def local_response_normalization(
    b: Builder, x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """LOCAL_RESPONSE_NORMALIZATION, whose window is symmetric and whose alpha is not divided by the size."""
    if size % 2 == 0:
        raise b.refuse("LRN over an even number of channels", "use an odd size")
    flat = steps.reshape(b, x, (x.shape[0], x.size // (x.shape[0] * x.shape[-1]), 1, x.shape[-1]))
    y = b.op(
        "LOCAL_RESPONSE_NORMALIZATION",
        [flat],
        flat.shape,
        radius=(size - 1) // 2,
        bias=bias,
        alpha=alpha / size,
        beta=beta,
    )
    return steps.reshape(b, y, x.shape)
