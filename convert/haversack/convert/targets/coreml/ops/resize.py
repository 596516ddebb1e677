"""Resize: nearest neighbour, linear and cubic interpolation.

Along one axis each of them is a fixed linear map from input to output elements. Its matrix is computed here by ONNX's
formulas; where a MIL op computes the same matrix it is used, otherwise nearest is a gather and the rest a product with
the matrix, so every coordinate mode is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array

ROUNDING: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@lowers("Resize")
def resize(
    b: Builder,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] = (),
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Var | Value:
    """Interpolated along each axis whose size or scale differs from 1."""
    shape = b.outputs[0].shape
    where = [axis % x.rank for axis in axes] or list(range(x.rank))
    given: dict[int, float] = (
        dict(zip(where, b.array(scales, "scales"), strict=True)) if scales is not None and scales.shape[0] else {}
    )
    if sizes is not None and keep_aspect_ratio_policy != "stretch":
        ratios = [size / x.shape[axis] for axis, size in zip(where, b.integers(sizes, "sizes"), strict=True)]
        given = dict.fromkeys(where, min(ratios) if keep_aspect_ratio_policy == "not_larger" else max(ratios))
    if coordinate_transformation_mode == "tf_crop_and_resize":
        coordinates = _cropped(b, x, roi, where)
    else:
        coordinates = {
            axis: _coordinates(coordinate_transformation_mode, x.shape[axis], shape[axis], scale)
            for axis in where
            for scale in [float(given.get(axis, shape[axis] / x.shape[axis]))]
            if shape[axis] != x.shape[axis] or scale != 1.0
        }
    matrices: dict[int, Array] = {}
    for axis, at in coordinates.items():
        size = x.shape[axis]
        shrink = min(1.0, float(given.get(axis, shape[axis] / size))) if antialias else 1.0
        if mode == "nearest":
            matrices[axis] = np.clip(ROUNDING[nearest_mode](at), 0, size - 1).astype(np.int64)
        elif mode == "linear" and shrink == 1.0:
            matrices[axis] = _linear(at, size)
        else:
            kernel, reach = (_triangle, 1) if mode == "linear" else (_keys(cubic_coeff_a), 2)
            matrices[axis] = _sampled(at, size, kernel, reach, shrink, exclude_outside=bool(exclude_outside))
    if not matrices:
        return x
    result = (_nearest if mode == "nearest" else _interpolated)(b, x, shape, matrices)
    if coordinate_transformation_mode != "tf_crop_and_resize":
        return result
    inside = np.ones((1,) * x.rank, np.bool_)
    for axis, at in coordinates.items():
        row = (at >= 0) & (at <= x.shape[axis] - 1)
        inside = inside & row.reshape([-1 if n == axis else 1 for n in range(x.rank)])
    if inside.all():
        return result
    mask = b.constant(np.broadcast_to(inside, shape))
    return b.op("select", cond=mask, a=result, b=np.full(shape, extrapolation_value, np.float32))


def _cropped(b: Builder, x: Value, roi: Value | None, where: Sequence[int]) -> dict[int, Array]:
    """`tf_crop_and_resize`: the region's corners are aligned (operator specification)."""
    if roi is None:
        b.refuse("a crop without a region", "give roi")
    starts, ends = b.array(roi, "region").astype(np.float64).reshape(2, -1)
    coordinates = {}
    for axis, start, end in zip(where, starts, ends, strict=True):
        last, out = x.shape[axis] - 1, b.outputs[0].shape[axis]
        if (start, end) == (0.0, 1.0) and out == x.shape[axis]:
            continue
        step = (end - start) * last / (out - 1) if out > 1 else 0.0
        first = start * last if out > 1 else (start + end) * last / 2
        coordinates[axis] = first + np.arange(out) * step
    return coordinates


def _coordinates(mode: str, size: int, out: int, scale: float) -> Array:
    """Where each output element lies on the input axis (operator specification of Resize).

    In float32 as onnxruntime has it: where a coordinate is a whole number, a bit decides which neighbour is nearest.
    """
    at, by = np.arange(out, dtype=np.float32), np.float32(scale)
    length = np.float32(size) * by
    if mode == "asymmetric":
        return at / by
    if mode == "align_corners":
        return np.zeros(out) if length == 1 else at * np.float32(size - 1) / (length - np.float32(1))
    if mode == "pytorch_half_pixel" and length <= 1:
        return np.zeros(out)
    half = np.float32(0.5)
    offset = np.float32(0)
    if mode == "half_pixel_symmetric":  # centres the result where the size was rounded
        offset = np.float32(size) * half * (np.float32(1) - np.float32(out) / length)
    result: Array = offset + (at + half) / by - half
    return result.astype(np.float64)


