"""Pools. Data is channels-last."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers
from haversack.convert.targets.tflite.ops.window import Window, ceiled_pads, resolve_pads, same_padding
from haversack.convert.targets.tflite.schema import SAME, VALID
from haversack.runtimes.engines import Array

Edges = list[tuple[int, int]]


@lowers("MaxPool")
def max_pool(
    b: Builder,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
) -> Tensor:
    """MAX_POOL_2D; pads never win, so they are the lowest value."""
    if len(b.results) > 1:
        raise b.refuse("the indices of maxima", "remove the second output, or use ArgMax")
    window = Window.of(kernel_shape, strides, dilations)
    edges = _ceiled(b, window, x.shape[1:-1], resolve_pads(window, x.shape[1:-1], pads, auto_pad))
    return _by_planes(b, "MAX_POOL_2D", x, window, edges)


@lowers("AveragePool")
def average_pool(
    b: Builder,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """AVERAGE_POOL_2D, which leaves out SAME's pads; other pads are zeros whose share a MUL corrects."""
    window = Window.of(kernel_shape, strides, dilations)
    size, out = x.shape[1:-1], b.result.shape[1:-1]
    asked = resolve_pads(window, size, pads, auto_pad)
    edges = _ceiled(b, window, size, asked)
    counts = _counts(window, size, asked if count_include_pad else [(0, 0)] * len(size), edges, out)
    full = int(np.prod(window.kernel))
    if len(size) <= 2 and _is_same(window, size, edges) and not count_include_pad:
        return _planes(b, "AVERAGE_POOL_2D", x, window, edges)
    y = _by_planes(b, "AVERAGE_POOL_2D", steps.pad(b, x, [(0, 0), *edges, (0, 0)]), window, [(0, 0)] * len(size))
    if np.all(counts == full):
        return y
    if np.any(counts == 0):
        raise b.refuse("a window that holds nothing but padding", "use smaller pads")
    return steps.binary(b, "MUL", y, b.const((full / counts)[None, ..., None], "float32"))


