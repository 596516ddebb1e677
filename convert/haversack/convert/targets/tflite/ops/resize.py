"""Resize. Data is channels-last; scales, sizes and regions are in ONNX's order.

Which element (or pair of elements) each output reads is worked out here per axis, by ONNX's formulas. Where a RESIZE
kernel reads the same ones, it is used; elsewhere a GATHER an axis does it, so no coordinate mode is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers
from haversack.convert.targets.tflite.ops.interpolation import apply, cubic, linear, outside, weights
from haversack.runtimes.engines import Array

KERNEL_MODES = ((False, True), (True, False), (False, False))  # (align_corners, half_pixel_centers)
COORDINATE_TOLERANCE = 1e-5
"""Kernels compute coordinates in float32: at most a few ulp of an axis of 100 elements."""


@lowers("Resize")
def resize(
    b: Builder,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR, or gathers."""
    out = b.result.shape
    if out[0] != x.shape[0] or out[-1] != x.shape[-1]:
        raise b.refuse("resizing the batch or the channels", "resize spatial axes only")
    factors = _factors(b, x, out, scales, sizes, axes, keep_aspect_ratio_policy)
    spatial = range(1, len(x.shape) - 1)
    if coordinate_transformation_mode == "tf_crop_and_resize":
        return _cropped(b, x, roi, axes, mode, nearest_mode, cubic_coeff_a, exclude_outside, extrapolation_value)
    if (
        mode != "nearest"
        and coordinate_transformation_mode == "align_corners"
        and any(out[a] > 1 and not math.isclose(x.shape[a] * factors[a], out[a], rel_tol=1e-5) for a in spatial)
    ):
        # By the operator spec the last element of such a fractional size is aligned, by onnxruntime the last there is.
        raise b.refuse("align_corners with scales that give a fractional size", "give sizes")
    coordinates = [_coordinates(x.shape[a], out[a], factors[a], coordinate_transformation_mode) for a in spatial]
    shrinks = [min(factors[a], 1.0) if antialias else 1.0 for a in spatial]
    if mode == "cubic" or (mode == "linear" and any(shrink < 1 for shrink in shrinks)):
        kernel, support = (cubic(cubic_coeff_a), 2) if mode == "cubic" else (linear, 1)
        for a, places, shrink in zip(spatial, coordinates, shrinks, strict=True):
            x = apply(b, x, a, weights(places, x.shape[a], kernel, support, shrink, bool(exclude_outside)))
        return x
    if mode == "nearest":
        rows = [_nearest(c, n, nearest_mode) for c, n in zip(coordinates, x.shape[1:], strict=False)]
        return _resize_nearest(b, x, rows)
    clipped = [np.clip(c, 0, n - 1) for c, n in zip(coordinates, x.shape[1:], strict=False)]
    return _resize_linear(b, x, clipped)


def _factors(
    b: Builder,
    x: Tensor,
    out: Sequence[int],
    scales: Tensor | None,
    sizes: Tensor | None,
    axes: Sequence[int] | None,
    policy: str,
) -> list[float]:
    """Scale of each axis, in channels-last order: as given, else the ratio of the sizes."""
    rank = len(x.shape)
    logical = [x.shape[0], x.shape[-1], *x.shape[1:-1]]
    ratios = [o / n for o, n in zip([out[0], out[-1], *out[1:-1]], logical, strict=True)]
    chosen = range(rank) if axes is None else [steps.axis_of(int(a), rank) for a in axes]
    if scales is not None and scales.size:
        for axis, factor in zip(chosen, b.known(scales, "scales").reshape(-1), strict=True):
            ratios[axis] = float(factor)
    elif policy != "stretch" and sizes is not None:
        asked = b.known(sizes, "sizes").reshape(-1)
        found = [float(n) / logical[axis] for axis, n in zip(chosen, asked, strict=True)]
        for axis in chosen:
            ratios[axis] = min(found) if policy == "not_larger" else max(found)
    return [ratios[0], *ratios[2:], ratios[1]]


def _cropped(
    b: Builder,
    x: Tensor,
    roi: Tensor | None,
    axes: Sequence[int] | None,
    mode: str,
    nearest_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
) -> Tensor:
    """`tf_crop_and_resize`: the region's corners are aligned, and what lies beyond the input is one value."""
    rank, out = len(x.shape), b.result.shape
    if roi is None:
        raise b.refuse("a crop without a region", "give roi")
    region = b.known(roi, "roi").astype(np.float64).reshape(2, -1)
    chosen = list(range(rank)) if axes is None else [steps.axis_of(int(a), rank) for a in axes]
    coordinates = []
    for place in range(1, rank - 1):
        start, end = region[:, chosen.index(place + 1)] if place + 1 in chosen else (0.0, 1.0)
        last = x.shape[place] - 1
        steps_of = np.arange(out[place]) * (end - start) * last / max(out[place] - 1, 1)
        coordinates.append(start * last + steps_of if out[place] > 1 else np.array([0.5 * (start + end) * last]))
    beyond = outside(coordinates, x.shape[1:-1])
    for place, at in enumerate(coordinates, start=1):
        n = x.shape[place]
        if mode == "nearest":
            x = steps.gather(b, x, b.ints(_nearest(at, n, nearest_mode).tolist()), place)
            continue
        kernel, support = (cubic(cubic_coeff_a), 2) if mode == "cubic" else (linear, 1)
        x = apply(b, x, place, weights(at, n, kernel, support, 1.0, bool(exclude_outside)))
    if not beyond.any():
        return x
    mask = b.const(np.broadcast_to(beyond, (1, *x.shape[1:-1], 1)))
    return steps.elementwise(b, "SELECT_V2", [mask, b.const(extrapolation_value, x.nominal), x])


