"""Sampling images at computed places: regions of interest, affine maps and free coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import op
from haversack.runtimes.errors import EngineError


@op("crop_resize")
def crop_resize(
    x: Array,
    roi: Array | None = None,
    boxes: Array | None = None,
    box_indices: Array | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Any:
    """Cut boxes out of the images and resize each, interpolating linearly; a sample outside the image is `pad_value`.

    Up to iOS 16, `roi` is [N, 1, 4 or 5, 1, 1] (with 5, the first is the image's index) and the result
    [N, B or 1, C, H, W]; since iOS 17, `boxes` is [N, 4], `box_indices` [N] and the result [N, C, H, W].
    """
    if roi is not None:
        rows = roi.reshape(roi.shape[0], -1)
        indexed = rows.shape[1] == 5
        boxes = rows[:, -4:]
        images = rows[:, :1].astype(np.int64) if indexed else np.tile(np.arange(x.shape[0]), (len(rows), 1))
    elif boxes is not None:
        images = np.arange(len(boxes))[:, None] if box_indices is None else box_indices[:, None].astype(np.int64)
    else:
        raise EngineError("neither roi nor boxes is given")
    corners = _corners(boxes.astype(np.float32), box_coordinate_mode)
    if normalized_coordinates:
        corners = corners * np.array([x.shape[2] - 1, x.shape[3] - 1] * 2, np.float32)
    corners = corners * np.float32(spatial_scale)
    result = np.empty((len(boxes), images.shape[1], x.shape[1], target_height, target_width), np.float32)
    for number, (top, left, bottom, right) in enumerate(corners.astype(np.float64)):
        rows = _points(top, bottom, target_height, sampling_mode)
        columns = _points(left, right, target_width, sampling_mode)
        for slot, image in enumerate(images[number]):
            grid = np.broadcast_arrays(columns[None, :], rows[:, None])
            inside = (grid[0] >= 0) & (grid[0] <= x.shape[3] - 1) & (grid[1] >= 0) & (grid[1] <= x.shape[2] - 1)
            sampled = bilinear(x[image], grid[0], grid[1], "border", pad_value)
            result[number, slot] = np.where(inside, sampled, np.float32(pad_value))
    return result if roi is not None else result[:, 0]


def _corners(boxes: Array, mode: str) -> Array:
    """Return boxes as top, left, bottom, right."""
    first, second, third, fourth = boxes.T
    if mode in ("CORNERS_WIDTH_FIRST", "CENTER_SIZE_WIDTH_FIRST"):
        first, second, third, fourth = second, first, fourth, third
    if mode.startswith("CENTER_SIZE"):
        first, third = first - third / 2, first + third / 2
        second, fourth = second - fourth / 2, second + fourth / 2
    return np.stack([first, second, third, fourth], axis=1)


def _points(start: float, end: float, count: int, mode: str) -> Array:
    """Return where the samples of a box from `start` to `end` fall, as `resize.grid_points` does for a whole image."""
    extent, index = end - start, np.arange(count)
    if mode == "ALIGN_CORNERS" and count == 1:
        return np.array([start + extent / 2])
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        return start + index * (extent / max(count - 1, 1))
    if mode == "DEFAULT":
        return start + index * ((extent + 1) / count)
    if mode == "OFFSET_CORNERS":
        return start + (index + 0.5) * (max(1.0, extent) / count)
    if mode == "UNALIGN_CORNERS":
        return start + (index + 0.5) * ((extent + 1) / count) - 0.5
    raise EngineError(f"the sampling mode {mode} is not known")


def bilinear(image: Array, columns: Array, rows: Array, padding_mode: str, padding_value: float) -> Array:
    """Sample an image [C, H, W] at fractional places.

    Args:
        image: What is sampled.
        columns: Position along W of each sample, any shape.
        rows: Position along H of each sample, the same shape.
        padding_mode: What lies outside: `constant`, `border`, `reflection` or `symmetric`.
        padding_value: The constant.

    Returns:
        [C, *shape of the positions].
    """
    left, top = np.floor(columns), np.floor(rows)
    across, down = (columns - left).astype(np.float32), (rows - top).astype(np.float32)
    result = np.zeros((image.shape[0], *columns.shape), np.float32)
    for row, vertical in ((top, 1 - down), (top + 1, down)):
        for column, horizontal in ((left, 1 - across), (left + 1, across)):
            result += pick(image, column, row, padding_mode, padding_value) * (vertical * horizontal)
    return result


def pick(image: Array, columns: Array, rows: Array, padding_mode: str, padding_value: float) -> Array:
    """Take the pixels of an image [C, H, W] at whole places, which may lie outside."""
    height, width = image.shape[1:]
    y, x = _fold(rows, height, padding_mode), _fold(columns, width, padding_mode)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    taken = image[:, np.clip(y, 0, height - 1).astype(np.int64), np.clip(x, 0, width - 1).astype(np.int64)]
    return np.where(inside, taken, np.float32(padding_value))


def _fold(places: Array, size: int, padding_mode: str) -> Array:
    """Map places outside a dimension to where the padding takes its values from."""
    if padding_mode == "constant":
        return places
    if padding_mode == "border":
        return np.clip(places, 0, size - 1)
    if padding_mode == "reflection":
        period = max(2 * (size - 1), 1)
        folded = np.mod(places, period)
        return np.where(folded > size - 1, period - folded, folded)
    if padding_mode == "symmetric":
        folded = np.mod(places, 2 * size)
        return np.where(folded >= size, 2 * size - 1 - folded, folded)
    raise EngineError(f"the padding mode {padding_mode} is not known")


@op("resample")
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Any:
    """Sample x [B, C, H, W] at coordinates [B, H2, W2, 2], each (x, y)."""
    columns = _pixels(coordinates[..., 0], x.shape[3], coordinates_mode, align_corners)
    rows = _pixels(coordinates[..., 1], x.shape[2], coordinates_mode, align_corners)
    if sampling_mode == "nearest":
        sampled = [
            pick(image, np.floor(c + np.float32(0.5)), np.floor(r + np.float32(0.5)), padding_mode, padding_value)
            for image, c, r in zip(x, columns, rows, strict=True)
        ]
    elif sampling_mode == "bilinear":
        sampled = [
            bilinear(image, c, r, padding_mode, padding_value) for image, c, r in zip(x, columns, rows, strict=True)
        ]
    else:
        raise EngineError(f"resample has no sampling mode {sampling_mode}")
    return np.stack(sampled)


@op("affine")
def affine(
    x: Array,
    transform_matrix: Array,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Any:
    """Sample x at x' = a0 x + a1 y + a2, y' = b0 x + b1 y + b2 for every output pixel (x, y)."""
    columns = _normalised(output_width, align_corners)[None, :]
    rows = _normalised(output_height, align_corners)[:, None]
    matrices = np.broadcast_to(transform_matrix, (x.shape[0], 6)).astype(np.float32)
    coordinates = np.stack(
        [np.stack([a0 * columns + a1 * rows + a2, b0 * columns + b1 * rows + b2], -1)
         for a0, a1, a2, b0, b1, b2 in matrices]
    )  # fmt: skip
    return resample(x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners)


def _normalised(count: int, align_corners: bool) -> Array:
    """Return the coordinates of `count` pixels between -1 and 1."""
    if align_corners:
        return np.linspace(-1, 1, count, dtype=np.float32) if count > 1 else np.full(1, -1, np.float32)
    return ((2 * np.arange(count) + 1) / count - 1).astype(np.float32)


def _pixels(coordinates: Array, size: int, mode: str, align_corners: bool) -> Array:
    """Turn coordinates into pixel positions."""
    if mode == "unnormalized":
        return coordinates.astype(np.float32)
    if mode == "normalized_minus_one_to_one":
        unit = (coordinates.astype(np.float32) + 1) / 2
    elif mode == "normalized_zero_to_one":
        unit = coordinates.astype(np.float32)
    else:
        raise EngineError(f"the coordinates mode {mode} is not known")
    return unit * np.float32(size - 1) if align_corners else unit * np.float32(size) - np.float32(0.5)