@lowers("LpPool")
def lp_pool(
    b: Builder,
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> Tensor:
    """The p-th root of the windows' sums of p-th powers."""
    window = Window.of(kernel_shape, strides, dilations)
    size = x.shape[1:-1]
    edges = _ceiled(b, window, size, resolve_pads(window, size, pads, auto_pad))
    powers = steps.pad(b, _power(b, x, p), [(0, 0), *edges, (0, 0)])
    means = _by_planes(b, "AVERAGE_POOL_2D", powers, window, [(0, 0)] * len(size))
    return _root(b, steps.scalar(b, "MUL", means, float(np.prod(window.kernel))), p)


def _ceiled(b: Builder, window: Window, size: Sequence[int], edges: Edges) -> Edges:
    ceiled = ceiled_pads(window, size, edges, b.result.shape[1:-1])
    if ceiled is None:
        raise b.refuse("a last window that starts in the padding", "set ceil_mode to 0, or use smaller pads")
    return ceiled


def _power(b: Builder, x: Tensor, p: int) -> Tensor:
    if p == 2:
        return steps.binary(b, "MUL", x, x)
    size = steps.unary(b, "ABS", x)
    return size if p == 1 else steps.scalar(b, "POW", size, p)


def _root(b: Builder, x: Tensor, p: int) -> Tensor:
    if p == 2:
        return steps.unary(b, "SQRT", x)
    return x if p == 1 else steps.scalar(b, "POW", x, 1 / p)


def _counts(window: Window, size: Sequence[int], counted: Edges, edges: Edges, out: Sequence[int]) -> Array:
    """How many elements each window averages: [*out]."""
    counts: Array = np.ones((), np.float64)
    for n, o, k, s, d, (before, after), (origin, _) in zip(
        size, out, window.kernel, window.strides, window.dilations, counted, edges, strict=True
    ):
        taps = np.arange(o)[:, None] * s + np.arange(k) * d - origin
        counts = counts[..., None] * ((taps >= -before) & (taps < n + after)).sum(1)
    return counts


def _is_same(window: Window, size: Sequence[int], edges: Edges) -> bool:
    return all(d == 1 for d in window.dilations) and same_padding(window, size) == edges


def _by_planes(b: Builder, code: str, x: Tensor, window: Window, edges: Edges) -> Tensor:
    """A pool over any number of spatial axes, as pools over at most two of them."""
    if any(d != 1 and k > 1 for d, k in zip(window.dilations, window.kernel, strict=True)):
        return _by_taps(b, code, x, window, edges)
    if len(window.kernel) <= 2:
        return _planes(b, code, x, window, edges)
    if len(window.kernel) > 3:
        raise b.refuse("a pool over more than three axes", "pool twice")
    n, depth, height, width, channels = x.shape
    plane = Window(window.kernel[1:], window.strides[1:], window.dilations[1:])
    y = _planes(b, code, steps.reshape(b, x, (n * depth, height, width, channels)), plane, edges[1:])
    height, width = y.shape[1:3]
    line = Window((window.kernel[0], 1), (window.strides[0], 1), (1, 1))
    y = _planes(b, code, steps.reshape(b, y, (n, depth, height * width, channels)), line, [edges[0], (0, 0)])
    return steps.reshape(b, y, (n, y.shape[1], height, width, channels))


def _planes(b: Builder, code: str, x: Tensor, window: Window, edges: Edges) -> Tensor:
    if len(window.kernel) == 1:
        lifted = steps.reshape(b, x, (x.shape[0], 1, *x.shape[1:]))
        y = _planes(b, code, lifted, window.prepend_axis(), [(0, 0), *edges])
        return steps.reshape(b, y, (y.shape[0], *y.shape[2:]))
    fixed = not (b.sizes_vary == "pads" and window.strided)
    padding = SAME if any(map(any, edges)) and fixed and _is_same(window, x.shape[1:-1], edges) else VALID
    if padding == VALID:
        x = _lowest(b, x, edges)
        out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window.kernel, window.strides, strict=True)]
    else:
        out = [-(-n // s) for n, s in zip(x.shape[1:3], window.strides, strict=True)]
    options: dict[str, Any] = dict(zip(("filter_height", "filter_width"), window.kernel, strict=True))
    options |= dict(zip(("stride_h", "stride_w"), window.strides, strict=True))
    return b.op(code, [x], (x.shape[0], *out, x.shape[3]), padding=padding, **options)


def _lowest(b: Builder, x: Tensor, edges: Edges) -> Tensor:
    """Padding that a maximum never picks."""
    if not any(map(any, edges)):
        return x
    pads = [(0, 0), *edges, (0, 0)]
    if x.quantization is not None and b.mode == "integer":
        shape = [n + before + after for n, (before, after) in zip(x.shape, pads, strict=True)]
        lowest = Tensor((), x.dtype, np.array(np.iinfo(x.dtype).min, x.dtype), x.quantization)
        return b.op("PADV2", [x, b.const(np.array(pads, np.int32)), lowest], shape)
    return steps.pad(b, x, pads, -np.inf if x.nominal.startswith("float") else np.iinfo(x.nominal).min)


def _by_taps(b: Builder, code: str, x: Tensor, window: Window, edges: Edges) -> Tensor:
    """A dilated pool: axis by axis, one strided slice a tap, joined by MAXIMUM or ADD."""
    x = _lowest(b, x, edges) if code == "MAX_POOL_2D" else x
    for axis, (taps, extent, stride, dilation) in enumerate(
        zip(window.kernel, window.extents, window.strides, window.dilations, strict=True), start=1
    ):
        count = (x.shape[axis] - extent) // stride + 1
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        y: Tensor | None = None
        for tap in range(taps):
            begin, end, step = [0] * len(shape), list(x.shape), [1] * len(shape)
            begin[axis], step[axis] = tap * dilation, stride
            end[axis] = begin[axis] + (count - 1) * stride + 1
            part = b.op("STRIDED_SLICE", [x, *map(b.ints, (begin, end, step))], shape)
            y = part if y is None else steps.binary(b, "MAXIMUM" if code == "MAX_POOL_2D" else "ADD", y, part)
        assert y is not None
        x = y
    return x if code == "MAX_POOL_2D" else steps.scalar(b, "MUL", x, 1 / float(np.prod(window.kernel)))


def _global(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor) -> Tensor:
        return steps.reduce(b, code, x, range(1, len(x.shape) - 1))

    return lowering


LOWERINGS.table(_global, {"GlobalMaxPool": "REDUCE_MAX"})


@lowers("GlobalAveragePool")
def global_average_pool(b: Builder, x: Tensor) -> Tensor:
    """AVERAGE_POOL_2D over all of the plane where input and output share a scale, else MEAN."""
    same = b.mode != "integer" or (x.quantization is not None and x.quantization.same(b.result.quantization))
    if len(x.shape) == 4 and same and not b.sizes_vary:
        size = x.shape[1:3]
        return _planes(b, "AVERAGE_POOL_2D", x, Window.of(size, size, ()), [(0, 0), (0, 0)])
    return steps.reduce(b, "MEAN", x, range(1, len(x.shape) - 1))


@lowers("GlobalLpPool")
def global_lp_pool(b: Builder, x: Tensor, *, p: int = 2) -> Tensor:
    """The p-th root of the sum of p-th powers."""
    return _root(b, steps.reduce(b, "SUM", _power(b, x, p), range(1, len(x.shape) - 1)), p)
