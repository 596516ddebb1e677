"""float16 compute: what is halved, what stays float32, and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UsageError

RNG = np.random.default_rng(11)
X = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
W = RNG.normal(scale=0.2, size=(4, 3, 3, 3)).astype(np.float16)
NODES = [
    make_node("Cast", ["w_fp16"], ["w"], to=onnx.TensorProto.FLOAT),
    make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
    make_node("Exp", ["c"], ["e"], name="exp"),
    make_node("Sqrt", ["e"], ["y"], name="sqrt"),
]
HALF = 1e-2
"""The contract of fp16."""


def kinds(package) -> dict[str, str]:
    """Element type of each op's first output, by op type, read from the saved package."""
    from haversack.convert.targets.coreml import sdk

    library = sdk.load().proto
    proto = library.Model_pb2.Model()
    proto.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    (block,) = proto.mlProgram.functions["main"].block_specializations.values()
    return {
        operation.type: library.MIL_pb2.DataType.Name(operation.outputs[0].type.tensorType.dataType)
        for operation in block.operations
        if operation.type != "const"
    }


def test_float16_compute_float32_edges(bench) -> None:
    written = bench.agree(NODES, {"x": X}, constants={"w_fp16": W}, recipe="fp16", tolerance=HALF)
    found = kinds(written.path)
    assert {found[op] for op in ("conv", "exp", "sqrt")} == {"FLOAT16"}
    assert found["cast"] == "FLOAT32"  # the last cast, of the output
    weights = b"".join(file.read_bytes() for file in written.path.rglob("*") if file.is_file())
    assert W.tobytes() in weights
    assert W.astype(np.float32).tobytes() not in weights


def test_named_nodes_stay_float32_and_keep_float16_weights(bench) -> None:
    keep = frozenset({"conv", "exp"})
    written = bench.agree(NODES, {"x": X}, constants={"w_fp16": W}, recipe="fp16", tolerance=HALF, float32_nodes=keep)
    found = kinds(written.path)
    assert (found["conv"], found["exp"], found["sqrt"]) == ("FLOAT32", "FLOAT32", "FLOAT16")
    assert found["constexpr_cast"] == "FLOAT32"
    weights = b"".join(file.read_bytes() for file in written.path.rglob("*") if file.is_file())
    assert W.tobytes() in weights
    assert W.astype(np.float32).tobytes() not in weights


def test_an_overflow_is_repaired_by_naming_the_node(bench) -> None:
    """exp(12) is beyond float16: with the node named the result is right again."""
    nodes = [make_node("Exp", ["x"], ["e"], name="exp"), make_node("Log", ["e"], ["y"], name="log")]
    inputs = {"x": np.array([1.0, 12.0], np.float32)}
    with pytest.raises(AssertionError):
        bench.agree(nodes, inputs, recipe="fp16", tolerance=HALF)
    bench.agree(nodes, inputs, recipe="fp16", tolerance=HALF, float32_nodes=frozenset({"exp", "log"}))


@pytest.mark.parametrize("number", [1e-9, 1e6])
def test_a_constant_beyond_float16_keeps_its_node_in_float32(bench, number) -> None:
    """As float16 the first bound is 0 and the second infinite: neither would clip what it clips."""
    constants = {"low": np.array(number, np.float32)}
    node = make_node("Max", ["x", "low"], ["y"], name="max")
    x = np.array([0.0, 2.0 * number], np.float32)
    written = bench.agree([node], {"x": x}, constants=constants, recipe="fp16", float32_nodes=frozenset())
    assert kinds(written.path)["maximum"] == "FLOAT32"
    assert any("max computes in float32" in note for note in written.notes)


def test_float16_inputs_and_outputs_stay_so(bench) -> None:
    x = X.astype(np.float16)
    written = bench.agree([make_node("Relu", ["x"], ["y"])], {"x": x}, tolerance=HALF)
    from haversack.runtimes.engines import open_engine

    engine = open_engine(written.path)
    assert {spec.dtype for spec in (*engine.inputs, *engine.outputs)} == {"float16"}


def test_an_unknown_node_is_a_usage_error(bench) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        bench.agree(NODES, {"x": X}, constants={"w_fp16": W}, recipe="fp16", float32_nodes=frozenset({"nowhere"}))
