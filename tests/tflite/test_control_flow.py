"""If, Loop and Scan against onnxruntime, and onnx's own cases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET, extract

FLOAT = TensorProto.FLOAT
Info = onnx.ValueInfoProto


def info(name: str, shape: Sequence[int] | None = None, kind: int = FLOAT) -> Info:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: Sequence[onnx.NodeProto], inputs: Sequence[Info], outputs: Sequence[Info], **held: Any) -> Any:
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    return helper.make_graph(nodes, "inner", inputs, outputs, constants)


def codes(data: bytes) -> set[str]:
    return {operator.code for operator in extract.read(data)[0].operators}


def branches() -> tuple[Any, Any]:
    """They read x and w from outside; w is a constant, and so are what each adds."""
    then = graph([make_node("MatMul", ["x", "w"], ["t1"]), make_node("Relu", ["t1"], ["t"])], [], [info("t", [2, 3])])
    other = graph([make_node("Add", ["x", "one"], ["e"])], [], [info("e", [2, 3])], one=np.float32(1))
    return then, other


@pytest.mark.parametrize("taken", [True, False])
def test_if(taken: bool, bench: Any, random: np.random.Generator) -> None:
    then, other = branches()
    x = random.standard_normal((2, 3)).astype(np.float32)
    w = random.standard_normal((3, 3)).astype(np.float32)
    nodes = [
        make_node("ReduceSum", ["given"], ["sum"], keepdims=0),
        make_node("Greater", ["sum", "zero"], ["c"]),
        make_node("If", ["c"], ["z"], then_branch=then, else_branch=other),
        make_node("Neg", ["z"], ["y"]),
    ]
    feeds = {"x": x, "given": np.array([1 if taken else -1], np.float32)}
    bench.agree(nodes, feeds, ["y"], {"w": w, "zero": np.float32(0)})
    assert "IF" in codes(bench.data)


@pytest.mark.parametrize("taken", [True, False])
def test_if_of_a_constant_is_its_branch(taken: bool, bench: Any, random: np.random.Generator) -> None:
    then, other = branches()
    x = random.standard_normal((2, 3)).astype(np.float32)
    w = random.standard_normal((3, 3)).astype(np.float32)
    node = make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    bench.agree([node], {"x": x}, ["y"], {"w": w, "c": np.array(taken)})
    assert "IF" not in codes(bench.data)
    assert ("FULLY_CONNECTED" in codes(bench.data)) == taken


def test_nested_if_in_loop(bench: Any, random: np.random.Generator) -> None:
    """The inner branches read the loop's state and a value of the main graph."""
    then = graph([make_node("Add", ["s", "x"], ["t"])], [], [info("t", [4])])
    other = graph([make_node("Mul", ["s", "half"], ["e"])], [], [info("e", [4])], half=np.float32(0.5))
    body = graph(
        [
            make_node("Identity", ["go"], ["going"]),
            make_node("ReduceMax", ["s"], ["top"], keepdims=0),
            make_node("Less", ["top", "two"], ["low"]),
            make_node("If", ["low"], ["next"], then_branch=then, else_branch=other),
        ],
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("s")],
        [info("going", [], TensorProto.BOOL), info("next")],
        two=np.float32(2),
    )
    x = np.abs(random.standard_normal(4)).astype(np.float32)
    node = make_node("Loop", ["n", "", "x"], ["y"], body=body)
    bench.agree([node], {"x": x}, ["y"], {"n": np.array(7)}, declared={"y": x})


def counting(condition: str, scan: bool) -> Any:
    """s := s * w + i, while `condition`; scans s."""
    nodes = [
        make_node("Cast", ["i"], ["f"], to=FLOAT),
        make_node("Mul", ["s", "w"], ["m"]),
        make_node("Add", ["m", "f"], ["next"]),
        make_node("ReduceMax", ["next"], ["top"], keepdims=0),
        make_node("Less", ["top", "limit"], ["low"]),
        make_node("Identity", [condition], ["going"]),
        make_node("Abs", ["next"], ["row"]),
    ]
    outputs = [info("going", [], TensorProto.BOOL), info("next"), *([info("row")] if scan else [])]
    inputs = [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("s")]
    return graph(nodes, inputs, outputs, limit=np.float32(20))


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("trips", [-1, 0, 3, 50, np.iinfo(np.int64).max])
def test_loop_ends_by_count_or_condition(start: bool, trips: int, bench: Any, random: np.random.Generator) -> None:
    """Both known at run time only; three trips end by the count, fifty by the condition."""
    x = random.standard_normal(4).astype(np.float32)
    w = random.standard_normal(4).astype(np.float32)
    node = make_node("Loop", ["n", "c", "x"], ["y"], body=counting("low", False))
    feeds = {"x": x, "w": w, "n": np.array(trips), "c": np.array(start)}
    bench.agree([node], feeds, ["y"], declared={"y": x})
    assert "WHILE" in codes(bench.data)
    bench.agree([node], {"x": x, "w": w}, ["y"], {"n": feeds["n"], "c": feeds["c"]}, declared={"y": x})


