"""A network of random weights with logits as its output, and data for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def network() -> onnx.ModelProto:
    """Three convolutions (one depthwise), a residual addition, a pool and a dense layer."""
    rng = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = 1.5 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "stem_w", "stem_b"], ["s"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["s"], ["sr"], name="stem_relu"),
        helper.make_node("Conv", ["sr", "deep_w", "deep_b"], ["d"], name="deep", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["d"], ["dr"], name="deep_relu"),
        helper.make_node("Conv", ["dr", "point_w", "point_b"], ["p"], name="point"),
        helper.make_node("Add", ["sr", "p"], ["a"], name="join"),
        helper.make_node("GlobalAveragePool", ["a"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "dense_w", "dense_b"], ["scores"], name="dense", transB=1),
    ]
    initializers = [
        weights("stem_w", 8, 3, 3, 3),
        weights("stem_b", 8),
        weights("deep_w", 8, 1, 3, 3),
        weights("deep_b", 8),
        weights("point_w", 8, 8, 1, 1),
        weights("point_b", 8),
        weights("dense_w", 6, 8),
        weights("dense_b", 6),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 6])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass(frozen=True)
class Case:
    """The network as a file, and inputs for it."""

    model: Path
    arrays: dict[str, np.ndarray]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = tmp_path / "network.onnx"
    onnx.save(network(), path)
    inputs = np.random.default_rng(6).normal(size=(24, 3, 8, 8)).astype(np.float32)
    return Case(path, {"x": inputs})
