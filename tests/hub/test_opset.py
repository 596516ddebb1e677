"""Models of older and newer opsets mean the same at the pinned one."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, parser

from haversack.convert.errors import SourceError, UnsupportedError
from haversack.convert.hub import OPSET
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub

IMAGE = "float[1,2,5,6] x"

OLDER = {
    "Upsample 7": (7, IMAGE, "y = Upsample<mode='linear', scales=[1.0,1.0,1.7,2.3]>(x)"),
    "Upsample 9": (9, IMAGE, "s = Constant<value=float[4] {1,1,3,2.5}>() y = Upsample<mode='nearest'>(x, s)"),
    "Resize 10": (10, IMAGE, "s = Constant<value=float[4] {1,1,1.6,0.7}>() y = Resize<mode='linear'>(x, s)"),
    "Resize 10 nearest": (10, IMAGE, "s = Constant<value=float[4] {1,1,0.6,0.7}>() y = Resize<mode='nearest'>(x, s)"),
    "Softmax 11": (11, IMAGE, "y = Softmax<axis=2>(x)"),
    "LogSoftmax 1": (9, IMAGE, "y = LogSoftmax(x)"),
    "Clip 6": (7, IMAGE, "y = Clip<min=-0.5, max=0.25>(x)"),
    "Pad 2": (9, IMAGE, "y = Pad<pads=[0,0,1,2,0,0,0,1], mode='reflect'>(x)"),
    "Slice 1": (9, IMAGE, "y = Slice<axes=[2,3], starts=[1,-4], ends=[4,1000]>(x)"),
    "Dropout 7": (9, IMAGE, "d, m = Dropout<ratio=0.5>(x) y = Relu(d)"),
    "Squeeze 1": (11, IMAGE, "a = Squeeze<axes=[0]>(x) y = Unsqueeze<axes=[1,3]>(a)"),
    "ReduceSum 11": (11, IMAGE, "y = ReduceSum<axes=[1,3], keepdims=0>(x)"),
    "ReduceMean 13": (13, IMAGE, "y = ReduceMean<axes=[-1]>(x)"),
    "ReduceMax all": (11, IMAGE, "y = ReduceMax(x)"),
    "Split 2": (11, IMAGE, "y, z = Split<axis=3, split=[2,4]>(x)"),
    "Split equal": (13, IMAGE, "y, z = Split<axis=3>(x)"),
    "TopK 1": (9, IMAGE, "y, i = TopK<axis=3, k=2>(x)"),
    "BatchNormalization 7": (
        8,
        IMAGE,
        "s = Constant<value=float[2] {1,2}>() b = Constant<value=float[2] {0.5,-1}>() "
        "m = Constant<value=float[2] {0.1,0.2}>() v = Constant<value=float[2] {1,4}>() "
        "y = BatchNormalization(x, s, b, m, v)",
    ),
    "Gemm 7": (
        7,
        "float[3,4] x",
        "w = Constant<value=float[4,2] {1,2,3,4,5,6,7,8}>() c = Constant<value=float[2] {1,-1}>() "
        "y = Gemm<alpha=0.5, beta=2.0>(x, w, c)",
    ),
    "Scatter 9": (
        9,
        "float[3,4] x",
        "i = Constant<value=int64[1,2] {1,2}>() u = Constant<value=float[1,2] {7,8}>() y = Scatter(x, i, u)",
    ),
    "ArgMax 1": (11, IMAGE, "y = ArgMax<axis=1>(x)"),
    "Flatten 9": (9, IMAGE, "y = Flatten<axis=2>(x)"),
    "AveragePool 10": (10, IMAGE, "y = AveragePool<kernel_shape=[3,3], auto_pad='SAME_UPPER'>(x)"),
    "LpPool 11": (11, IMAGE, "y = LpPool<kernel_shape=[2,2], strides=[2,2]>(x)"),
    "PRelu 9": (9, IMAGE, "s = Constant<value=float[2,1,1] {0.1,0.2}>() y = PRelu(x, s)"),
    "HardSwish 14": (14, IMAGE, "y = HardSwish(x)"),
    "Cast 9": (9, IMAGE, "i = Cast<to=7>(x) y = Cast<to=1>(i)"),
    "If with old operators": (
        11,
        IMAGE,
        "t = ReduceMean<axes=[0,1,2,3], keepdims=0>(x) z = Constant<value=float {0.0}>() c = Greater(t, z) "
        "y = If(c) <then_branch = a () => (float[1,2] p) { p = ReduceSum<axes=[2,3], keepdims=0>(x) }, "
        "else_branch = b () => (float[1,2] q) { q = ReduceMax<axes=[2,3], keepdims=0>(x) }>",
    ),
}


def _model(opset: int, inputs: str, body: str, outputs: str = "y") -> onnx.ModelProto:
    names = ", ".join(f"float {name}" for name in outputs.split())
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({names}) {{ {body} }}'.replace("'", '"')
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.ClearField("type")
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("case", OLDER)
def test_older_opsets_mean_the_same(case: str) -> None:
    opset, inputs, body = OLDER[case]
    model = _model(opset, inputs, body)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = _run(model, {"x": x})
    hub = to_hub(ir.from_proto(model))
    assert hub.opset_imports[""] == OPSET
    onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    actual = Evaluator(hub).run({"x": x})["y"]
    assert actual.shape == expected.shape
    # the same kernels on the same numbers, or a sum in another order
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


NEWER = {
    "Swish 24": (24, "float[2,6] x", "y = Swish<alpha=1.5>(x)", lambda x: x / (1 + np.exp(-1.5 * x))),
    "RMSNormalization 23": (
        23,
        "float[2,6] x",
        "s = Constant<value=float[6] {1,2,3,4,5,6}>() y = RMSNormalization<epsilon=0.01>(x, s)",
        lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 0.01) * np.arange(1, 7),
    ),
    "Attention 23": (
        23,
        "float[1,2,3,4] x",
        "y = Attention<scale=0.5>(x, x, x)",
        lambda x: _softmax(x @ np.swapaxes(x, -1, -2) * 0.5) @ x,
    ),
    "Relu and Reshape 25": (
        25,
        "float[2,6] x",
        "r = Relu(x) s = Constant<value=int64[2] {3,-1}>() y = Reshape(r, s)",
        lambda x: np.maximum(x, 0).reshape(3, 4),
    ),
    "Cast 25, its new attribute at its default": (
        25,
        "float[2,6] x",
        "i = Cast<to=6, round_mode='up'>(x) y = Cast<to=1>(i)",
        lambda x: np.trunc(x),
    ),
}


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("case", NEWER)
def test_newer_opsets_come_down(case: str) -> None:
    opset, inputs, body, formula = NEWER[case]
    model = _model(opset, inputs, body)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    hub = to_hub(ir.from_proto(model))
    onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    np.testing.assert_allclose(Evaluator(hub).run({"x": x})["y"], formula(x), rtol=1e-5, atol=1e-5)


def test_what_cannot_come_down_is_refused_with_every_reason() -> None:
    model = _model(26, "float[4] x", "a = BitCast<to=6>(x) y = BitCast<to=1>(a)")
    model.graph.node[0].name, model.graph.node[1].name = "first", "second"
    with pytest.raises(UnsupportedError) as caught:
        to_hub(ir.from_proto(model))
    assert [blocker.node for blocker in caught.value.blockers] == ["first", "second"]
    assert all("opset 21" in str(blocker) for blocker in caught.value.blockers)


def test_an_unknown_opset_says_what_is_read() -> None:
    model = _model(21, "float[4] x", "y = Relu(x)")
    model.opset_import[0].version = 99
    with pytest.raises(SourceError, match="opset 99"):
        to_hub(ir.from_proto(model))


def test_functions_are_inlined_even_of_another_opset() -> None:
    text = """<ir_version: 8, opset_import: ["": 18, "own": 1]>
      g (float[2,3] x) => (float[2,3] y) { a = own.twice(x) y = own.twice(a) }
      <domain: "own", opset_import: ["": 11]>
      twice (u) => (v) { w = Unsqueeze<axes=[0]>(u) z = Squeeze<axes=[0]>(w) v = Add(z, u) }"""
    model = parser.parse_model(text)
    hub = to_hub(ir.from_proto(model))
    assert {node.domain for node in hub.graph} == {""}
    assert not hub.functions
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(Evaluator(hub).run({"x": x})["y"], 4 * x)


def test_another_domain_passes_through() -> None:
    text = """<ir_version: 8, opset_import: ["": 12, "com.microsoft": 1]>
      g (float[2,3] x) => (float[2,3] y) { a = Softmax(x) y = com.microsoft.FastGelu(a) }"""
    hub = to_hub(ir.from_proto(parser.parse_model(text)))
    assert [(node.domain, node.op_type) for node in hub.graph] == [("", "Softmax"), ("com.microsoft", "FastGelu")]
    assert hub.opset_imports["com.microsoft"] == 1


def test_overridable_initializers_of_old_models_become_constants() -> None:
    text = """<ir_version: 3, opset_import: ["": 9]>
      g (float[2,3] x, float[3] w) => (float[2,3] y) <float[3] w = {1,2,3}> { y = Mul(x, w) }"""
    hub = to_hub(ir.from_proto(parser.parse_model(text)))
    assert [value.name for value in hub.graph.inputs] == ["x"]
    np.testing.assert_array_equal(Evaluator(hub).run({"x": np.ones((2, 3), np.float32)})["y"], [[1, 2, 3]] * 2)


def test_a_preview_operator_is_expanded() -> None:
    x = [np.random.default_rng(n).standard_normal((1, 2, 3, 4)).astype(np.float32) for n in range(3)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2, 3, 4)) for name in "qkvy"]
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain="ai.onnx.preview")
    opsets = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview", 1)]
    model = helper.make_model(helper.make_graph([node], "g", info[:3], info[3:]), opset_imports=opsets)
    scores = x[0] @ x[1].swapaxes(-1, -2) / 2
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ x[2]
    found = Evaluator(to_hub(ir.from_proto(model))).run(dict(zip("qkv", x, strict=True)))["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
