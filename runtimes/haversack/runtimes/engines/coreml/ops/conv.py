"""Convolution and transposed convolution in one, two or three dimensions, by matrix multiplication.

Layouts are MIL's: x [N, C, *D], weight [C_out, C_in / groups, *K] for `conv` and [C_in, C_out / groups, *K] for
`conv_transpose`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.activation import per_channel
from haversack.runtimes.engines.coreml.registry import Ints, op
from haversack.runtimes.errors import EngineError


def padding(
    pad_type: str, pad: Ints | None, sizes: Ints, kernel: Ints, strides: Ints, dilations: Ints
) -> tuple[tuple[int, int], ...]:
    """Return the padding before and after each spatial dimension.

    Args:
        pad_type: `valid`, `custom` (as in `pad`), `same` (the odd element goes after) or `same_lower` (before).
        pad: Before and after the first dimension, then the second, and so on.
        sizes: Of the input's spatial dimensions.
        kernel: Window size in each.
        strides: Of the window.
        dilations: Of the window.
    """
    if pad_type == "valid":
        return ((0, 0),) * len(sizes)
    if pad_type == "custom":
        if pad is None:
            return ((0, 0),) * len(sizes)
        return tuple((pad[2 * i], pad[2 * i + 1]) for i in range(len(sizes)))
    if pad_type not in ("same", "same_lower"):
        raise EngineError(f"the pad_type {pad_type} is not known")
    result = []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        extent = (window - 1) * dilation + 1
        total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
        small = total // 2
        result.append((small, total - small) if pad_type == "same" else (total - small, small))
    return tuple(result)


def windows(x: Array, kernel: Ints, strides: Ints, dilations: Ints) -> Array:
    """View x [N, C, *D] as windows [N, C, *K, *O] without copying."""
    spatial = x.shape[2:]
    counts = tuple(
        (size - (window - 1) * dilation - 1) // stride + 1
        for size, window, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
    )
    step = x.strides[2:]
    return np.lib.stride_tricks.as_strided(
        x,
        x.shape[:2] + tuple(kernel) + counts,
        x.strides[:2]
        + tuple(s * d for s, d in zip(step, dilations, strict=True))
        + tuple(s * t for s, t in zip(step, strides, strict=True)),
        writeable=False,
    )


def pad_spatial(x: Array, pads: tuple[tuple[int, int], ...], value: float = 0.0) -> Array:
    """Pad the spatial dimensions of x [N, C, *D] with a value."""
    if not any(before or after for before, after in pads):
        return x
    spatial = x.shape[2:]
    shape = x.shape[:2] + tuple(b + size + a for size, (b, a) in zip(spatial, pads, strict=True))
    padded = np.full(shape, value, x.dtype)
    inner = tuple(slice(b, b + size) for size, (b, _) in zip(spatial, pads, strict=True))
    padded[(slice(None), slice(None), *inner)] = x
    return padded


@op("conv")
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Any:
    """Convolve: floor((D + pads - (K - 1) * dilation - 1) / stride) + 1 outputs in each dimension."""
    rank = x.ndim - 2
    kernel = weight.shape[2:]
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    x = pad_spatial(x, padding(pad_type, pad, x.shape[2:], kernel, strides, dilations))
    if groups > 1 and weight.shape[1] == 1 and weight.shape[0] == groups:
        result = _depthwise(windows(x, kernel, strides, dilations), weight)
    else:
        result = _matrix(windows(x, kernel, strides, dilations), weight, groups)
    if bias is not None:
        result += per_channel(bias, result.ndim)
    return result


def _depthwise(seen: Array, weight: Array) -> Array:
    """Sum one product a kernel position: few large operations where a matrix product would be many tiny ones."""
    kernel = weight.shape[2:]
    rank = len(kernel)
    result = np.zeros(seen.shape[:2] + seen.shape[2 + rank :], seen.dtype)
    product = np.empty_like(result)
    for position in itertools.product(*map(range, kernel)):
        at: tuple[Any, ...] = (slice(None), slice(None), *position)
        factor = weight[at][:, 0].reshape((-1,) + (1,) * rank)
        np.multiply(seen[at], factor, out=product)
        result += product
    return result


def _matrix(seen: Array, weight: Array, groups: int) -> Array:
    """Multiply the unfolded windows by the weights, group by group."""
    batch, channels = seen.shape[:2]
    rank = weight.ndim - 2
    outer = seen.shape[2 + rank :]
    size = math.prod(weight.shape[1:])
    columns = seen.reshape(batch, groups, size, math.prod(outer))
    filters = weight.reshape(groups, weight.shape[0] // groups, size)
    if channels != weight.shape[1] * groups:
        raise EngineError(f"x has {channels} channels, the weight takes {weight.shape[1]} in {groups} groups")
    result: Array = np.matmul(filters, columns)
    return result.reshape(batch, weight.shape[0], *outer)


@op("conv_quantized")
def conv_quantized(
    x: Array,
    weight: Array,
    quantization_type: str,
    quant_scale: Array,
    quant_bias: Array,
    bias: Array | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Any:
    """Convolve with weights of weight * quant_scale + quant_bias; only `linear`, 8-bit weights are defined."""
    if quantization_type != "linear" or nbits != 8:
        raise EngineError(f"conv_quantized with {quantization_type} {nbits}-bit weights is not known")
    rank = weight.ndim
    scale, shift = (v if v.ndim == 0 else v.reshape((-1,) + (1,) * (rank - 1)) for v in (quant_scale, quant_bias))
    return conv(x, weight.astype(np.float32) * scale + shift, bias, strides, pad_type, pad, dilations, groups)


@op("conv_transpose")
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Any:
    """Spread each input over a window and sum; then cut the padding off.

    Without `output_shape` the output has (D - 1) * stride + (K - 1) * dilation + 1 elements in a dimension, less the
    padding (`custom`), or D * stride (`same`).
    """
    rank = x.ndim - 2
    batch, channels = x.shape[:2]
    kernel = weight.shape[2:]
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    spatial = x.shape[2:]
    full = tuple((d - 1) * s + (k - 1) * t + 1 for d, s, k, t in zip(spatial, strides, kernel, dilations, strict=True))
    per_group = weight.shape[1]
    filters = weight.reshape(groups, channels // groups, -1).transpose(0, 2, 1)
    columns = x.reshape(batch, groups, channels // groups, math.prod(spatial))
    spread = np.matmul(filters, columns).reshape(batch, groups * per_group, *kernel, *spatial)
    result = np.zeros((batch, groups * per_group, *full), x.dtype)
    for position in itertools.product(*map(range, kernel)):
        target = tuple(
            slice(p * t, p * t + (d - 1) * s + 1, s)
            for p, t, d, s in zip(position, dilations, spatial, strides, strict=True)
        )
        result[(slice(None), slice(None), *target)] += spread[(slice(None), slice(None), *position)]
    result = _crop(result, pad_type, pad, output_shape, tuple(d * s for d, s in zip(spatial, strides, strict=True)))
    if bias is not None:
        result = result + per_channel(bias, result.ndim)
    return result


def _crop(full: Array, pad_type: str, pad: Ints | None, output_shape: Ints | None, same: Ints) -> Array:
    """Cut the full transposed convolution to its declared size; what lies beyond it is zero."""
    rank = full.ndim - 2
    sizes = full.shape[2:]
    if pad_type == "custom" and pad is not None:
        before = tuple(pad[2 * i] for i in range(rank))
        wanted = tuple(size - pad[2 * i] - pad[2 * i + 1] for i, size in enumerate(sizes))
    elif pad_type in ("same", "same_lower"):
        wanted = same if output_shape is None else output_shape[2:]
        totals = tuple(max(0, size - w) for size, w in zip(sizes, wanted, strict=True))
        before = tuple(t // 2 if pad_type == "same" else t - t // 2 for t in totals)
    else:
        before, wanted = (0,) * rank, sizes
    if output_shape is not None:
        wanted = output_shape[2:]
    extra = tuple((0, max(0, b + w - size)) for b, w, size in zip(before, wanted, sizes, strict=True))
    full = pad_spatial(full, extra)
    cut = tuple(slice(b, b + w) for b, w in zip(before, wanted, strict=True))
    return full[(slice(None), slice(None), *cut)]
