"""An If whose condition is known and a short Loop are gone, and the graph computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub

X = np.random.default_rng(0).normal(size=(2, 1, 4)).astype(np.float32)


def info(name: str, kind: int = TensorProto.FLOAT, shape: list[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def hub_of(nodes: list[onnx.NodeProto], outputs: list[str], **constants: np.ndarray) -> ir.Model:
    """The hub graph, after it was found legal and exactly equal in value to the source."""
    proto = helper.make_model(
        helper.make_graph(
            nodes, "test", [info("x", shape=list(X.shape))], [info(name) for name in outputs],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)], ir_version=10,
    )  # fmt: skip
    source = ir.from_proto(proto)
    hub = to_hub(source)
    if all(value.shape is not None for value in hub.graph.outputs):  # the checker wants shapes of outputs
        onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    expected, found = Evaluator(source).run({"x": X}), Evaluator(hub).run({"x": X})
    assert list(found) == outputs
    for name in outputs:
        np.testing.assert_array_equal(found[name], expected[name])
    return hub


def ops(hub: ir.Model) -> list[str]:
    return [node.op_type for node in hub.graph]


def squeezing() -> list[onnx.NodeProto]:
    """What TorchScript writes for `x.squeeze(1)`: branches of different ranks, a question about the shape."""
    then = helper.make_graph([helper.make_node("Squeeze", ["x", "one"], ["t"])], "then", [], [info("t")])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [], [info("e")])
    return [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "place"], ["d"]),
        helper.make_node("Equal", ["d", "size"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]


@pytest.mark.parametrize(("size", "expected"), [(1, ["Reshape"]), (2, ["Identity"])])
def test_a_question_about_a_shape_is_answered(size: int, expected: list[str]) -> None:
    hub = hub_of(squeezing(), ["y"], one=np.array([1]), place=np.array(1), size=np.array(size))
    assert ops(hub) in (expected, [op.replace("Reshape", "Squeeze") for op in expected])
    assert hub.graph.outputs[0].shape is not None
    assert len(hub.graph.outputs[0].shape) == (2 if size == 1 else 3)


def test_a_branch_brings_its_constants_and_gives_several_values() -> None:
    weights = numpy_helper.from_array(np.full(4, 3, np.float32), "w")
    taken = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["r"])]
    then = helper.make_graph(taken, "then", [], [info("m"), info("r")], [weights])
    left = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Abs", ["x"], ["a"])]
    other = helper.make_graph(left, "else", [], [info("n"), info("a")])
    node = helper.make_node("If", ["c"], ["y", "z"], then_branch=then, else_branch=other)
    hub = hub_of([node], ["y", "z"], c=np.array(True))
    assert ops(hub) == ["Mul", "Relu"]


def test_an_if_in_a_branch_is_answered_too() -> None:
    inner = [
        helper.make_graph([helper.make_node(op, ["x"], [f"v_{op}"])], op, [], [info(f"v_{op}")])
        for op in ("Neg", "Abs")
    ]
    choice = helper.make_node("If", ["no"], ["u"], then_branch=inner[0], else_branch=inner[1])
    then = helper.make_graph([choice], "then", [], [info("u")])
    other = helper.make_graph([helper.make_node("Exp", ["x"], ["e"])], "else", [], [info("e")])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)
    assert ops(hub_of([node], ["y"], yes=np.array(True), no=np.array(False))) == ["Abs"]


def test_an_if_that_only_a_run_decides_stays() -> None:
    branches = [
        helper.make_graph([helper.make_node(op, ["x"], [f"v_{op}"])], op, [], [info(f"v_{op}")])
        for op in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    assert "If" in ops(hub_of(nodes, ["y"], zero=np.float32(0)))


def loop(trips: str, condition: str, going: str = "c", steps: int = 1) -> onnx.NodeProto:
    """`steps` times s = s * w + i, then s; each trip gives s as a row."""
    body = [helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT)]
    value = "s"
    for n in range(steps):
        body += [helper.make_node("Mul", [value, "w"], [f"p{n}"]), helper.make_node("Add", [f"p{n}", "f"], [f"q{n}"])]
        value = f"q{n}"
    if going == "computed":
        body += [helper.make_node("ReduceMax", [value], ["top"], keepdims=0),
                 helper.make_node("Less", ["top", "bound"], ["computed"])]  # fmt: skip
    body += [helper.make_node("Identity", [going], ["again"]), helper.make_node("Identity", [value], ["row"])]
    inputs = [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("s")]
    outputs = [info("again", TensorProto.BOOL, []), info(value), info("row")]
    graph = helper.make_graph(body, "body", inputs, outputs)
    return helper.make_node("Loop", [trips, condition, "x"], ["y", "ys"], body=graph)


CONSTANTS = {"w": np.full(4, 0.5, np.float32), "three": np.array(3), "many": np.array(40), "yes": np.array(True),
             "bound": np.float32(1)}  # fmt: skip


@pytest.mark.parametrize("condition", ["yes", ""])
def test_a_short_loop_is_written_out(condition: str) -> None:
    hub = hub_of([loop("three", condition)], ["y", "ys"], **CONSTANTS)
    assert "Loop" not in ops(hub)
    assert ops(hub).count("Mul") == 3
    assert ops(hub).count("Concat") == 1
    assert list(hub.graph.outputs[1].shape or []) == [3, *X.shape]


@pytest.mark.parametrize(
    "node", [loop("many", "yes"), loop("three", "yes", "computed"), loop("three", "yes", steps=20)],
    ids=["many trips", "may end early", "a large body"],
)  # fmt: skip
def test_another_loop_stays(node: onnx.NodeProto) -> None:
    assert "Loop" in ops(hub_of([node], ["y", "ys"], **CONSTANTS))
