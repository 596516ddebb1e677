"""Normalisations, each by the formula of its ONNX operator specification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


def _along_channels(b: Builder, value: Value, rank: int) -> Var:
    """A vector of one number a channel, shaped to broadcast along axis 1."""
    return b.reshape(b.var(value), (1, -1 if value.shape == () else value.shape[0]) + (1,) * (rank - 2))


@lowers("BatchNormalization")
def batch_normalization(
    b: Builder,
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Var | tuple[Var, ...]:
    """(x - mean) / sqrt(variance + epsilon) · scale + bias."""
    if training_mode:
        return _of_the_batch(b, x, scale, bias, mean, variance, epsilon, momentum)
    parameters = (scale, bias, mean, variance)
    if x.rank in (3, 4, 5) and all(value.array is not None for value in parameters):
        return b.op("batch_norm", x=x, gamma=scale, beta=bias, mean=mean, variance=variance, epsilon=epsilon)
    gamma, beta, center, spread = (
        b.var(value) if x.rank < 2 else _along_channels(b, value, x.rank) for value in parameters
    )
    deviation = b.op("sqrt", x=b.op("add", x=spread, y=epsilon))
    factor = b.op("real_div", x=gamma, y=deviation)
    return b.op("add", x=b.op("mul", x=b.op("sub", x=x, y=center), y=factor), y=beta)


def _of_the_batch(
    b: Builder, x: Value, scale: Value, bias: Value, mean: Value, variance: Value, epsilon: float, momentum: float
) -> tuple[Var, ...]:
    """By the statistics of the batch itself, and the running ones moved towards them (training mode)."""
    axes = [axis for axis in range(x.rank) if axis != 1]
    center = b.op("reduce_mean", x=x, axes=axes, keep_dims=True)
    centered = b.op("sub", x=x, y=center)
    spread = b.op("reduce_mean", x=b.op("square", x=centered), axes=axes, keep_dims=True)
    factor = b.op("real_div", x=_along_channels(b, scale, x.rank), y=b.op("sqrt", x=b.op("add", x=spread, y=epsilon)))
    y = b.op("add", x=b.op("mul", x=centered, y=factor), y=_along_channels(b, bias, x.rank))
    running = [
        b.op("add", x=b.op("mul", x=old, y=momentum), y=b.op("mul", x=b.reshape(new, old.shape), y=1.0 - momentum))
        for old, new in ((mean, center), (variance, spread))
    ]
    return (y, *running)[: len(b.outputs)]


def _standardized(b: Builder, x: Var, axes: list[int], epsilon: float) -> tuple[Var, Var, Var]:
    """X minus its mean over its standard deviation along `axes`; the mean; one over the deviation."""
    mean = b.op("reduce_mean", x=x, axes=axes, keep_dims=True)
    centered = b.op("sub", x=x, y=mean)
    variance = b.op("reduce_mean", x=b.op("square", x=centered), axes=axes, keep_dims=True)
    deviation = b.op("sqrt", x=b.op("add", x=variance, y=epsilon))
    return b.op("real_div", x=centered, y=deviation), mean, b.op("real_div", x=1.0, y=deviation)


@lowers("InstanceNormalization")
def instance_normalization(b: Builder, x: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5) -> Var:
    """Standardised over the spatial axes of each channel of each sample."""
    if x.rank in (3, 4) and scale.array is not None and bias.array is not None:
        return b.op("instance_norm", x=x, gamma=scale, beta=bias, epsilon=epsilon)
    result, _, _ = _standardized(b, b.var(x), list(range(2, x.rank)), epsilon)
    scaled = b.op("mul", x=result, y=_along_channels(b, scale, x.rank))
    return b.op("add", x=scaled, y=_along_channels(b, bias, x.rank))


@lowers("LayerNormalization")
def layer_normalization(
    b: Builder,
    x: Value,
    scale: Value,
    bias: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,  # noqa: ARG001  (the precision of the statistics is Core ML's)
) -> Var | tuple[Var, ...]:
    """Standardised over the axes from `axis` on."""
    axis %= x.rank
    axes, tail = list(range(axis, x.rank)), x.shape[axis:]
    plain = len(b.outputs) == 1 or not any(value.name for value in b.outputs[1:])
    given = [value for value in (scale, bias) if value is not None]
    if plain and all(value.array is not None and value.shape == tail for value in given):
        return b.op("layer_norm", x=x, axes=axes, gamma=scale, beta=bias, epsilon=epsilon)
    result, mean, inverse = _standardized(b, b.var(x), axes, epsilon)
    result = b.op("mul", x=result, y=scale)
    if bias is not None:
        result = b.op("add", x=result, y=bias)
    return (result, mean, inverse)[: len(b.outputs)]


@lowers("GroupNormalization")
def group_normalization(
    b: Builder,
    x: Value,
    scale: Value,
    bias: Value,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,  # noqa: ARG001
) -> Var:
    """Standardised over each group of channels and the spatial axes; scale and bias a channel (opset 21)."""
    grouped = b.reshape(b.var(x), (x.shape[0], num_groups, int(np.prod(x.shape[1:])) // num_groups))
    result = b.op("layer_norm", x=grouped, axes=[2], epsilon=epsilon)
    result = b.reshape(result, x.shape)
    scaled = b.op("mul", x=result, y=_along_channels(b, scale, x.rank))
    return b.op("add", x=scaled, y=_along_channels(b, bias, x.rank))


@lowers("LRN")
def local_response_normalization(
    b: Builder, x: Value, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Var:
    """X / (bias + alpha/size · sum of squares over `size` channels)^beta.

    Of an even window ONNX puts the odd channel after, MIL leaves it open: then the sum is an average pool over the
    channels, zeros included.
    """
    if size % 2 and x.rank >= 3:
        return b.op("local_response_norm", x=x, size=size, alpha=alpha, beta=beta, k=bias)
    rows = b.reshape(b.op("square", x=x), (x.shape[0], 1, x.shape[1], int(np.prod(x.shape[2:]))))
    mean = b.op(
        "avg_pool",
        x=rows,
        kernel_sizes=[size, 1],
        strides=[1, 1],
        pad_type="custom",
        pad=[(size - 1) // 2, size // 2, 0, 0],
        exclude_padding_from_average=False,
        ceil_mode=False,
    )
    base = b.op("add", x=b.op("mul", x=b.reshape(mean, x.shape), y=alpha), y=bias)
    return b.op("real_div", x=x, y=b.op("pow", x=base, y=beta))


@lowers("LpNormalization")
def lp_normalization(b: Builder, x: Value, *, axis: int = -1, p: int = 2) -> Var:
    """X over its p-norm along one axis; all zeros stay zeros (the smallest normal number stands in for a norm of 0)."""
    kind: dict[int, str] = {1: "reduce_l1_norm", 2: "reduce_l2_norm"}
    norm = b.op(kind[p], x=x, axes=[axis], keep_dims=True)
    smallest = float(np.finfo(b.float_dtype).tiny)
    return b.op("real_div", x=x, y=b.op("maximum", x=norm, y=smallest))


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(b: Builder, x: Value, *, axes: Sequence[int] = (0, 2, 3)) -> Var:
    """(x - mean) / (sqrt(mean of squared deviations) + 1e-9), the operator's own function body."""
    where = list(axes)
    mean = b.op("reduce_mean", x=x, axes=where, keep_dims=True)
    centered = b.op("sub", x=x, y=mean)
    variance = b.op("reduce_mean", x=b.op("square", x=centered), axes=where, keep_dims=True)
    return b.op("real_div", x=centered, y=b.op("add", x=b.op("sqrt", x=variance), y=1e-9))
