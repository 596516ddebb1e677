"""Resize: nearest neighbour, linear and cubic interpolation.

Along one axis each of them is a fixed linear map from input to output elements. Its matrix is computed here by ONNX's
formulas; where a MIL op computes the same matrix it is used, otherwise nearest is a gather and the rest a product with
the matrix, so every coordinate mode is exact.
"""

from __future__ import annotations

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
    roi: Value | None = None,  # noqa: ARG001  (read by tf_crop_and_resize only, which is refused)
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] = (),
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,  # noqa: ARG001  (of tf_crop_and_resize)
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Var | Value:
    """Interpolated along each axis whose size or scale differs from 1."""
    if coordinate_transformation_mode == "tf_crop_and_resize":
        b.refuse("cropping while resizing has no counterpart", "use Slice and Resize")
    if antialias and mode != "nearest":
        b.refuse("antialiasing has no counterpart", "export with antialias=0")
    shape = b.outputs[0].shape
    where = [axis % x.rank for axis in axes] or list(range(x.rank))
    given: dict[int, float] = (
        dict(zip(where, b.array(scales, "scales"), strict=True)) if scales is not None and scales.shape[0] else {}
    )
    if sizes is not None and keep_aspect_ratio_policy != "stretch":
        ratios = [size / x.shape[axis] for axis, size in zip(where, b.integers(sizes, "sizes"), strict=True)]
        given = dict.fromkeys(where, min(ratios) if keep_aspect_ratio_policy == "not_larger" else max(ratios))
    matrices: dict[int, Array] = {}
    for axis in where:
        scale = float(given.get(axis, shape[axis] / x.shape[axis]))
        if shape[axis] == x.shape[axis] and scale == 1.0:
            continue
        at = _coordinates(coordinate_transformation_mode, x.shape[axis], shape[axis], scale)
        if mode == "nearest":
            matrices[axis] = np.clip(ROUNDING[nearest_mode](at), 0, x.shape[axis] - 1).astype(np.int64)
        elif mode == "linear":
            matrices[axis] = _linear(at, x.shape[axis])
        else:
            matrices[axis] = _cubic(at, x.shape[axis], cubic_coeff_a, exclude_outside=bool(exclude_outside))
    if not matrices:
        return x
    return (_nearest if mode == "nearest" else _interpolated)(b, x, shape, matrices)


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


def _cubic(at: Array, size: int, a: float, *, exclude_outside: bool) -> Array:
    """Rows of four weights (Keys 1981, with parameter `a`); elements beyond the ends repeat, or are left out."""
    matrix = np.zeros((len(at), size))
    rows, low = np.arange(len(at)), np.floor(at).astype(np.int64)
    for offset in range(-1, 3):
        distance = np.abs(at - (low + offset))
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weight = np.where(distance <= 1, near, far)
        if exclude_outside:
            weight = np.where((low + offset >= 0) & (low + offset < size), weight, 0.0)
        np.add.at(matrix, (rows, np.clip(low + offset, 0, size - 1)), weight)
    return matrix / matrix.sum(axis=1, keepdims=True) if exclude_outside else matrix


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
