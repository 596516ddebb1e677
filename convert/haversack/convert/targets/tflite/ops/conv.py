"""Convolutions. Data is channels-last, weights are as ONNX has them: [out, in / group, *kernel]."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers
from haversack.convert.targets.tflite.ops.window import Window, resolve_pads, same_padding
from haversack.convert.targets.tflite.schema import SAME, VALID


@lowers("Conv")
def conv(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """CONV_2D, DEPTHWISE_CONV_2D or CONV_3D; one spatial axis runs as two."""
    spatial = len(x.shape) - 2
    window = Window.of(weights.shape[2:], strides, dilations)
    edges = resolve_pads(window, x.shape[1:-1], pads, auto_pad)
    out = b.result.shape
    if spatial == 1:
        x = steps.reshape(b, x, (x.shape[0], 1, *x.shape[1:]))
        weights = steps.reshape(b, weights, (*weights.shape[:2], 1, weights.shape[2]))
        window, edges = window.prepend_axis(), [(0, 0), *edges]
        y = _conv_2d(b, x, weights, bias, window, edges, group, (out[0], 1, *out[1:]))
        return steps.reshape(b, y, out)
    if spatial == 2:
        return _conv_2d(b, x, weights, bias, window, edges, group, out)
    if spatial == 3:
        return _conv_3d(b, x, weights, bias, window, edges, group, out)
    raise b.refuse(f"convolution over {spatial} axes", "reshape to at most three spatial axes")


def _conv_2d(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    window: Window,
    edges: list[tuple[int, int]],
    group: int,
    out: tuple[int, ...],
) -> Tensor:
    x, padding = _padded(b, x, window, edges)
    options: dict[str, Any] = {
        "padding": padding,
        "stride_h": window.strides[0],
        "stride_w": window.strides[1],
        "dilation_h_factor": window.dilations[0],
        "dilation_w_factor": window.dilations[1],
    }
    channels, filters = x.shape[-1], weights.shape[0]
    if group > 1 and weights.shape[1] == 1 and group == channels:
        kernel = steps.transpose(b, weights, (1, 2, 3, 0))
        if b.mode == "hybrid":  # XNNPACK has no hybrid depthwise kernel, and without it VWW runs four times slower
            kernel = b.plain(kernel)
        return b.op("DEPTHWISE_CONV_2D", [x, kernel, bias], out, depth_multiplier=filters // channels, **options)
    if weights.dtype == "int4" and b.int4 != "int8" and b.mode == "integer" and _pointwise(window, edges, group):
        dense = steps.reshape(b, weights, weights.shape[:2])  # XNNPACK has no CONV_2D with int4
        return b.op("FULLY_CONNECTED", [x, dense, bias], out, keep_num_dims=True)
    kernel = steps.transpose(b, weights, (0, 2, 3, 1))
    if group == 1 or b.mode != "hybrid":
        return b.op("CONV_2D", [x, kernel, bias], out, **options)
    parts = zip(  # the hybrid kernel knows no groups
        steps.split(b, x, 3, [channels // group] * group),
        steps.split(b, kernel, 0, [filters // group] * group),
        [None] * group if bias is None else steps.split(b, bias, 0, [filters // group] * group),
        strict=True,
    )
    shape = (*out[:-1], filters // group)
    return steps.concat(b, [b.op("CONV_2D", [*part], shape, **options) for part in parts], 3)


def _pointwise(window: Window, edges: list[tuple[int, int]], group: int) -> bool:
    """Whether the convolution is one dense layer, applied at every place."""
    return group == 1 and set(window.strides) == {1} and set(window.extents) == {1} and not any(map(any, edges))


def _padded(b: Builder, x: Tensor, window: Window, edges: list[tuple[int, int]]) -> tuple[Tensor, int]:
    """The input and the padding scheme; zeros are written out where no scheme gives these pads."""
    if not any(map(any, edges)):
        return x, VALID
    if same_padding(window, x.shape[1:-1]) == edges and not (b.sizes_vary == "pads" and window.strided):
        return x, SAME
    if any(side < 0 for edge in edges for side in edge):
        raise b.refuse("negative pads", "slice the input instead")
    return steps.pad(b, x, [(0, 0), *edges, (0, 0)]), VALID


def _conv_3d(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    window: Window,
    edges: list[tuple[int, int]],
    group: int,
    out: tuple[int, ...],
) -> Tensor:
    x, padding = _padded(b, x, window, edges)
    weights = _dilated(b, weights, window.dilations)
    options: dict[str, Any] = {
        "padding": padding,
        **dict(zip(("stride_d", "stride_h", "stride_w"), window.strides, strict=True)),
    }
    kernel = steps.transpose(b, weights, (2, 3, 4, 1, 0))
    channels, filters = x.shape[-1], weights.shape[0]
    parts = zip(
        steps.split(b, x, 4, [channels // group] * group),
        steps.split(b, kernel, 4, [filters // group] * group),
        [None] * group if bias is None else steps.split(b, bias, 0, [filters // group] * group),
        strict=True,
    )
    shape = (*out[:-1], filters // group)
    return steps.concat(b, [b.op("CONV_3D", [*part], shape, **options) for part in parts], 4)


def _dilated(b: Builder, weights: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights with zeros between the taps, for kernels that have no dilation."""
    if all(step == 1 for step in dilations):
        return weights
    if weights.data is None or (weights.quantization is not None and weights.quantization.zero_point.any()):
        raise b.refuse("dilated kernel whose weights are computed at run time", "make the weights an initializer")
    sizes = [(size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True)]
    data = np.zeros((*weights.shape[:2], *sizes), weights.data.dtype)
    taps = tuple(slice(None, None, step) for step in dilations)
    data[(slice(None), slice(None), *taps)] = weights.data
    return Tensor(tuple(data.shape), weights.dtype, data, weights.quantization, weights.widened)


