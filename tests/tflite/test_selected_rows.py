"""What follows a NonMaxSuppression, whose number of rows a run decides, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.evaluate import Evaluator
from haversack.runtimes.engines.litert import open_artifact

CONSTANTS = {
    "m": np.array([4]), "o": np.array([0.4], np.float32), "t": np.array([0.3], np.float32), "c0": np.array([0]),
    "c1": np.array([1]), "c2": np.array([2]), "c3": np.array([3]), "zero": np.array(0), "flat": np.array([-1]),
    "w": np.arange(12, dtype=np.float32).reshape(4, 3), "two": np.array(2, np.float32), "rows": np.array([-1, 2, 2]),
}  # fmt: skip

BOX = [
    make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["k"]),
    make_node("Slice", ["k", "c2", "c3", "c1"], ["p"]),
    make_node("Squeeze", ["p", "c1"], ["i"]),
    make_node("Squeeze", ["x", "c0"], ["b"]),
    make_node("Gather", ["b", "i"], ["a"], axis=0),
]
"""`a` is the selected boxes, [K, 4], `i` their places, [K], of one example with two classes."""


def feeds(seed: int, floor: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 4, (1, 9, 2))
    boxes = np.concatenate([low, low + random.uniform(1, 3, low.shape)], -1).astype(np.float32)
    return {"x": boxes, "s": (random.permutation(18).reshape(1, 2, 9) / 18 - floor).astype(np.float32)}


@pytest.mark.parametrize(
    "tail",
    [
        [make_node("Identity", ["a"], ["y"])],
        [make_node("Mul", ["a", "two"], ["y"])],
        [make_node("MatMul", ["a", "w"], ["y"])],
        [make_node("Transpose", ["a"], ["y"], perm=[1, 0])],
        [make_node("Unsqueeze", ["a", "c0"], ["y"])],
        [make_node("Reshape", ["a", "rows"], ["y"])],
        [make_node("ReduceMax", ["a", "c1"], ["y"], keepdims=0)],
        [make_node("Softmax", ["a"], ["y"], axis=1)],
        [make_node("Split", ["a"], ["u", "v"], axis=1, num_outputs=2), make_node("Sub", ["v", "u"], ["y"])],
        [make_node("Gather", ["a", "zero"], ["u"], axis=1), make_node("Cast", ["i"], ["v"], to=1),
         make_node("Add", ["u", "v"], ["y"])],
        [make_node("Cast", ["p"], ["v"], to=1), make_node("Concat", ["a", "v"], ["y"], axis=1)],
        [make_node("Identity", ["k"], ["y"])],
        [make_node("Slice", ["a", "c0", "c3", "c0"], ["u"]), make_node("Neg", ["u"], ["y"])],
    ],
    ids=lambda nodes: nodes[-1].op_type,
)  # fmt: skip
def test_rows_are_computed_one_by_one(tail: list[Any], bench: Any, graph_of: Any) -> None:
    """For three numbers of rows, none among them."""
    counts = set()
    for seed, floor in ((0, 0.0), (1, 0.4), (2, 0.9)):
        given = feeds(seed, floor)
        model = graph_of([*BOX, *tail], given, ["y"], CONSTANTS)
        expected = Evaluator(model).run(given)["y"]
        bench.write(model)
        for xnnpack in (True, False):
            found = open_artifact(bench.data, xnnpack=xnnpack).run(given)["y"]
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)  # a few roundings of float32
        counts.add(len(Evaluator(graph_of(BOX, given, ["k"], CONSTANTS)).run(given)["k"]))
    assert len(counts) == 3
    assert 0 in counts


@pytest.mark.parametrize(
    "tail",
    [
        make_node("ReduceMax", ["a", "c0"], ["y"], keepdims=0),
        make_node("Softmax", ["a"], ["y"], axis=0),
        make_node("Reshape", ["a", "flat"], ["y"]),
        make_node("Concat", ["a", "b"], ["y"], axis=0),
        make_node("Slice", ["a", "c1", "c3", "c0"], ["y"]),
        make_node("Shape", ["a"], ["y"]),
        make_node("CumSum", ["a", "zero"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_what_mixes_rows_is_refused(tail: Any, bench: Any, graph_of: Any) -> None:
    model = graph_of([*BOX, tail], feeds(0, 0.0), ["y"], CONSTANTS)
    with pytest.raises(UnsupportedError, match="NonMaxSuppression selects is known at run time only") as caught:
        bench.write(model)
    assert caught.value.blockers[0].op == tail.op_type
    assert not bench.path.exists()


def test_nothing_is_ever_selected(bench: Any) -> None:
    node = make_node("NonMaxSuppression", ["x", "s", "m"], ["y"])
    bench.agree([node], feeds(0, 0.0), constants={"m": np.array([0])}, declared={"y": np.zeros((0, 3), np.int64)})


def test_the_limit_is_fed_at_run_time(bench: Any) -> None:
    """Then as many rows are kept as there are boxes."""
    node = make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["y"])
    constants = {key: CONSTANTS[key] for key in "ot"}
    bench.agree([node], {**feeds(0, 0.0), "m": np.array([2])}, constants=constants)
