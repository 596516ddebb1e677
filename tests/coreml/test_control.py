"""If, Loop and Scan, saved and evaluated, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_node, make_tensor, make_tensor_value_info

X = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)


def info(name: str, shape: list[int] | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize("taken", [True, False])
def test_if_runs_one_branch_and_reads_around_it(bench, taken: bool, ops_of) -> None:
    then = make_graph([make_node("Mul", ["x", "three"], ["t"])], "then", [], [info("t", [2, 3])])
    otherwise = make_graph([make_node("Sub", ["x", "three"], ["e"])], "else", [], [info("e", [2, 3])])
    nodes = [
        make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        make_node("Greater", ["total", "limit"], ["c"]),
        make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise),
        make_node("Add", ["y", "three"], ["z"]),  # a constant of a branch is not one of the graph around it
    ]
    constants = {"limit": np.float32(0 if taken else 100), "three": np.float32(3)}
    written = bench.agree(nodes, {"x": X}, ["y", "z"], constants)
    assert "cond" in ops_of(written.path)


def test_branches_are_both_examined(bench, build) -> None:
    branches = [
        make_graph([make_node("Bernoulli", ["x"], [f"b{n}"])], f"g{n}", [], [info(f"b{n}", [2, 3])]) for n in range(2)
    ]
    nodes = [
        make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        make_node("Greater", ["total", "x0"], ["c"]),
        make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    found = bench.blockers(build(nodes, {"x": X}, [info("y", [2, 3])], {"x0": np.float32(0)}))
    assert len([line for line in found if "Bernoulli" in line]) == 2


@pytest.mark.parametrize("ends", ["count", "condition"])
def test_loop(bench, ends: str, ops_of) -> None:
    body = make_graph(
        [
            make_node("Mul", ["state", "grow"], ["after"]),
            make_node("ReduceMax", ["after"], ["most"], keepdims=0),
            make_node("Less", ["most", "bound"], ["again"])
            if ends == "condition"
            else make_node("Identity", ["going"], ["again"]),
        ],
        "body",
        [info("n", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("state", [2, 3])],
        [info("again", [], TensorProto.BOOL), info("after", [2, 3])],
        [make_tensor("grow", TensorProto.FLOAT, [], [1.5]), make_tensor("bound", TensorProto.FLOAT, [], [20.0])],
    )
    trips = np.array(4 if ends == "count" else 2**62, np.int64)
    nodes = [make_node("Loop", ["trips", "true", "x"], ["y"], body=body)]
    written = bench.agree(nodes, {"x": X}, [info("y", [2, 3])], {"trips": trips, "true": np.array(True)})
    assert "while_loop" in ops_of(written.path)


def test_loop_stacks_rows(bench) -> None:
    body = make_graph(
        [
            make_node("Identity", ["going"], ["again"]),
            make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
            make_node("Add", ["state", "f"], ["after"]),
            make_node("Greater", ["after", "zero"], ["row"]),
        ],
        "body",
        [info("n", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("state", [2, 3])],
        [info("again", [], TensorProto.BOOL), info("after", [2, 3]), info("row", [2, 3], TensorProto.BOOL)],
        [make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )
    nodes = [make_node("Loop", ["trips", "", "x"], ["y", "rows"], body=body)]
    outputs = [info("y", [2, 3]), info("rows", [3, 2, 3], TensorProto.BOOL)]
    bench.agree(nodes, {"x": X}, outputs, {"trips": np.array(3, np.int64)})


@pytest.mark.parametrize("backward", [0, 1])
def test_scan(bench, backward: int) -> None:
    body = make_graph(
        [make_node("Add", ["sum", "row"], ["after"]), make_node("Mul", ["after", "row"], ["out"])],
        "body",
        [info("sum", [2]), info("row", [2])],
        [info("after", [2]), info("out", [2])],
    )
    nodes = [
        make_node(
            "Scan",
            ["start", "x"],
            ["last", "y"],
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_input_directions=[backward],
            scan_output_axes=[1],
            scan_output_directions=[1 - backward],
        )
    ]
    inputs = {"start": np.float32([1, -1]), "x": X}
    bench.agree(nodes, inputs, [info("last", [2]), info("y", [2, 3])])


@pytest.mark.parametrize("float32", [frozenset(), frozenset({"loop"})])
def test_loops_in_float16(bench, float32: frozenset[str]) -> None:
    """Five products, each rounded by at most 2^-11 of itself, stay below the contract's 1e-2."""
    body = make_graph(
        [make_node("Identity", ["going"], ["again"]), make_node("Mul", ["state", "grow"], ["after"])],
        "body",
        [info("n", [], TensorProto.INT64), info("going", [], TensorProto.BOOL), info("state", [2, 3])],
        [info("again", [], TensorProto.BOOL), info("after", [2, 3])],
        [make_tensor("grow", TensorProto.FLOAT, [], [1.1])],
    )
    nodes = [make_node("Loop", ["trips", "", "x"], ["y"], name="loop", body=body)]
    constants = {"trips": np.array(5, np.int64)}
    bench.agree(nodes, {"x": X}, [info("y", [2, 3])], constants, recipe="fp16", tolerance=1e-2, float32_nodes=float32)
