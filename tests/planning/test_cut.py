"""What lies behind a layer computes what the whole computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from haversack.convert.hub.cut import behind
from haversack.convert.hub.evaluate import Evaluator


def run_cut(model: ir.Model, feeds: dict[str, np.ndarray], layer: str) -> tuple[dict, dict]:
    """The outputs of the whole, and of the part behind a layer fed with what the whole computes."""
    part, taken = behind(model, [layer])
    given = {value.name for value in model.graph.inputs}
    computed = [name for name in taken if name not in given]
    values = Evaluator(model, computed).run(feeds) if computed else {}
    whole = Evaluator(model).run(feeds)
    return whole, Evaluator(part).run({name: feeds[name] if name in given else values[name] for name in taken})


def test_every_layer_of_a_real_model(model: ir.Model, samples: list) -> None:
    for node in model.graph:
        whole, part = run_cut(model, samples[0], str(node.name))
        for name, value in part.items():
            np.testing.assert_array_equal(value, whole[name], err_msg=str(node.name))


BRANCHES = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[1, 4] x) => (float[1, 4] y, float[1, 4] z)
<int8[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float s = {0.5}, int8 o = {0}>
{
   a = Relu(x)
   b = Neg(a)
   held = DequantizeLinear(w, s, o)
   c = MatMul(b, held)
   y = Add(a, c)
   z = Exp(a)
}
"""


def test_side_branches_become_inputs_and_other_outputs_are_left_out() -> None:
    proto = parser.parse_model(BRANCHES)
    for node, name in zip(proto.graph.node, ("relu", "neg", "held", "mul", "add", "exp"), strict=True):
        node.name = name
    onnx.checker.check_model(proto)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    part, taken = behind(model, ["mul"])
    assert set(taken) == {"a", "b"}
    assert [value.name for value in part.graph.outputs] == ["y"]
    assert "DequantizeLinear" in [node.op_type for node in part.graph], (
        "weights go along with the constants they are of"
    )
    assert not [node for node in part.graph if node.op_type in ("Relu", "Neg", "Exp")]
    feeds = {"x": np.array([[1, -2, 3, 0.5]], np.float32)}
    whole, own = run_cut(model, feeds, "mul")
    np.testing.assert_array_equal(own["y"], whole["y"])


def test_the_model_itself_is_not_changed(model: ir.Model) -> None:
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    behind(model, [str(model.graph[-1].name)])
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_an_unknown_node_is_named(model: ir.Model) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        behind(model, ["nowhere"])