def test_loop_with_scan_outputs_and_what_follows(bench: Any, random: np.random.Generator) -> None:
    """Nothing declares the shapes of what the loop gives: its body does."""
    x = random.standard_normal(4).astype(np.float32)
    w = random.standard_normal(4).astype(np.float32)
    nodes = [
        make_node("Loop", ["n", "c", "x"], ["last", "rows"], body=counting("go", True)),
        make_node("Softmax", ["rows"], ["y"], axis=0),
    ]
    bench.agree(nodes, {"x": x, "w": w}, ["last", "y"], {"n": np.array(6), "c": np.array(True)})


@pytest.mark.parametrize(
    ("axes", "directions"), [((0, 0), (0, 0)), ((1, 0), (1, 0)), ((0, 1), (0, 1)), ((1, 1), (1, 1))]
)
def test_scan(axes: tuple[int, int], directions: tuple[int, int], bench: Any, random: np.random.Generator) -> None:
    body = graph(
        [make_node("Add", ["s", "row"], ["next"]), make_node("Mul", ["next", "w"], ["out"])],
        [info("s", [5]), info("row", [5])],
        [info("next", [5]), info("out", [5])],
    )
    size = (6, 5) if axes[0] == 0 else (5, 6)
    feeds = {"s0": random.standard_normal(5).astype(np.float32), "x": random.standard_normal(size).astype(np.float32)}
    node = make_node(
        "Scan", ["s0", "x"], ["last", "y"], body=body, num_scan_inputs=1, scan_input_axes=[axes[0]],
        scan_output_axes=[axes[1]], scan_input_directions=[directions[0]], scan_output_directions=[directions[1]],
    )  # fmt: skip
    bench.agree([node], feeds, ["last", "y"], {"w": random.standard_normal(5).astype(np.float32)})


def test_convolution_in_a_loop(bench: Any, random: np.random.Generator) -> None:
    """The body has a layout of its own, its state in the order that ONNX gives it."""
    body = graph(
        [
            make_node("Identity", ["go"], ["going"]),
            make_node("Conv", ["s", "k"], ["conv"], pads=[1, 1, 1, 1]),
            make_node("Relu", ["conv"], ["next"]),
        ],
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("s")],
        [info("going", [], TensorProto.BOOL), info("next")],
    )
    x = random.standard_normal((1, 3, 6, 5)).astype(np.float32)
    k = random.standard_normal((3, 3, 3, 3)).astype(np.float32) / 4
    nodes = [
        make_node("Conv", ["x", "k"], ["first"], pads=[1, 1, 1, 1]),
        make_node("Loop", ["n", "", "first"], ["y"], body=body),
    ]
    bench.agree(nodes, {"x": x}, ["y"], {"k": k, "n": np.array(3)}, declared={"y": x})


def refusal(model: ir.Model, path: Path) -> list[str]:
    with pytest.raises(UnsupportedError) as refused:
        TARGET.write(model, "fp32", path, Options())
    assert not path.exists()
    return [f"{blocker.node}: {blocker.reason}" for blocker in refused.value.blockers]


def test_scan_outputs_of_unknown_length_are_refused(graph_of: Any, tmp_path: Path) -> None:
    x = np.ones(4, np.float32)
    node = make_node("Loop", ["n", "c", "x"], ["last", "y"], "loop", body=counting("low", True))
    inputs = {"x": x, "w": x, "c": np.array(True)}
    declared = {"last": x, "y": np.ones((6, 4), np.float32)}
    model = graph_of([node], inputs, ["last", "y"], {"n": np.array(6)}, declared)
    assert any("loop" in told and "run time" in told for told in refusal(model, tmp_path / "m.tflite"))


def test_everything_inside_is_refused_at_once(tmp_path: Path) -> None:
    then = graph([make_node("Unheard", ["x"], ["t"], "first")], [], [info("t", [4])])
    other = graph([make_node("Unheard", ["x"], ["e"], "second")], [], [info("e", [4])])
    for branch in (then, other):
        branch.node[0].domain = "far.away"
    proto = helper.make_model(
        helper.make_graph(
            [make_node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other)],
            "main",
            [info("x", [4]), info("c", [], TensorProto.BOOL)],
            [info("y", [4])],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("far.away", 1)],
        ir_version=10,
    )
    told = refusal(to_hub(ir.from_proto(proto)), tmp_path / "m.tflite")
    assert any(row.startswith("first") for row in told)
    assert any(row.startswith("second") for row in told)


def test_backend_cases(tmp_path: Path, run: Any) -> None:
    """onnx's own If, Loop and Scan of tensors; those inside expanded functions are in `test_backend_nodes`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        collected = {case.name: case for case in collect_testcases(None)}
    for name in ("test_if", "test_scan9_sum", "test_scan9_multi_state", "test_scan9_scalar"):
        model, (arrays, expected) = collected[name].model, collected[name].data_sets[0]
        feeds = {given.name: array for given, array in zip(model.graph.input, arrays, strict=True)}
        TARGET.write(to_hub(ir.from_proto(model)), "fp32", tmp_path / "m.tflite", Options())
        for xnnpack in (True, False):
            found = run((tmp_path / "m.tflite").read_bytes(), feeds, xnnpack)
            for result, array in zip(model.graph.output, expected, strict=True):
                np.testing.assert_allclose(found[result.name], array, rtol=1e-5, atol=1e-6, err_msg=name)
