"""What the Core ML tests share: hub graphs of a few nodes, and the comparison of saved packages with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from haversack.convert.hub import IR_VERSION, OPSET
from haversack.convert.targets import Options, Written
from haversack.convert.targets.coreml import TARGET
from haversack.runtimes.engines import open_engine

FP32 = 1e-4
"""The contract of fp32: max abs difference / max(max abs, 1e-6) an output."""


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str | onnx.ValueInfoProto],
    constants: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model of `nodes` whose inputs have the arrays' types and shapes; output types are inferred unless given."""
    for number, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_{number}"
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            declared,
            [onnx.ValueInfoProto(name=output) if isinstance(output, str) else output for output in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


def expected(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes, without optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def relative(actual: np.ndarray, wanted: np.ndarray) -> float:
    """The measure of the contract: max abs difference / max(max abs, 1e-6); infinities and NaN must be equal."""
    assert actual.shape == wanted.shape
    actual, wanted = actual.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(actual[~finite], wanted[~finite])
    if not finite.any():
        return 0.0
    return float(np.abs(actual[finite] - wanted[finite]).max() / max(np.abs(wanted[finite]).max(), 1e-6))


class Bench:
    """Writes packages into a folder and compares what they compute with onnxruntime."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.count = 0

    def write(self, model: onnx.ModelProto, recipe: str = "fp32", **options: Any) -> Written:
        """Lower and save."""
        self.count += 1
        path = self.folder / f"model{self.count}.mlpackage"
        return TARGET.write(ir.from_proto(model), recipe, path, Options(**options))

    def blockers(self, model: onnx.ModelProto, recipe: str = "fp32", **options: Any) -> list[str]:
        """What preflight says, as text."""
        return [str(blocker) for blocker in TARGET.preflight(ir.from_proto(model), recipe, Options(**options))]

    def agree(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str | onnx.ValueInfoProto] = ("y",),
        constants: Mapping[str, np.ndarray] | None = None,
        *,
        recipe: str = "fp32",
        tolerance: float = FP32,
        reference: bool = False,
        wanted: Mapping[str, np.ndarray] | None = None,
        **options: Any,
    ) -> Written:
        """Assert that the saved package reproduces onnxruntime on `inputs`.

        With `reference` it is compared with onnx's reference implementation instead, with `wanted` with these arrays.
        """
        model = graph(nodes, inputs, outputs, constants)
        written = self.write(model, recipe, **options)
        engine = open_engine(written.path)
        feeds = {
            spec.name: array.astype(spec.dtype).reshape(array.shape or (1,))  # Core ML has no scalar inputs
            for spec, array in zip(engine.inputs, inputs.values(), strict=True)
        }
        actual = engine.run(feeds)
        if wanted is not None:
            oracle = list(wanted.values())
        else:
            oracle = ReferenceEvaluator(model).run(None, dict(inputs)) if reference else expected(model, inputs)
        for spec, right in zip(engine.outputs, oracle, strict=True):
            assert relative(actual[spec.name], right.reshape(right.shape or (1,))) <= tolerance, spec.name
        return written


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def build() -> Callable[..., onnx.ModelProto]:
    return graph


@pytest.fixture(scope="session")
def ops_of() -> Callable[[Path], list[str]]:
    """MIL op types of a saved package in order, constants left out, read by coremltools' protobuf from a copy."""

    def read(package: Path) -> list[str]:
        from haversack.convert.targets.coreml import sdk

        proto = sdk.load().proto.Model_pb2.Model()
        proto.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
        (block,) = proto.mlProgram.functions["main"].block_specializations.values()
        return [operation.type for operation in block.operations if operation.type != "const"]

    return read


@pytest.fixture(scope="session")
def decompressed() -> Callable[[Path], dict[tuple[int, ...], np.ndarray]]:
    """By shape, the constants of a package as coremltools' own reader and decompressors give them."""

    def read(package: Path) -> dict[tuple[int, ...], np.ndarray]:
        from haversack.convert.targets.coreml import sdk

        coremltools = sdk.load()
        from coremltools.converters.mil.frontend.milproto.load import load

        spec = coremltools.proto.Model_pb2.Model()
        spec.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
        program = load(spec, spec.specificationVersion, str(package / "Data/com.apple.CoreML/weights"))
        found = {}
        for operation in program.functions["main"].operations:
            if operation.op_type.startswith("constexpr_") and len(operation.outputs) == 1:
                array = np.asarray(operation.materialized_val_inference())
                found[array.shape] = array
        return found

    return read
