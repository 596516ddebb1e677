"""NonMaxSuppression and what follows it, against onnxruntime: the package gives as many rows as a run selects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

NMS = make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["y"])


def detections(examples: int, classes: int, count: int = 40, *, centred: bool = False) -> dict[str, np.ndarray]:
    """Boxes that overlap, by two opposite corners in any order or around their centres, and scores."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 1, (examples, count, 4)).astype(np.float32)
    if centred:
        boxes[..., 2:] *= 0.5
    scores = rng.uniform(0, 1, (examples, classes, count)).astype(np.float32)
    return {"x": boxes, "s": scores}


def limits(most: int, overlap: float, threshold: float) -> dict[str, np.ndarray]:
    return {"m": np.array([most]), "o": np.array([overlap], np.float32), "t": np.array([threshold], np.float32)}


@pytest.mark.parametrize("target", ["iOS16", "iOS17"])  # the op lost its threshold and its count in iOS 17
@pytest.mark.parametrize(
    ("examples", "classes", "most", "overlap", "threshold"),
    [(1, 1, 40, 0.3, 0.2), (2, 3, 5, 0.5, 0.6), (1, 2, 50, 0.0, 0.0), (2, 2, 4, 0.9, 2.0), (1, 3, 1, 0.1, 0.97)],
)
def test_selects_what_onnxruntime_does(
    examples: int, classes: int, most: int, overlap: float, threshold: float, target: str, bench: Any
) -> None:
    feeds = detections(examples, classes)
    written = bench.agree([NMS], feeds, constants=limits(most, overlap, threshold), deployment_target=target)
    assert any("as many rows as are selected" in note for note in written.notes)


def test_boxes_around_their_centres(bench: Any) -> None:
    node = make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["y"], center_point_box=1)
    bench.agree([node], detections(2, 2, centred=True), constants=limits(6, 0.2, 0.3))


def test_a_score_at_the_threshold_is_not_selected(bench: Any) -> None:
    feeds = detections(1, 1, 8)
    bench.agree([NMS], feeds, constants=limits(8, 1.0, float(feeds["s"][0, 0, 3])))


def test_limit_and_threshold_are_fed_at_run_time(bench: Any) -> None:
    given = limits(3, 0.4, 0.3)
    feeds = {**detections(1, 2), "m": given["m"], "t": given["t"]}
    bench.agree([NMS], feeds, constants={"o": given["o"]})


def test_an_overlap_fed_at_run_time_is_refused(bench: Any, build: Any) -> None:
    feeds = {**detections(1, 2), "o": np.array([0.5], np.float32)}
    constants = {key: value for key, value in limits(3, 0.4, 0.3).items() if key != "o"}
    (said,) = bench.blockers(build([NMS], feeds, ["y"], constants))
    assert "IoU threshold is computed at run time" in said


def test_nothing_is_ever_selected(bench: Any, build: Any) -> None:
    said = bench.blockers(build([make_node("NonMaxSuppression", ["x", "s"], ["y"])], detections(1, 2), ["y"]))
    assert any("it has no elements" in each for each in said)


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_rows_that_are_computed_from_the_selection(recipe: str, bench: Any) -> None:
    nodes = [
        make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["k"]),
        make_node("Gather", ["k", "two"], ["place"], axis=1),
        make_node("Gather", ["flat", "place"], ["rows"], axis=0),
        make_node("Mul", ["rows", "scale"], ["y"]),
    ]
    constants = {**limits(7, 0.3, 0.4), "two": np.array(2), "scale": np.array([2, 3, 4, 5], np.float32)}
    # `flat` holds integers that float16 holds too, and scores are multiples of 1/64 that are all apart: nothing rounds
    feeds = detections(1, 3, 20)
    rng = np.random.default_rng(1)
    feeds["x"] = np.round(feeds["x"] * 64) / np.float32(64)
    feeds["s"] = (rng.permuted(np.tile(np.arange(20), (1, 3, 1)), axis=2) / 32).astype(np.float32)
    feeds["flat"] = rng.integers(0, 64, (20, 4)).astype(np.float32)
    bench.agree(nodes, feeds, constants=constants, recipe=recipe)


def test_what_mixes_rows_is_refused(bench: Any, build: Any) -> None:
    nodes = [
        make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["k"]),
        make_node("ReduceSum", ["k", "zero"], ["y"], keepdims=0),
    ]
    constants = {**limits(7, 0.3, 0.4), "zero": np.array([0])}
    said = bench.blockers(build(nodes, detections(1, 1), ["y"], constants))
    assert any("mixes rows" in each for each in said)
