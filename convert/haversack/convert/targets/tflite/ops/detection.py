"""NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers
from haversack.convert.targets.tflite.unsigned import bitcast


@lowers("NonMaxSuppression")
def non_max_suppression(
    b: Builder,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | None = None,
    overlap: Tensor | None = None,
    threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """One NON_MAX_SUPPRESSION_V4 an example and class; how many boxes are left is found at run time."""
    examples, classes, count = scores.shape
    if most is None or (most.constant and not most.value().any()):
        return b.const(np.zeros((0, 3), np.int64))
    limit = steps.reshape(b, steps.index(b, most), ())
    floor = b.const(np.finfo(np.float32).min, "float32") if threshold is None else steps.reshape(b, threshold, ())
    ceiling = _next(b, b.const(0, "float32") if overlap is None else steps.reshape(b, overlap, ()))
    corners = _corners(b, boxes) if center_point_box else boxes
    order = b.const(np.arange(count, dtype=np.int32))
    rows, kept = [], []
    for example in range(examples):
        area = steps.reshape(b, steps.slice_axes(b, corners, (example, 0, 0), (1, count, 4)), (count, 4))
        for label in range(classes):
            score = steps.reshape(b, steps.slice_axes(b, scores, (example, label, 0), (1, 1, count)), (count,))
            inputs = [area, score, b.const(count, "int32"), ceiling, floor]
            chosen, number = b.emit("NON_MAX_SUPPRESSION_V4", inputs, [((count,), "int32"), ((), "int32")])
            place = b.const(np.full((count, 2), (example, label), np.int32))
            rows.append(steps.concat(b, [place, steps.reshape(b, chosen, (count, 1))], 1))
            bound = steps.binary(b, "MINIMUM", number, limit)
            kept.append(steps.binary(b, "LESS", order, bound, "bool"))
    mask = steps.concat(b, kept, 0)
    found = b.result.shape[0]
    places = steps.reshape(b, steps.index(b, b.op("WHERE", [mask], (found, 1), "int64")), (found,))
    return b.cast(steps.gather(b, steps.concat(b, rows, 0), places, 0), "int64")


def _next(b: Builder, overlap: Tensor) -> Tensor:
    """The next larger float32: the kernel drops a box at the threshold, ONNX only one above it."""
    if overlap.constant:
        return b.const(np.nextafter(np.float32(overlap.value()), np.float32(2)), "float32")
    return bitcast(b, steps.scalar(b, "ADD", bitcast(b, overlap, "int32"), 1), "float32")


def _corners(b: Builder, boxes: Tensor) -> Tensor:
    """From (x, y, width, height) to (y1, x1, y2, x2)."""
    x, y, width, height = steps.split(b, boxes, 2, [1] * 4)
    half_width, half_height = steps.scalar(b, "MUL", width, 0.5), steps.scalar(b, "MUL", height, 0.5)
    parts = [
        steps.binary(b, code, centre, half)
        for code in ("SUB", "ADD")
        for centre, half in ((y, half_height), (x, half_width))
    ]
    return steps.concat(b, parts, 2)
