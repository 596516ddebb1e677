"""A masked softmax keeps its meaning in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert import convert
from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.sources import read

SIZE, WIDTH = 6, 16


def attention(path: Path, mask: float) -> Path:
    """One head of causal attention: scores + mask → softmax → values."""
    random = np.random.default_rng(0)
    arrays = {name: random.normal(0, 0.4, (WIDTH, WIDTH)).astype(np.float32) for name in ("wq", "wk", "wv")}
    arrays["mask"] = np.triu(np.full((SIZE, SIZE), mask, np.float32), 1)
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"], "query"),
        helper.make_node("MatMul", ["x", "wk"], ["k"], "key"),
        helper.make_node("MatMul", ["x", "wv"], ["v"], "value"),
        helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"], "scores"),
        helper.make_node("Add", ["scores", "mask"], ["masked"], "add_mask"),
        helper.make_node("Softmax", ["masked"], ["p"], "softmax", axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"], "mix"),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIZE, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, SIZE, WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def samples(count: int = 24) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(count, SIZE, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_what_may_not_be_seen_is_not_seen_and_the_rest_keeps_its_weights(tmp_path: Path, mask: float) -> None:
    model = read(attention(tmp_path / "attention.onnx", mask)).model
    batches = [{"x": row[None]} for row in samples()["x"]]
    made = compress(model, Recipe("int8"), batches).model
    exact, rounded = Evaluator(model), Evaluator(made)
    own = np.concatenate([exact.run(feeds)["y"] for feeds in batches])
    other = np.concatenate([rounded.run(feeds)["y"] for feeds in batches])
    noise = np.square(own - other).sum() / np.square(own).sum()
    assert noise < 0.01, "a uniform softmax would leave a noise of the signal's own size"
    changed = dict(batches[0])
    changed["x"] = changed["x"].copy()
    changed["x"][0, -1] = 3.0  # the last token, which only the last row may see
    np.testing.assert_array_equal(rounded.run(changed)["y"][0, :-1], rounded.run(batches[0])["y"][0, :-1])


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_artifacts_are_verified(tmp_path: Path, target: str) -> None:
    path = attention(tmp_path / "attention.onnx", float(np.finfo(np.float32).min))
    suffix = {"tflite": ".tflite", "onnx": ".onnx"}[target]
    made = convert(path, to=target, compress="int8", calibration=samples(), output=tmp_path / f"a{suffix}")
    assert made.verified


def test_large_numbers_without_a_softmax_are_data(tmp_path: Path) -> None:
    path = attention(tmp_path / "attention.onnx", -1e4)
    proto = onnx.load(path)
    nodes = [node for node in proto.graph.node if node.op_type != "Softmax"]
    for node in nodes:
        node.input[:] = ["masked" if name == "p" else name for name in node.input]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, path)
    made = compress(read(path).model, Recipe("int8"), [{"x": row[None]} for row in samples()["x"]]).model
    add = next(node for node in made.graph if node.op_type == "Add")
    assert all(value.producer().op_type == "DequantizeLinear" for value in add.inputs)
