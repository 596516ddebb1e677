"""Pooling over one to three spatial axes.

`ceil_mode` never reaches MIL: the hub knows the output's size, so the missing end of the last window is padding that no
average counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.convert.targets.coreml.ops.conv import interleaved


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
        if any(step != 1 for step in dilations):
            b.refuse("Core ML has no dilated pooling", "use dilations of 1")
        self.kernel = list(kernel)
        self.strides = list(strides or [1] * spatial)
        self.pads = list(pads or [0] * 2 * spatial)
        wanted = b.outputs[0].shape[2:]
        for count, stride, length, begin in zip(wanted, self.strides, x.shape[2:], self.pads[:spatial], strict=True):
            if count > 1 and (count - 1) * stride >= length + begin:
                b.refuse("its last window, added by ceil_mode, starts in the padding", "use ceil_mode=0")
        self.beyond = [
            max(0, (count - 1) * stride + size - (length + begin + end))
            for count, stride, size, length, begin, end in zip(
                wanted, self.strides, self.kernel, x.shape[2:], self.pads[:spatial], self.pads[spatial:], strict=True
            )
        ]

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
    storage_order: int = 0,  # noqa: ARG001  (orders the indices only)
) -> Var:
    """Maximum of each window; padding never wins."""
    if len(b.outputs) > 1 and b.outputs[1].name:
        b.refuse("Core ML's max_pool gives no indices", "drop the output Indices")
    window = _Window(b, x, kernel_shape, strides, pads, dilations, auto_pad)
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
    window.pads = [
        pad + (window.beyond[axis - len(window.beyond)] if axis >= len(window.beyond) else 0)
        for axis, pad in enumerate(window.pads)
    ]
    window.beyond = [0] * len(window.beyond)
    powers = _powers(b, x, p)
    total = b.op("mul", x=_average(b, powers, window, include=True), y=float(math.prod(kernel_shape)))
    return _root(b, total, p)


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
