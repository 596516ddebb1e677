"""What is said on integers in an `.onnx`: moves without DequantizeLinear around them, biases of 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.targets import Options, open_target

TARGET = open_target("ort")

Random = np.random.Generator


def quantized(bias: float, random: Random, feeds: list[dict[str, np.ndarray]]) -> ir.Model:
    """Conv, then every operator that moves numbers, then Conv, in int8."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first"),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 1, 3, 2], name="transpose"),
        helper.make_node("Slice", ["t", "start", "stop", "axes"], ["s"], name="slice"),
        helper.make_node("Gather", ["t", "rows"], ["g"], axis=2, name="gather"),
        helper.make_node("Concat", ["s", "g"], ["n"], axis=2, name="concat"),
        helper.make_node("Reshape", ["n", "shape"], ["r"], name="reshape"),
        helper.make_node("Conv", ["r", "v", "b"], ["y"], name="second"),
    ]
    arrays: dict[str, Any] = {
        "w": random.normal(size=(32, 3, 1, 1)).astype(np.float32),
        "v": random.normal(size=(32, 32, 1, 1)).astype(np.float32),
        "b": (random.normal(size=32) * bias).astype(np.float32),
        "start": np.array([0]),
        "stop": np.array([2]),
        "axes": np.array([2]),
        "rows": np.array([3, 1]),
        "shape": np.array([1, 32, 2, 8]),
    }
    graph = helper.make_graph(
        nodes,
        "moves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 32, 2, 8))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))
    return compress(model, Recipe("int8"), feeds).model


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


@pytest.fixture
def feeds(random: Random) -> list[dict[str, np.ndarray]]:
    return [{"x": random.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]


def run(content: bytes, feeds: list[dict[str, np.ndarray]], *, optimised: bool) -> np.ndarray:
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, each)[0] for each in feeds])


def test_moves_are_of_integers(random: Random, feeds: list[dict[str, np.ndarray]], tmp_path: Path) -> None:
    hub = quantized(0.1, random, feeds)
    written = TARGET.write(hub, "int8", tmp_path / "m.onnx", Options(ort_format=False))
    proto = onnx.load(written.path)
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    moved = [
        n for n in proto.graph.node if n.op_type in ("MaxPool", "Transpose", "Slice", "Gather", "Concat", "Reshape")
    ]
    assert len(moved) == 6
    assert not [node for node in moved if makers[node.input[0]] == "DequantizeLinear"]
    assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) == 3  # the input, both convolutions
    expected = run(ir.to_proto(hub).SerializeToString(), feeds, optimised=False)
    scale = float(hub.graph.initializers["y_scale"].const_value.numpy())  # type: ignore[union-attr]
    found = run(written.path.read_bytes(), feeds, optimised=True)
    assert np.abs(found - expected).max() <= 1.01 * scale
    # Layers keep the hub's names, so that each can be fed and compared alone.
    names = {tap.value for layer in written.layers for tap in (*layer.inputs, *layer.outputs)}
    assert {"p_quantized", "t_quantized", "s_quantized", "g_quantized", "n_quantized", "r_quantized"} <= names
    assert all(tap.offset == 128 for layer in written.layers for tap in layer.inputs if "quantized" in tap.value)


@pytest.mark.parametrize(("bias", "dtype"), [(0.1, TensorProto.INT16), (1000.0, TensorProto.INT32)])
def test_a_small_bias_takes_two_bytes_a_number(
    bias: float, dtype: int, random: Random, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    hub = quantized(bias, random, feeds)
    written = TARGET.write(hub, "int8", tmp_path / "m.onnx", Options(ort_format=False))
    wide = [each for each in onnx.load(written.path).graph.initializer if each.data_type in (5, 6)]
    assert len(wide) == 2
    assert wide[0].data_type == dtype
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "seen.onnx")
    ort.InferenceSession(str(written.path), options, providers=["CPUExecutionProvider"])
    seen = [node.op_type for node in onnx.load(tmp_path / "seen.onnx").graph.node]
    assert seen.count("QLinearConv") == 2
    assert "Cast" not in seen
    expected = run(ir.to_proto(hub).SerializeToString(), feeds, optimised=False)
    scale = float(hub.graph.initializers["y_scale"].const_value.numpy())  # type: ignore[union-attr]
    assert np.abs(run(written.path.read_bytes(), feeds, optimised=True) - expected).max() <= 1.01 * scale
