"""NonMaxSuppression."""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


@lowers("NonMaxSuppression")
def non_max_suppression(
    b: Builder,
    boxes: Value,
    scores: Value,
    most: Value | None = None,
    overlap: Value | None = None,
    threshold: Value | None = None,
    *,
    center_point_box: int = 0,
) -> tuple[Var, Var]:
    """One `non_maximum_suppression` for all examples and classes; the rows that are selected first, and their number.

    It goes by falling score, as ONNX does, so a threshold on scores only ends its list sooner. That comparison is made
    here: the op keeps what is equal to its threshold, ONNX does not, and since iOS 17 it has none. Which boxes are kept
    is a matter of yes and no, so that all of it computes in float32.
    """
    examples, classes, count = scores.shape
    if most is None or len(b.outputs) < 2:  # `hub.selected_rows` gives those of the main graph a count
        b.refuse("how many boxes it selects is known at run time only", "move it out of its subgraph")
    b.half = False
    total = b.outputs[0].shape[0]
    lists = examples * classes
    size = total // lists
    ceiling = 0.0 if overlap is None else float(b.array(overlap, "IoU threshold").reshape(-1)[0])
    area = _centred(b, b.var(boxes), center_point_box)
    area = b.expand(b.reshape(area, (examples, 1, count, 4)), (examples, classes, count, 4))
    area, score = b.reshape(area, (lists, count, 4)), b.reshape(b.var(scores), (lists, count, 1))
    place = np.arange(size, dtype=np.int32)[None]
    given = {"iou_threshold": ceiling, "max_boxes": size, "per_class_suppression": False}
    if b.ios < 17:
        lowest = float(np.finfo(np.float32).min)
        _, found, places, number = b.op(
            "non_maximum_suppression", boxes=area, scores=score, score_threshold=lowest, **given
        )
        chosen = b.op("less", x=place, y=b.reshape(number, (lists, 1)))
    else:
        area, score = b.transpose(area, [0, 2, 1]), b.transpose(score, [0, 2, 1])
        _, found, places = b.op("non_maximum_suppression", boxes=area, scores=score, **given)
        chosen = b.op("greater_equal", x=places, y=0)  # padding is -1
    if threshold is not None:
        above = b.op("greater", x=b.reshape(found, (lists, size)), y=b.reshape(b.var(threshold), (1, 1)))
        chosen = b.op("logical_and", x=chosen, y=above)
    if most.array is None or int(most.array.reshape(-1)[0]) < size:
        few = b.op("less", x=place, y=b.reshape(b.var(most), (1, 1)))
        chosen = b.op("logical_and", x=chosen, y=few)
    chosen = b.reshape(b.cast(chosen, "int32"), (total,))
    labels = np.array([(example, label) for example in range(examples) for label in range(classes)], np.int32)
    where = b.constant(np.repeat(labels, size, axis=0))
    rows = b.op("concat", values=[where, b.reshape(b.op("maximum", x=places, y=0), (total, 1))], axis=1)
    if lists > 1:  # the first of each list count: bring them before all that do not, in their order
        order = b.op("sub", x=np.arange(total, dtype=np.int32), y=b.op("mul", x=chosen, y=total))
        rows = b.op("gather", x=rows, indices=b.op("argsort", x=order, axis=0, ascending=True), axis=0)
    return rows, b.op("reduce_sum", x=chosen, axes=[0], keep_dims=True)


def first_rows(b: Builder, x: Value, axis: int, count: Value) -> Value:
    """The first `count` places of `x` along `axis`: a size that only a run knows."""
    ends = [count if place == axis else b.constant([size]) for place, size in enumerate(x.shape)]
    kept = [place != axis for place in range(x.rank)]
    var = b.op(
        "slice_by_index",
        x=b.numeric(x),
        begin=[0] * x.rank,
        end=b.op("concat", values=ends, axis=0),
        begin_mask=kept,
        end_mask=kept,
    )
    return Value(x.name, x.shape, x.dtype, var=b.like(var, x))


def _centred(b: Builder, boxes: Var, center_point_box: int) -> Var:
    """Boxes as (x, y, width, height) around their centres, [examples, boxes, 4]; else given by two opposite corners."""
    if center_point_box:
        return boxes
    y1, x1, y2, x2 = b.op("split", x=boxes, num_splits=4, axis=2)
    centres = [b.op("mul", x=b.op("add", x=one, y=two), y=0.5) for one, two in ((x1, x2), (y1, y2))]
    sizes = [b.op("abs", x=b.op("sub", x=two, y=one)) for one, two in ((x1, x2), (y1, y2))]
    return b.op("concat", values=[*centres, *sizes], axis=2)
