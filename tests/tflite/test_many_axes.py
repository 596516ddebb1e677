"""Tensors of seven axes: XNNPACK takes six, some kernels fewer, so neighbouring axes are merged on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from onnx.helper import make_node

Random = np.random.Generator
SHAPE = (2, 1, 3, 2, 2, 1, 3)

NODES: dict[str, tuple[NodeProto, dict[str, Any]]] = {
    "Add": (make_node("Add", ["x", "c"], ["y"]), {"c": np.ones((3, 1, 2, 1, 3), np.float32)}),
    "Concat": (make_node("Concat", ["x", "x"], ["y"], axis=3), {}),
    "Split": (make_node("Split", ["x"], ["y", "z"], axis=3, num_outputs=2), {}),
    "Split unevenly": (make_node("Split", ["x", "s"], ["y", "z"], axis=2), {"s": np.array([1, 2])}),
    "ReduceMax": (make_node("ReduceMax", ["x", "a"], ["y"]), {"a": np.array([3, 4])}),
    "ReduceMin": (make_node("ReduceMin", ["x", "a"], ["y"], keepdims=0), {"a": np.array([0, 1])}),
    "ReduceMean": (make_node("ReduceMean", ["x", "a"], ["y"], keepdims=0), {"a": np.array([2, 6])}),
    "ReduceSum": (make_node("ReduceSum", ["x"], ["y"], keepdims=0), {}),
    "Softmax": (make_node("Softmax", ["x"], ["y"], axis=3), {}),
    "LogSoftmax": (make_node("LogSoftmax", ["x"], ["y"]), {}),
    "MatMul": (make_node("MatMul", ["x", "w"], ["y"]), {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}),
    "Relu": (make_node("Relu", ["x"], ["y"]), {}),
    "Transpose": (make_node("Transpose", ["x"], ["y"], perm=[6, 0, 1, 2, 3, 4, 5]), {}),
}


@pytest.mark.parametrize("name", NODES)
def test_seven_axes(name: str, bench: Any, random: Random) -> None:
    node, constants = NODES[name]
    x = random.normal(size=SHAPE).astype(np.float32)
    bench.agree([node], {"x": x}, tuple(node.output), constants)