def _linear(at: Array, size: int) -> Array:
    """Rows of two weights; beyond the ends the end element."""
    at = np.clip(at, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((len(at), size))
    rows = np.arange(len(at))
    np.add.at(matrix, (rows, low), 1 - (at - low))
    np.add.at(matrix, (rows, high), at - low)
    return matrix


def _triangle(distance: Array) -> Array:
    return np.maximum(0.0, 1.0 - distance)


def _keys(a: float) -> Callable[[Array], Array]:
    """The cubic convolution kernel (Keys 1981) with the parameter `a`."""

    def kernel(distance: Array) -> Array:
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))

    return kernel


def _sampled(
    at: Array, size: int, kernel: Callable[[Array], Array], reach: int, shrink: float, *, exclude_outside: bool
) -> Array:
    """Rows of a kernel's weights by distance; elements beyond the ends repeat, or are left out.

    Where `shrink` is below 1 (antialiasing) the kernel is widened by its inverse, and each row sums to 1 again.
    """
    matrix = np.zeros((len(at), size))
    rows, low, wide = np.arange(len(at)), np.floor(at).astype(np.int64), math.ceil(reach / shrink)
    for offset in range(-wide, wide + 2):
        place = low + offset
        weight = kernel(np.abs(at - place) * shrink)
        if exclude_outside:
            weight = np.where((place >= 0) & (place < size), weight, 0.0)
        np.add.at(matrix, (rows, np.clip(place, 0, size - 1)), weight)
    return matrix / matrix.sum(axis=1, keepdims=True) if exclude_outside or shrink < 1 else matrix


def _nearest(b: Builder, x: Value, shape: tuple[int, ...], indices: dict[int, Array]) -> Var:
    factors = {axis: shape[axis] // x.shape[axis] for axis in indices}
    repeats = all(
        np.array_equal(index, np.arange(x.shape[axis]).repeat(factors[axis])) for axis, index in indices.items()
    )
    if repeats and x.floating and x.rank in (3, 4, 5) and set(indices) <= {x.rank - 2, x.rank - 1}:
        height, width = factors.get(x.rank - 2, 1), factors.get(x.rank - 1, 1)
        return b.op("upsample_nearest_neighbor", x=x, scale_factor_height=height, scale_factor_width=width)
    result = b.numeric(x)
    for axis, index in indices.items():
        result = b.op("gather", x=result, indices=index, axis=axis, batch_dims=0)
    return b.like(result, x)


def _interpolated(b: Builder, x: Value, shape: tuple[int, ...], matrices: dict[int, Array]) -> Var:
    if not x.floating:
        b.refuse("interpolated integers round differently in Core ML", "cast to float before it")
    if x.rank in (3, 4, 5) and set(matrices) <= {x.rank - 2, x.rank - 1}:
        for mode in ("UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "DEFAULT"):
            if all(
                np.allclose(_linear(_grid(mode, x.shape[axis], shape[axis]), x.shape[axis]), wanted, atol=1e-6, rtol=0)
                for axis in (x.rank - 2, x.rank - 1)
                for wanted in [matrices.get(axis, np.eye(x.shape[axis]))]
            ):
                return b.op(
                    "resize_bilinear",
                    x=x,
                    target_size_height=shape[-2],
                    target_size_width=shape[-1],
                    sampling_mode=mode,
                )
    result = b.var(x)
    for axis, matrix in matrices.items():
        result = _along(b, result, axis, matrix)
    return result


def _grid(mode: str, size: int, out: int) -> Array:
    """Grid points of `resize_bilinear`, by the formulas in coremltools' description of the op."""
    at = np.arange(out, dtype=np.float64)
    if mode == "UNALIGN_CORNERS":
        spacing = size / out
        return np.clip(at * spacing + 0.5 * spacing - 0.5, 0, size - 1)
    if out == 1:
        return np.zeros(1)
    spacing = (size - 1) / (out - 1) if mode == "STRICT_ALIGN_CORNERS" else (size - size / out) / (out - 1)
    return np.clip(at * spacing, 0, size - 1)


def _along(b: Builder, x: Var, axis: int, matrix: Array) -> Var:
    """The product of one axis with a matrix: from the right on the last axis, from the left on the one before."""
    rank, weights = len(x.shape), matrix.astype(np.float32)
    if axis == rank - 1 and rank > 1:
        return b.op("matmul", x=x, y=weights.T, transpose_x=False, transpose_y=False)
    order = [position for position in range(rank) if position != axis] + [axis]
    moved = b.transpose(x, order)
    if rank == 1:
        product = b.op("matmul", x=b.reshape(moved, (1, matrix.shape[1])), y=weights.T)
        return b.reshape(product, (matrix.shape[0],))
    product = b.op("matmul", x=moved, y=weights.T, transpose_x=False, transpose_y=False)
    return b.transpose(product, [order.index(position) for position in range(rank)])
