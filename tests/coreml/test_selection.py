"""Ranges, masks and selections, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_range(bench, dtype: str) -> None:
    fed = {name: np.array(value, dtype) for name, value in (("start", 3), ("limit", -4), ("delta", -2))}
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.INT32
    node = make_node("Range", list(fed), ["y"])
    bench.agree([node], fed, [make_tensor_value_info("y", kind, [4])], wanted={"y": np.array([3, 1, -1, -3])})


def test_dropout_in_inference(bench) -> None:
    bench.agree([make_node("Dropout", ["x"], ["y", "mask"])], {"x": X}, ["y", "mask"], tolerance=0)


def test_random_dropout_is_refused(bench, build) -> None:
    constants = {"ratio": np.float32(0.5), "training": np.array(True)}
    model = build([make_node("Dropout", ["x", "ratio", "training"], ["y"])], {"x": X}, ["y"], constants)
    assert "random" in bench.blockers(model)[0]


@pytest.mark.parametrize(("batch_axis", "time_axis"), [(0, 1), (1, 0)])
def test_reverse_sequence(bench, batch_axis: int, time_axis: int) -> None:
    lengths = np.array([1, 3, 2] if batch_axis == 0 else [1, 3, 2, 3], np.int64)
    node = make_node("ReverseSequence", ["x", "lengths"], ["y"], batch_axis=batch_axis, time_axis=time_axis)
    bench.agree([node], {"x": X, "lengths": lengths}, tolerance=0)


def test_non_zero_of_a_known_count(bench) -> None:
    x = np.array([[0, 2, 0], [3, 0, 1]], np.float32)
    outputs = [make_tensor_value_info("y", TensorProto.INT64, [2, 3])]
    bench.agree([make_node("NonZero", ["x"], ["y"])], {"x": x}, outputs, tolerance=0)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(bench, axis: int | None, known: bool) -> None:
    condition = np.array([False, True, True])
    shape = {None: [2], 0: [2, 4], -1: [3, 2]}[axis]
    node = make_node("Compress", ["x", "c"], ["y"], **({} if axis is None else {"axis": axis}))
    outputs = [make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    fed = {"x": X} if known else {"x": X, "c": condition}
    bench.agree([node], fed, outputs, {"c": condition} if known else {}, tolerance=0)


def test_eye_like(bench) -> None:
    nodes = [make_node("EyeLike", ["x"], ["e"], k=1), make_node("Mul", ["e", "x"], ["y"])]
    bench.agree(nodes, {"x": X}, tolerance=0)
