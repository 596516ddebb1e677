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
) -> tuple[Tensor, ...]:
    """One NON_MAX_SUPPRESSION_V4 an example and class; the rows that are selected first, and how many these are."""
    examples, classes, count = scores.shape
    if most is None or (most.constant and not most.value().any()):
        return (b.const(np.zeros((0, 3), np.int64)),)
    if len(b.results) < 2:  # `hub.selected_rows` gives those of the main graph a count
        raise b.refuse("how many boxes it selects is known at run time only", "move it out of its subgraph")
    total = b.result.shape[0]
    size = total // (examples * classes)
    limit = steps.reshape(b, steps.index(b, most), ())
    floor = b.const(np.finfo(np.float32).min, "float32") if threshold is None else steps.reshape(b, threshold, ())
    ceiling = _next(b, b.const(0, "float32") if overlap is None else steps.reshape(b, overlap, ()))
    corners = _corners(b, boxes) if center_point_box else boxes
    rows, kept, bounds = [], [], []
    for example in range(examples):
        area = steps.reshape(b, steps.slice_axes(b, corners, (example, 0, 0), (1, count, 4)), (count, 4))
        for label in range(classes):
            score = steps.reshape(b, steps.slice_axes(b, scores, (example, label, 0), (1, 1, count)), (count,))
            inputs = [area, score, b.const(size, "int32"), ceiling, floor]
            chosen, number = b.emit("NON_MAX_SUPPRESSION_V4", inputs, [((size,), "int32"), ((), "int32")])
            place = b.const(np.full((size, 2), (example, label), np.int32))
            rows.append(steps.concat(b, [place, steps.reshape(b, chosen, (size, 1))], 1))
            bounds.append(steps.reshape(b, steps.binary(b, "MINIMUM", number, limit), (1,)))
            kept.append(steps.binary(b, "LESS", b.const(np.arange(size, dtype=np.int32)), bounds[-1], "bool"))
    found = steps.concat(b, rows, 0)
    if len(rows) > 1:  # each selection's rows come first among its own: sort them to the front of all
        order = np.arange(total, dtype=np.int32)
        keys = [steps.concat(b, kept, 0), b.const(total - order), b.const(-order)]
        keys = [steps.elementwise(b, "SELECT_V2", keys), b.const(total, "int32")]
        _, first = b.emit("TOPK_V2", keys, [((total,), None), ((total,), "int32")])
        found = steps.gather(b, found, first, 0)
    number = b.op("SUM", [steps.concat(b, bounds, 0), b.ints([0])], (1,), keep_dims=True)
    return b.cast(found, "int64"), b.cast(number, "int64")


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
