"""Two tiny artifacts that compute y = x + x, one an engine, and a bundle of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from haversack.convert.bundle import NewVariant, write_bundle
from haversack.runtimes.manifest import Manifest, Provenance, Tensor, Tolerance
from haversack.runtimes.measurements import Latency, Measurements, VariantMeasurements
from haversack.runtimes.preprocess import Preprocess


def onnx_double(inputs: tuple[str, ...] = ("x",), shape: tuple[int | str, ...] = ("n", 4)) -> bytes:
    """An ONNX model: the output y is twice the sum of its inputs."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Sum", [*inputs, *inputs], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (*inputs, "y")]
    graph = helper.make_graph(nodes, "double", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def tflite_double() -> bytes:
    """A TFLite model: in_0 [1, 4] added to itself is out_0 (other names than the ONNX model's)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str) -> schema.TensorT:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, [1, 4], schema.TensorType.FLOAT32, 0
        return made

    add = schema.OperatorT()
    add.opcodeIndex, add.inputs, add.outputs = 0, [0, 0], [1]
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = [tensor("in_0"), tensor("out_0")], [0], [1]
    graph.operators = [add]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


MODEL_INPUT = Tensor("x", "float32", ("n", 4))
MODEL_OUTPUT = Tensor("y", "float32", ("n", 4))
PROVENANCE = Provenance("double.onnx", "onnx", "ab" * 32, {"haversack": "0.1.0"}, training_data="none")


def new_variants(folder: Path, **changes: object) -> list[NewVariant]:
    """The ONNX and the TFLite variant, with golden vectors that NumPy computed."""
    (folder / "double.onnx").write_bytes(onnx_double())
    (folder / "double.tflite").write_bytes(tflite_double())
    values = np.array([[1.0, -2.0, 0.5, 0.0]], np.float32)
    golden = [({"x": values}, {"y": values + values}), ({"x": values * 3}, {"y": values * 6})]
    common = {"golden": golden, "verified": True, "judged_by": "NumPy", "tolerance": Tolerance(1e-6), **changes}
    return [
        NewVariant("onnx-fp32", "onnx", "fp32", folder / "double.onnx", (MODEL_INPUT,), (MODEL_OUTPUT,), **common),
        NewVariant(
            "tflite-fp32", "tflite", "fp32", folder / "double.tflite",
            (Tensor("in_0", "float32", (1, 4)),), (Tensor("out_0", "float32", (1, 4)),), **common,
        ),
    ]  # fmt: skip


def double_bundle(folder: Path, name: str = "double.haversack", **changes: object) -> tuple[Path, Manifest]:
    """Write a bundle of both variants."""
    made = {
        "name": "double",
        "inputs": [MODEL_INPUT],
        "outputs": [MODEL_OUTPUT],
        "variants": new_variants(folder),
        "provenance": PROVENANCE,
        "labels": ["a", "b", "c", "d"],
        "preprocess": Preprocess.from_spec("unit,size=8x9,mean=0.1:0.2:0.3"),
        "measurements": Measurements(
            "2024-02-29",
            "a test",
            {"tflite-fp32": VariantMeasurements(0.5, 1.0, (latency("litert", 0.1),), {"k": [1]})},
        ),
        **changes,
    }
    path = folder / name
    return path, write_bundle(path, **made)


def latency(engine: str, p50: float) -> Latency:
    return Latency(engine, "a test", 1, 10, p50, p50, p50)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return double_bundle(tmp_path)[0]
