"""Our own `.tflite` files, whose inner tensors have no names, can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub
from haversack.convert.hub.shapes import bind_batch
from haversack.convert.sources import read
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET

pytest.importorskip("tensorflow", reason="TensorFlow, which reads these formats, is not installed")
pytestmark = pytest.mark.slow


def test_a_file_without_inner_names(tmp_path: Path) -> None:
    import onnx_ir as ir
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("GlobalAveragePool", ["b"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 1, 1])],
        [numpy_helper.from_array(kernel, "w")],
    )
    hub = to_hub(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)))
    TARGET.write(hub, "fp32", tmp_path / "own.tflite", Options())

    again = read(tmp_path / "own.tflite").model

    assert [value.name for value in again.graph.inputs] == ["x"]
    assert [value.name for value in again.graph.outputs] == ["y"]
    feeds = {"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}
    expected, found = Evaluator(hub).run(feeds)["y"], Evaluator(bind_batch(again)).run(feeds)["y"]
    # Sums of 27 and of 64 products in another order: a few ulp (6e-8) of the largest value.
    assert np.abs(expected - found).max() <= 1e-5 * np.abs(expected).max()