def _coordinates(size: int, out: int, factor: float, mode: str) -> Array:
    """Where each output element lies in the input (Resize, operator spec).

    In float32, as onnxruntime computes it: scales such as 0.6 put coordinates on the very edge of a rounding.
    """
    x = np.arange(out, dtype=np.float32)
    half, one, ratio = np.float32(0.5), np.float32(1), np.float32(factor)
    if mode == "half_pixel":
        return np.asarray((x + half) / ratio - half)
    if mode == "pytorch_half_pixel":
        return np.asarray((x + half) / ratio - half if out > 1 else x * 0)
    if mode == "align_corners":
        return np.asarray(x * np.float32(size - 1) / np.float32(out - 1) if out > 1 else x * 0)
    if mode == "asymmetric":  # of given sizes, the ratio itself: 4 * 7 / 8 is a tie, 4 / (8 / 7) is not
        return np.asarray(x * np.float32(size) / np.float32(out) if factor == out / size else x / ratio)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(out) / (ratio * np.float32(size))
        return np.asarray(np.float32(size) * half * (one - adjustment) + (x + half) / ratio - half)
    raise ValueError(f"unknown coordinate_transformation_mode {mode!r}")


def _nearest(coordinates: Array, size: int, mode: str) -> Array:
    if mode == "round_prefer_floor":
        rounded = np.ceil(coordinates - 0.5)
    elif mode == "round_prefer_ceil":
        rounded = np.floor(coordinates + 0.5)
    else:
        rounded = np.floor(coordinates) if mode == "floor" else np.ceil(coordinates)
    return np.asarray(np.clip(rounded, 0, size - 1).astype(np.int64))


def _kernel_nearest(size: int, out: int, align: bool, half: bool) -> Array:
    """What RESIZE_NEAREST_NEIGHBOR reads, in its own float32 arithmetic."""
    scale = np.float32(size - 1) / np.float32(out - 1) if align and out > 1 else np.float32(size) / np.float32(out)
    place = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    rows = np.floor(place + np.float32(0.5)) if align else np.floor(place)
    return np.asarray(np.clip(rows, 0, size - 1).astype(np.int64))


def _resize_nearest(b: Builder, x: Tensor, rows: list[Array]) -> Tensor:
    out = [len(row) for row in rows]
    if len(rows) <= 2 and x.nominal == "float32":
        plane = _plane(b, x)
        wanted = [np.zeros(1, np.int64)] * (2 - len(rows)) + rows
        for align, half in KERNEL_MODES:
            found = [_kernel_nearest(n, len(r), align, half) for n, r in zip(plane.shape[1:3], wanted, strict=True)]
            if all(np.array_equal(f, r) for f, r in zip(found, wanted, strict=True)):
                return _native(b, "RESIZE_NEAREST_NEIGHBOR", x, plane, out, align, half)
    for axis, row in enumerate(rows, start=1):
        if not np.array_equal(row, np.arange(x.shape[axis])):
            x = steps.gather(b, x, b.ints(row.tolist()), axis)
    return x


def _plane(b: Builder, x: Tensor) -> Tensor:
    return x if len(x.shape) == 4 else steps.reshape(b, x, (x.shape[0], 1, *x.shape[1:]))


def _native(b: Builder, code: str, x: Tensor, plane: Tensor, out: Sequence[int], align: bool, half: bool) -> Tensor:
    size = [1] * (2 - len(out)) + list(out)
    y = b.op(
        code,
        [plane, b.ints(size)],
        (x.shape[0], *size, x.shape[-1]),
        align_corners=align,
        half_pixel_centers=half,
    )
    return steps.reshape(b, y, (x.shape[0], *out, x.shape[-1]))


def _kernel_linear(size: int, out: int, align: bool, half: bool) -> Array:
    """Where RESIZE_BILINEAR interpolates."""
    scale = (size - 1) / (out - 1) if align and out > 1 else size / out
    place = np.arange(out, dtype=np.float64)
    return np.clip((place + 0.5) * scale - 0.5 if half else place * scale, 0, size - 1)


def _resize_linear(b: Builder, x: Tensor, coordinates: list[Array]) -> Tensor:
    if len(coordinates) <= 2:
        plane = _plane(b, x)
        wanted = [np.zeros(1)] * (2 - len(coordinates)) + coordinates
        for align, half in KERNEL_MODES:
            found = [_kernel_linear(n, len(c), align, half) for n, c in zip(plane.shape[1:3], wanted, strict=True)]
            if all(np.allclose(f, c, rtol=0, atol=COORDINATE_TOLERANCE) for f, c in zip(found, wanted, strict=True)):
                return _native(b, "RESIZE_BILINEAR", x, plane, [len(c) for c in coordinates], align, half)
    for axis, places in enumerate(coordinates, start=1):
        x = _interpolated(b, x, axis, places)
    return x


def _interpolated(b: Builder, x: Tensor, axis: int, places: Array) -> Tensor:
    """`(1 - f) x[i] + f x[i + 1]` along one axis."""
    if np.array_equal(places, np.arange(x.shape[axis])):
        return x
    low = np.floor(places).astype(np.int64)
    share = (places - low).reshape([-1 if n == axis else 1 for n in range(len(x.shape))])
    below = steps.gather(b, x, b.ints(low.tolist()), axis)
    if not share.any():
        return below
    above = steps.gather(b, x, b.ints(np.minimum(low + 1, x.shape[axis] - 1).tolist()), axis)
    one = steps.binary(b, "MUL", below, b.const(1 - share, "float32"))
    return steps.binary(b, "ADD", one, steps.binary(b, "MUL", above, b.const(share, "float32")))