@lowers("ConvTranspose")
def conv_transpose(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """TRANSPOSE_CONV; weights are [in, out / group, *kernel]."""
    spatial, out = len(x.shape) - 2, b.result.shape
    if spatial > 2:
        raise b.refuse("transposed convolution over three axes", "use a Resize and a Conv")
    window = Window.of(weights.shape[2:], strides, dilations)
    weights = _dilated(b, weights, window.dilations)
    begins = _transposed_begins(window, x.shape[1:-1], out[1:-1], pads, auto_pad, output_padding, output_shape)
    if spatial == 1:
        x = steps.reshape(b, x, (x.shape[0], 1, *x.shape[1:]))
        weights = steps.reshape(b, weights, (*weights.shape[:2], 1, weights.shape[2]))
        window, begins = window.prepend_axis(), [0, *begins]
        y = _transposed(b, x, weights, bias, window.strides, begins, group, (out[0], 1, *out[1:]))
        return steps.reshape(b, y, out)
    return _transposed(b, x, weights, bias, window.strides, begins, group, out)


def _transposed_begins(
    window: Window,
    size: Sequence[int],
    out: Sequence[int],
    pads: Sequence[int],
    auto_pad: str,
    output_padding: Sequence[int],
    output_shape: Sequence[int],
) -> list[int]:
    """How much of the full result is cut off at the front (ConvTranspose's formulas, operator spec)."""
    extra = list(output_padding) or [0] * len(size)
    begins = []
    for axis, extent in enumerate(window.extents):
        if auto_pad in ("NOTSET", "VALID") and not output_shape:
            begins.append(pads[axis] if pads and auto_pad == "NOTSET" else 0)
            continue
        total = window.strides[axis] * (size[axis] - 1) + extra[axis] + extent - out[axis]
        begins.append(total // 2 if auto_pad == "SAME_UPPER" else total - total // 2)
    return begins


def _transposed(
    b: Builder,
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    strides: Sequence[int],
    begins: Sequence[int],
    group: int,
    out: tuple[int, ...],
) -> Tensor:
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], strides, weights.shape[2:], strict=True)]
    missing = [max(0, begin + n - f) for begin, n, f in zip(begins, out[1:3], full, strict=True)]
    if any(missing) or any(begin < 0 for begin in begins):
        weights = _extended(b, weights, missing, begins)
        full = [f + m for f, m in zip(full, missing, strict=True)]
    kernel = steps.transpose(b, weights, (1, 2, 3, 0))
    same = all(
        -(-n // s) == size and f >= n and begin == (f - n) // 2
        for n, s, size, f, begin in zip(out[1:3], strides, x.shape[1:3], full, begins, strict=True)
    )
    made = out[1:3] if same else tuple(full)
    options: dict[str, Any] = {"padding": SAME if same else VALID, "stride_h": strides[0], "stride_w": strides[1]}
    count = kernel.shape[0]
    parts = zip(
        steps.split(b, x, 3, [x.shape[3] // group] * group),
        steps.split(b, kernel, 3, [x.shape[3] // group] * group),
        [None] * group if bias is None else steps.split(b, bias, 0, [count] * group),
        strict=True,
    )
    shape = (out[0], *made, count)
    results = []
    for data, part, offset in parts:
        inputs = [b.ints(shape), part, data, *([] if offset is None else [offset])]
        results.append(b.op("TRANSPOSE_CONV", inputs, shape, **options))
    y = steps.concat(b, results, 3)
    return y if same else steps.slice_axes(b, y, (0, *begins, 0), out)


def _extended(b: Builder, weights: Tensor, missing: Sequence[int], begins: Sequence[int]) -> Tensor:
    """Zero taps at the end, so that the full result reaches as far as `output_padding` asks."""
    if weights.data is None or any(begin < 0 for begin in begins):
        raise b.refuse("an output larger than the weights reach", "use smaller output_padding or output_shape")
    data = np.pad(weights.data, [(0, 0), (0, 0), *((0, m) for m in missing)])
    return Tensor(tuple(data.shape), weights.dtype, data, weights.quantization, weights.widened)
