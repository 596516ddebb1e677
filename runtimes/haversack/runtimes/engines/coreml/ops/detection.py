"""Ops at the end of a detector or classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Context, op


@op("classify")
def classify(probabilities: Array, classes: Any) -> Any:
    """Return the label of the largest probability, and all probabilities by label."""
    values = probabilities.reshape(-1)
    labels = [label if isinstance(label, str) else int(label) for label in classes]
    return labels[int(values.argmax())], dict(zip(labels, (float(v) for v in values), strict=True))


@op("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    max_boxes: int,
    context: Context,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> Any:
    """Keep boxes in order of their best score, dropping those that overlap a kept one by more than the threshold.

    Boxes are (x centre, y centre, width, height). Up to iOS 16 they lie along the second-last dimension and a fourth
    output says how many were kept; since iOS 17 along the last. Missing boxes are padded: scores and coordinates
    with 0, indices with -1.
    """
    last = context.opset >= 17
    if last:
        boxes, scores = boxes.swapaxes(1, 2), scores.swapaxes(1, 2)
    kept_boxes = np.zeros((len(boxes), max_boxes, 4), np.float32)
    kept_scores = np.zeros((len(boxes), max_boxes, scores.shape[2]), np.float32)
    indices = np.full((len(boxes), max_boxes), -1, np.int32)
    counts = np.zeros(len(boxes), np.int32)
    for batch, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        kept = _suppress(box, score, iou_threshold, score_threshold, max_boxes, per_class_suppression)
        counts[batch] = len(kept)
        kept_boxes[batch, : len(kept)] = box[kept]
        kept_scores[batch, : len(kept)] = score[kept]
        indices[batch, : len(kept)] = kept
    if last:
        return kept_boxes.swapaxes(1, 2), kept_scores.swapaxes(1, 2), indices
    return kept_boxes, kept_scores, indices, counts


def _suppress(
    boxes: Array, scores: Array, iou: float, threshold: float | None, most: int, per_class: bool
) -> list[int]:
    """Return the indices of the boxes kept, in order of score; never none: the best box survives its threshold."""
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for index in np.argsort(-best, kind="stable"):
        if len(kept) == most or (threshold is not None and best[index] < threshold):
            break
        rivals = [k for k in kept if not per_class or classes[k] == classes[index]]
        if not rivals or (_overlap(boxes[index], boxes[rivals]) <= np.float32(iou)).all():
            kept.append(int(index))
    return kept or [int(best.argmax())]


def _overlap(box: Array, others: Array) -> Array:
    """Return intersection over union of one box with others, each (x, y, width, height) around its centre."""
    low = np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(box[2:]) + np.prod(others[:, 2:], axis=1) - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0)
