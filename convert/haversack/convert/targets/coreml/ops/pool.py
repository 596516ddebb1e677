"""Pooling over one to three spatial axes.

`ceil_mode` never reaches MIL: the hub knows the output's size, so the missing end of the last window is padding that no
average counts. MIL has no dilated pools: those are written out (`_by_taps`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.convert.targets.coreml.ops.conv import interleaved
from haversack.runtimes.engines import Array


class _Window:
    """Kernel, strides and pads of one pooling node, checked against what MIL can express."""

    def __init__(
        self,
        b: Builder,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        auto_pad: str,
    ):
        spatial = x.rank - 2
        if spatial not in (1, 2, 3):
            b.refuse(f"Core ML pools over 1 to 3 spatial axes, not {spatial}", "merge or add axes")
        if auto_pad not in ("NOTSET", ""):
            b.refuse(f"auto_pad={auto_pad} was not resolved into pads", "write the pads out")
        self.kernel = list(kernel)
        self.strides = list(strides or [1] * spatial)
        self.pads = list(pads or [0] * 2 * spatial)
        self.dilations = list(dilations or [1] * spatial)
        self.size, self.wanted = x.shape[2:], b.outputs[0].shape[2:]
        begins, ends = self.pads[:spatial], self.pads[spatial:]
        self.beyond = [
            max(0, (count - 1) * stride + (size - 1) * dilation + 1 - (length + begin + end))
            for count, stride, size, dilation, length, begin, end in zip(
                self.wanted, self.strides, self.kernel, self.dilations, self.size, begins, ends, strict=True
            )
        ]
        for count, stride, length, begin in zip(self.wanted, self.strides, self.size, begins, strict=True):
            if count > 1 and (count - 1) * stride >= length + begin:  # later opsets leave it out
                b.refuse("its last window, added by ceil_mode, starts in the padding", "use ceil_mode=0")
        self.written_out = any(step != 1 for step in self.dilations)

    def counts(self, *, include: bool) -> Array:
        """How many elements each window averages, the model's own padding among them with `include`: `[*out]`."""
        half = len(self.pads) // 2
        counts: Array = np.ones((), np.float64)
        for count, stride, taps, dilation, length, begin, end in zip(
            self.wanted,
            self.strides,
            self.kernel,
            self.dilations,
            self.size,
            self.pads[:half],
            self.pads[half:],
            strict=True,
        ):
            places = np.arange(count)[:, None] * stride + np.arange(taps) * dilation - begin
            low, high = (-begin, length + end) if include else (0, length)
            counts = counts[..., None] * ((places >= low) & (places < high)).sum(1)
        return counts

    def pad(self, *, explicit: bool = False) -> list[int]:
        """MIL's `pad`: with the model's own pads, or without them where they were made explicit."""
        half = len(self.pads) // 2
        begins = [0] * half if explicit else self.pads[:half]
        ends = [0] * half if explicit else self.pads[half:]
        return interleaved(begins + [end + more for end, more in zip(ends, self.beyond, strict=True)])


@lowers("MaxPool")
def max_pool(
    b: Builder,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    ceil_mode: int = 0,  # noqa: ARG001
    auto_pad: str = "NOTSET",
    storage_order: int = 0,
) -> Var | tuple[Var, ...]:
    """Maximum of each window; padding never wins."""
    window = _Window(b, x, kernel_shape, strides, pads, dilations, auto_pad)
    if len(b.outputs) > 1 and b.outputs[1].name:
        return _with_indices(b, x, window, column_major=bool(storage_order))
    if window.written_out:
        return b.unfloats(_by_taps(b, b.floats(x), window, "maximum"), x)
    result = b.op(
        "max_pool",
        x=b.floats(x),
        kernel_sizes=window.kernel,
        strides=window.strides,
        pad_type="custom",
        pad=window.pad(),
        ceil_mode=False,
    )
    return b.unfloats(result, x)


@lowers("AveragePool")
def average_pool(
    b: Builder,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    ceil_mode: int = 0,  # noqa: ARG001
    auto_pad: str = "NOTSET",
    count_include_pad: int = 0,
) -> Var:
    """Mean of each window, over the model's own padding too with `count_include_pad`."""
    window = _Window(b, x, kernel_shape, strides, pads, dilations, auto_pad)
    return _average(b, b.var(x), window, include=bool(count_include_pad))


def _average(b: Builder, x: Var, window: _Window, *, include: bool) -> Var:
    if window.written_out:
        counts = window.counts(include=include)
        if not counts.all():
            b.refuse("a window that holds nothing but padding", "use smaller pads")
        return b.op("mul", x=_by_taps(b, x, window, "add"), y=(1 / counts)[None, None].astype(np.float32))
    # One op cannot tell the padding that counts from the end of the last window, which does not: the former becomes
    # zeros of the input.
    explicit = include and any(window.beyond)
    if explicit and any(window.pads):
        x = b.op("pad", x=x, pad=[0, 0, 0, 0, *interleaved(window.pads)], mode="constant", constant_val=0.0)
    return b.op(
        "avg_pool",
        x=x,
        kernel_sizes=window.kernel,
        strides=window.strides,
        pad_type="custom",
        pad=window.pad(explicit=explicit),
        exclude_padding_from_average=explicit or not include,
        ceil_mode=False,
    )


