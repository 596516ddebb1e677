"""A Slice of some axes leaves the others open, so that one operator serves at every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import helper, numpy_helper

from haversack.convert import convert
from haversack.convert.targets.tflite import extract

Random = np.random.Generator
TYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rank", [2, 4, 5])
def test_axes_that_are_kept_have_no_bounds(dtype: str, rank: int, bench: Any, random: Random) -> None:
    x = random.integers(0, 2 if dtype == "bool" else 100, (2, 3, 4, 5, 3)[:rank]).astype(dtype)
    constants = {"starts": np.array([1, -2]), "ends": np.array([2**40, -1]), "axes": np.array([1, rank - 2])}
    node = helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["y"])
    if rank == 2:
        constants = {"starts": np.array([1]), "ends": np.array([2**40]), "axes": np.array([1])}
    bench.agree([node], {"x": x}, ("y",), constants)
    [operator] = [
        op for op in extract.read(bench.data)[0].operators if op.code != "CAST"
    ]  # float16 computes in float32
    kept = sum(1 << axis for axis in range(rank) if axis not in constants["axes"])
    assert operator.code == "STRIDED_SLICE"
    assert operator.options["begin_mask"] == operator.options["end_mask"] == kept


def test_a_slice_serves_at_another_batch(tmp_path: Any, random: Random) -> None:
    """LiteRT's SLICE would not: its sizes are constants, and with -1 for the batch it fails to prepare."""
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Slice", ["r", "starts", "ends", "axes"], ["y"])],
            "test",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 6, 6])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3, 5, 4])],
            [
                numpy_helper.from_array(np.array(values), name)
                for name, values in (("starts", [1, 0]), ("ends", [6, 4]), ("axes", [2, 3]))
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(proto, tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", to="tflite", output=tmp_path / "model.tflite")
    interpreter = Interpreter(model_content=(tmp_path / "model.tflite").read_bytes(), num_threads=1)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [5, 3, 6, 6])
    interpreter.allocate_tensors()
    x = random.standard_normal((5, 3, 6, 6), np.float32)
    (found,) = interpreter.get_signature_runner("serving_default")(x=x).values()
    np.testing.assert_array_equal(found, np.maximum(x, 0)[:, :, 1:, :4])