@lowers("LpPool")
def lp_pool(
    b: Builder,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    ceil_mode: int = 0,  # noqa: ARG001
    auto_pad: str = "NOTSET",
    p: int = 2,
) -> Var:
    """(sum |x|^p)^(1/p) of each window: the mean over the window, zeros included, times its size."""
    window = _Window(b, x, kernel_shape, strides, pads, dilations, auto_pad)
    powers = _powers(b, x, p)
    if window.written_out:
        return _root(b, _by_taps(b, powers, window, "add"), p)
    window.pads = [
        pad + (window.beyond[axis - len(window.beyond)] if axis >= len(window.beyond) else 0)
        for axis, pad in enumerate(window.pads)
    ]
    window.beyond = [0] * len(window.beyond)
    total = b.op("mul", x=_average(b, powers, window, include=True), y=float(math.prod(kernel_shape)))
    return _root(b, total, p)


def _by_taps(b: Builder, x: Var, window: _Window, join: str) -> Var:
    """Axis by axis, one strided slice a tap, joined by `maximum` or `add`."""
    neutral = -np.inf if join == "maximum" else 0.0
    x = b.op("pad", x=x, pad=[0, 0, 0, 0, *window.pad()], mode="constant", constant_val=neutral)
    for axis, (count, taps, stride, dilation) in enumerate(
        zip(window.wanted, window.kernel, window.strides, window.dilations, strict=True), start=2
    ):
        rows = [_tap(b, x, axis, tap * dilation, count, stride) for tap in range(taps)]
        x = functools.reduce(lambda one, two: b.op(join, x=one, y=two), rows)
    return x


def _tap(b: Builder, x: Var, axis: int, first: int, count: int, stride: int) -> Var:
    begin, end, step = [0] * len(x.shape), [int(size) for size in x.shape], [1] * len(x.shape)
    begin[axis], end[axis], step[axis] = first, first + (count - 1) * stride + 1, stride
    return b.op("slice_by_index", x=x, begin=begin, end=end, stride=step)


def _with_indices(b: Builder, x: Value, window: _Window, *, column_major: bool) -> tuple[Var, ...]:
    """The largest element and its place in the whole tensor, flattened; of equal ones the first.

    The taps of every window side by side: `reduce_argmax` names one, and a constant table the place that it read.
    """
    padded = b.op("pad", x=b.floats(x), pad=[0, 0, 0, 0, *window.pad()], mode="constant", constant_val=-np.inf)
    half = len(window.pads) // 2
    axes = range(half)
    taps, places = [], []
    for offsets in itertools.product(*(range(size) for size in window.kernel)):
        part, index = padded, np.zeros((), np.int64)
        for axis, tap in enumerate(offsets):
            first = tap * window.dilations[axis]
            part = _tap(b, part, axis + 2, first, window.wanted[axis], window.strides[axis])
        for axis in reversed(axes) if column_major else axes:
            row = np.arange(window.wanted[axis]) * window.strides[axis] + offsets[axis] * window.dilations[axis]
            row = (row - window.pads[axis]).reshape([-1 if n == axis else 1 for n in axes])
            index = index * window.size[axis] + row
        taps.append(b.reshape(part, (*x.shape[:2], math.prod(window.wanted), 1)))
        places.append(np.broadcast_to(index, window.wanted).reshape(-1))
    stacked = b.op("concat", values=taps, axis=3, interleave=False) if len(taps) > 1 else taps[0]
    count, width = math.prod(window.wanted), len(taps)
    chosen = b.op("reduce_argmax", x=stacked, axis=3, keep_dims=False)
    row = b.op("add", x=chosen, y=np.arange(count, dtype=np.int32) * width)
    place = b.op("gather", x=np.stack(places, 1).reshape(-1), indices=row, axis=0, batch_dims=0)
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], 1) * math.prod(window.size)
    where = b.reshape(b.op("add", x=place, y=planes), b.outputs[1].shape)
    best = b.op("reduce_max", x=stacked, axes=[3], keep_dims=False)
    return b.unfloats(b.reshape(best, b.outputs[0].shape), x), where


def _powers(b: Builder, x: Value, p: int) -> Var:
    if p == 2:
        return b.op("square", x=x)
    magnitude = b.op("abs", x=x)
    return magnitude if p == 1 else b.op("pow", x=magnitude, y=float(p))


def _root(b: Builder, total: Var, p: int) -> Var:
    if p == 1:
        return total
    return b.op("sqrt", x=total) if p == 2 else b.op("pow", x=total, y=1.0 / p)


def _spatial_axes(x: Value) -> list[int]:
    return list(range(2, x.rank))


@lowers("GlobalAveragePool")
def global_average_pool(b: Builder, x: Value) -> Var:
    """Mean over the spatial axes."""
    return b.op("reduce_mean", x=x, axes=_spatial_axes(x), keep_dims=True)


@lowers("GlobalMaxPool")
def global_max_pool(b: Builder, x: Value) -> Var:
    """Maximum over the spatial axes."""
    return b.op("reduce_max", x=x, axes=_spatial_axes(x), keep_dims=True)


@lowers("GlobalLpPool")
def global_lp_pool(b: Builder, x: Value, *, p: int = 2) -> Var:
    """(sum |x|^p)^(1/p) over the spatial axes."""
    return _root(b, b.op("reduce_sum", x=_powers(b, x, p), axes=_spatial_axes(x), keep_dims=True), p)
