"""Each rewrite does what its docstring shows, and none changes what a graph computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from haversack.convert.hub.attributes import python
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub
from haversack.convert.hub.passes import ORDER
from haversack.convert.hub.shapes import bind_batch

RNG = np.random.default_rng(0)


def build(body: str, inputs: str = "float[N,3,8,8] x", outputs: str = "y", **weights: np.ndarray) -> onnx.ModelProto:
    """A model at opset 21 from ONNX's text form; `weights` become initializers."""
    names = ", ".join(f"float {name}" for name in outputs.split())
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({inputs}) => ({names}) {{ {body} }}'.replace("'", '"')
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.ClearField("type")
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def check(model: onnx.ModelProto, x: np.ndarray) -> ir.Model:
    """The hub graph of `model`, after it was found legal and equal in value to the source."""
    source = ir.from_proto(model)
    hub = to_hub(source)
    onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    before, after = Evaluator(source).run({"x": x}), Evaluator(hub).run({"x": x})
    assert list(before) == list(after)
    for name, expected in before.items():
        assert after[name].dtype == expected.dtype
        # one float32 rounding of each weight, and sums in another order
        np.testing.assert_allclose(after[name], expected, rtol=2e-5, atol=2e-5 * max(1, np.abs(expected).max()))
    return hub


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


IMAGE = normal(2, 3, 8, 8)
NORM = {"g": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 0.1}


@pytest.mark.parametrize("bias", ["", ", c"])
def test_batch_norm_folds_into_conv(bias: str) -> None:
    body = f"a = Conv(x, w{bias}) y = BatchNormalization<epsilon=0.01>(a, g, b, m, v)"
    hub = check(build(body, w=normal(4, 3, 3, 3), c=normal(4), **NORM), IMAGE)
    assert ops(hub) == ["Conv"]
    assert len(hub.graph.node(0).inputs) == 3
    assert hub.graph.outputs[0].name == "y"


@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_folds_into_transposed_conv(group: int) -> None:
    body = f"a = ConvTranspose<group={group}, strides=[2,2]>(x, w) y = BatchNormalization(a, g, b, m, v)"
    model = build(body, "float[N,6,4,4] x", w=normal(6, 4 // group, 3, 3), **NORM)
    assert ops(check(model, normal(2, 6, 4, 4))) == ["ConvTranspose"]


def test_batch_norm_alone_is_multiplied_and_added() -> None:
    body = "r = Relu(x) y = BatchNormalization(r, g, b, m, v)"
    model = build(body, "float[N,4,5,5] x", **NORM)
    assert ops(check(model, normal(2, 4, 5, 5))) == ["Relu", "Mul", "Add"]


def test_a_layer_that_others_read_keeps_its_value() -> None:
    body = "a = Conv(x, w) y = BatchNormalization(a, g, b, m, v) z = Relu(a)"
    hub = check(build(body, outputs="y z", w=normal(4, 3, 3, 3), **NORM), IMAGE)
    assert sorted(ops(hub)) == ["Add", "Conv", "Mul", "Relu"]


def test_a_constant_that_varies_along_the_image_is_no_bias() -> None:
    hub = check(build("a = Conv(x, w) y = Add(a, c)", w=normal(4, 3, 3, 3), c=normal(4, 6, 6)), IMAGE)
    assert ops(hub) == ["Conv", "Add"]


def test_a_constant_that_enlarges_the_output_is_no_bias() -> None:
    model = build("a = Conv(x, w) y = Add(a, c)", "float[1,3,8,8] x", w=normal(4, 3, 3, 3), c=normal(2, 4, 1, 1))
    assert ops(check(model, IMAGE[:1])) == ["Conv", "Add"]


@pytest.mark.parametrize("shape", [(5,), (1, 5), (), (1,)])
def test_matmul_and_add_are_a_gemm(shape: tuple[int, ...]) -> None:
    model = build("a = MatMul(x, w) y = Add(c, a)", "float[N,4] x", w=normal(4, 5), c=normal(*shape))
    hub = check(model, normal(3, 4))
    (gemm,) = hub.graph
    assert gemm.op_type == "Gemm"
    assert python(gemm) == {"transB": 1}
    assert [list(value.shape) for value in gemm.inputs[1:]] == [[5, 4], [5]]


@settings(max_examples=40, deadline=None)
@given(
    alpha=st.sampled_from([1.0, 0.5, -2.0]),
    beta=st.sampled_from([1.0, 0.25]),
    trans_a=st.booleans(),
    trans_b=st.booleans(),
    constant=st.booleans(),
    bias=st.sampled_from([None, (), (5,), (1, 5), (3, 1), (3, 5)]),
)
def test_every_gemm_becomes_canonical(
    alpha: float, beta: float, trans_a: bool, trans_b: bool, constant: bool, bias: tuple[int, ...] | None
) -> None:
    attributes = f"alpha={alpha}, beta={beta}, transA={int(trans_a)}, transB={int(trans_b)}"
    weights = normal(5, 4) if trans_b else normal(4, 5)
    extra = {"w": weights} if constant else {"w0": weights}
    # A weight that is computed from the input is no constant.
    body = "" if constant else "zero = ReduceMin<keepdims=0>(x) n = Sub(zero, zero) w = Add(w0, n) "
    body += f"y = Gemm<{attributes}>(x, w{'' if bias is None else ', c'})"
    if bias is not None:
        extra["c"] = normal(*bias)
    shape = (4, 3) if trans_a else (3, 4)
    hub = check(build(body, f"float[{shape[0]},{shape[1]}] x", **extra), normal(*shape))
    for node in hub.graph:
        if node.op_type == "Gemm":
            assert python(node) == {"transB": 1}
            assert node.inputs[1].is_initializer()
            assert len(node.inputs) == 2 or list(node.inputs[2].shape) == [5]
    assert ("Gemm" in ops(hub)) == constant


@settings(max_examples=60, deadline=None)
@given(
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool", "ConvTranspose", "LpPool"]),
    auto=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilated=st.booleans(),
)
def test_auto_pad_is_written_out(
    op: str, auto: str, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilated: bool
) -> None:
    dilation = 1  # onnxruntime refuses dilations with auto_pad for most of these
    if dilated and op == "MaxPool" and auto == "VALID" and min(size) > 4:
        dilation = 2
    if op != "Conv" and any(k < s for k, s in zip(kernel, stride, strict=True)) and auto != "VALID":
        return  # negative pads: a transposed convolution stays as it is, and onnxruntime refuses pools
    attributes = f"kernel_shape=[{kernel[0]},{kernel[1]}], strides=[{stride[0]},{stride[1]}], auto_pad='{auto}'"
    attributes += f", dilations=[{dilation},{dilation}]" if dilation > 1 else ""
    weights = {"w": normal(2, 2, *kernel)} if op.startswith("Conv") else {}
    body = f"y = {op}<{attributes}>(x{', w' if weights else ''})"
    x = normal(1, 2, *size)
    hub = check(build(body, f"float[1,2,{size[0]},{size[1]}] x", **weights), x)
    (node,) = hub.graph
    values = python(node)
    assert "auto_pad" not in values
    assert {"kernel_shape", "strides", "dilations", "pads"} <= set(values)
    if op.startswith("Conv"):
        assert values["group"] == 1


def test_output_shape_of_a_transposed_conv_is_written_out() -> None:
    body = "y = ConvTranspose<strides=[3,2], output_shape=[8,6]>(x, w)"
    hub = check(build(body, "float[1,2,3,3] x", w=normal(2, 2, 3, 3)), normal(1, 2, 3, 3))
    assert "output_shape" not in python(hub.graph.node(0))


CLIPS: dict[str, tuple[str, list[str], tuple[float, float] | None]] = {
    "relu6": ("a = Relu(x) y = Clip(a, , six)", ["Clip"], (0, 6)),
    "relu6 by min": ("a = Relu(x) y = Min(a, six)", ["Clip"], (0, 6)),
    "max with 0": ("y = Max(zero, x)", ["Relu"], None),
    "clip at 0": ("y = Clip(x, zero)", ["Relu"], None),
    "crossed": ("a = Clip(x, minus, zero) y = Clip(a, six)", ["Clip"], (6, 6)),
    "hardtanh": ("a = Max(x, minus) y = Min(six, a)", ["Clip"], (-1, 6)),
    "two relus": ("a = Relu(x) y = Relu(a)", ["Relu"], None),
}


@pytest.mark.parametrize("case", CLIPS)
def test_bounds_are_merged(case: str) -> None:
    body, expected, bounds = CLIPS[case]
    constants = {name: np.float32(v) for name, v in {"six": 6, "zero": 0, "minus": -1}.items()}
    hub = check(build(body, **constants), IMAGE * 5)
    assert ops(hub) == expected
    if bounds is not None:
        assert tuple(float(value.const_value.numpy()) for value in hub.graph.node(0).inputs[1:]) == bounds


def test_bounds_that_others_read_are_kept() -> None:
    hub = check(build("a = Relu(x) y = Clip(a, , six) z = Exp(a)", outputs="y z", six=np.float32(6)), IMAGE)
    assert sorted(ops(hub)) == ["Clip", "Exp", "Relu"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.permutations(range(4)), min_size=1, max_size=4))
def test_chains_of_transposes_are_one_or_none(permutations: list[list[int]]) -> None:
    names = ["x", *(f"t{i}" for i in range(len(permutations) - 1)), "y"]
    body = " ".join(f"{names[i + 1]} = Transpose<perm={list(p)}>({names[i]})" for i, p in enumerate(permutations))
    hub = check(build(body, "float[2,3,4,5] x"), normal(2, 3, 4, 5))
    whole = np.arange(4)
    for permutation in permutations:
        whole = whole[list(permutation)]
    assert ops(hub) == (["Identity"] if list(whole) == [0, 1, 2, 3] else ["Transpose"])


def test_reshapes_are_merged_with_a_symbolic_batch() -> None:
    body = "t = Transpose<perm=[0,2,3,1]>(x) s = Squeeze(t, a) u = Unsqueeze(s, last) f = Flatten(u) y = Relu(f)"
    model = build(body, "float[N,6,1,1] x", a=np.array([1, 2]), last=np.array([-1]))
    hub = check(model, normal(3, 6, 1, 1))
    assert ops(hub) == ["Reshape", "Relu"]
    assert hub.graph.node(0).inputs[1].const_value.numpy().tolist() == [-1, 6]


def test_flatten_by_shape_arithmetic_is_constant() -> None:
    body = "s = Shape(x) n = Gather(s, i) u = Unsqueeze(n, z) t = Concat<axis=0>(u, m) y = Reshape(x, t)"
    model = build(body, i=np.array(0), z=np.array([0]), m=np.array([-1]))
    hub = check(model, IMAGE)
    assert ops(hub) == ["Reshape"]
    assert [d if isinstance(d, int) else d.value for d in hub.graph.outputs[0].shape] == ["N", 192]


NOTHING: dict[str, str] = {
    "dropout": "y = Dropout(x)",
    "cast": "y = Cast<to=1>(x)",
    "pad": "y = Pad(x, zeros)",
    "slice": "y = Slice(x, zero, end, one)",
    "concat": "y = Concat<axis=0>(x)",
    "sum": "y = Sum(x)",
    "expand": "y = Expand(x, ones)",
    "identity": "a = Identity(x) y = Identity(a)",
    "add": "y = Add(x, nothing)",
    "sub": "y = Sub(x, nothing)",
    "mul": "y = Mul(x, unit)",
    "div": "y = Div(x, unit)",
}


@pytest.mark.parametrize("case", NOTHING)
def test_operators_that_do_nothing_go(case: str) -> None:
    constants = {
        "zeros": np.zeros(8, np.int64),
        "zero": np.array([0]),
        "end": np.array([100]),
        "one": np.array([1]),
        "ones": np.ones(4, int),
        "nothing": np.zeros((3, 1, 1), np.float32),
        "unit": np.float32(1),
    }
    body = NOTHING[case].replace("y =", "n =") + " y = Relu(n)"
    assert ops(check(build(body, **constants), IMAGE)) == ["Relu"]
    # Between an input and an output something has to stand.
    assert ops(check(build(NOTHING[case], **constants), IMAGE)) == ["Identity"]


def test_a_neutral_operand_that_broadcasts_stays() -> None:
    assert "Add" in ops(check(build("y = Add(x, wide)", wide=np.zeros((2, 1, 3, 8, 8), np.float32)), IMAGE))


def test_equal_outputs_keep_both_names() -> None:
    hub = check(build("a = Relu(x) y = Identity(a) z = Identity(a) w = Relu(x)", outputs="y z w"), IMAGE)
    assert [value.name for value in hub.graph.outputs] == ["y", "z", "w"]
    assert ops(hub).count("Relu") == 1


def test_constant_output_stays_an_output() -> None:
    hub = check(build("y = Add(c, c) z = Relu(x)", outputs="y z", c=normal(3)), IMAGE)
    assert [value.name for value in hub.graph.outputs] == ["y", "z"]


def test_a_range_whose_bounds_have_an_axis_is_folded() -> None:
    """AffineGrid's body has such ones; onnx's inference says nothing of their length."""
    model = build("y = AffineGrid(x, size)", "float[2,2,3] x", size=np.array([2, 3, 5, 6], np.int64))
    assert "Range" not in ops(check(model, normal(2, 2, 3)))


def test_constants_are_folded_but_stored_weights_are_not() -> None:
    stored = {"q": RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "s": np.float32(0.1), "z": np.int8(0)}
    body = "d = DequantizeLinear(q, s, z) e = Cast<to=1>(h) f = Sqrt(v) w = Add(d, e) a = Conv(x, w) y = Mul(a, f)"
    half = {"h": normal(4, 3, 3, 3).astype(np.float16), "v": np.abs(normal(1, 4, 1, 1))}
    hub = check(build(body, **stored, **half), IMAGE)
    assert sorted(ops(hub)) == ["Add", "Cast", "Conv", "DequantizeLinear", "Mul"]


def test_a_large_value_is_not_made_of_a_small_one() -> None:
    hub = check(
        build("e = Expand(c, s) y = Add(x, e)", "float[1,512,512] x", c=normal(1), s=np.array([512, 512])),
        normal(1, 512, 512),
    )
    assert "Expand" in ops(hub)


@pytest.mark.parametrize("axis", [0, 1])
def test_transposes_move_into_stored_weights(axis: int) -> None:
    weights = {
        "q": RNG.integers(-127, 128, (4, 5)).astype(np.int8),
        "s": np.abs(normal((4, 5)[axis])) + 0.1,
        "z": np.zeros((4, 5)[axis], np.int8),
    }
    body = f"w = DequantizeLinear<axis={axis}>(q, s, z) y = Gemm(x, w)"
    hub = check(build(body, "float[2,4] x", **weights), normal(2, 4))
    assert ops(hub) == ["DequantizeLinear", "Gemm"]
    assert python(hub.graph.node(0))["axis"] == 1 - axis
    assert python(hub.graph.node(1)) == {"transB": 1}


def test_channel_axis_of_size_one_moves_as_a_transpose() -> None:
    hub = check(build("y = Reshape(x, s)", "float[N,5,6,1] x", s=np.array([-1, 1, 5, 6])), normal(2, 5, 6, 1))
    assert ops(hub) == ["Transpose"]


EXPANDED: dict[str, str] = {
    "CastLike": "y = CastLike(x, h)",
    "MeanVarianceNormalization": "y = MeanVarianceNormalization<axes=[0,2,3]>(x)",
    "CenterCropPad": "y = CenterCropPad<axes=[2,3]>(x, s)",
}


@pytest.mark.parametrize("op", EXPANDED)
def test_functions_are_expanded(op: str) -> None:
    model = build(EXPANDED[op], "float[2,3,8,8] x", h=np.zeros(1, np.float32), s=np.array([6, 9]))
    assert op not in ops(check(model, IMAGE))


@pytest.mark.parametrize("rewrite", ORDER, ids=lambda rewrite: rewrite.__name__)
def test_each_pass_shows_itself_and_rests_on_a_legal_graph(rewrite: Callable[[ir.Model], bool]) -> None:
    assert rewrite.__doc__
    body = "a = Conv(x, w, c) r = Relu(a) p = MaxPool<kernel_shape=[2,2]>(r) f = Flatten(p) y = Gemm<transB=1>(f, d)"
    hub = to_hub(ir.from_proto(build(body, w=normal(4, 3, 3, 3), c=normal(4), d=normal(2, 36))))
    assert rewrite(hub) is False


def test_binding_the_batch_makes_every_shape_static() -> None:
    body = "a = Conv(x, w) s = Shape(a) b = Slice(s, zero, two) c = Concat<axis=0>(b, m) y = Reshape(a, c)"
    weights = {"w": normal(4, 3, 3, 3), "zero": np.array([0]), "two": np.array([2]), "m": np.array([-1])}
    model = build(body, "float[N,3,H,8] x", **weights)
    hub = to_hub(ir.from_proto(model))
    bound = bind_batch(hub, 2, {"H": 8})
    assert ops(bound) == ["Conv", "Reshape"]
    assert all(value.shape.is_static() for node in bound.graph for value in node.outputs)
    assert not hub.graph.inputs[0].shape.is_static(), "the hub graph itself is not changed"
    expected = Evaluator(ir.from_proto(model)).run({"x": IMAGE})["y"]
    np.testing.assert_array_equal(Evaluator(bound).run({"x": IMAGE})["y"], expected)
    with pytest.raises(ValueError, match="no symbolic dimension 'width'"):
        bind_batch(hub, 1, {"width": 3})
    with pytest.raises(ValueError, match="at least 1"):
        bind_batch(hub, 0)


def test_evaluator_gives_any_value() -> None:
    hub = to_hub(ir.from_proto(build("a = Conv(x, w) b = Relu(a) y = Exp(b)", w=normal(40, 3, 8, 8))))
    run = Evaluator(hub, ["b", "a", "y"]).run({"x": IMAGE})
    assert list(run) == ["b", "a", "y"]
    np.testing.assert_array_equal(run["b"], np.maximum(run["a"], 0))
    np.testing.assert_allclose(run["y"], np.exp(run["b"]), rtol=1e-6)
    with pytest.raises(KeyError, match="nowhere"):
        Evaluator(hub, ["nowhere"])


def test_evaluator_feeds_the_weights_of_a_large_model() -> None:
    """What a session is fed it does not copy; constants of a subgraph stay with it."""
    hub = to_hub(ir.from_proto(build("a = Conv(x, w) y = Relu(a)", w=normal(512, 3, 8, 8))))
    fed = Evaluator(hub, ["a", "y"], large_bytes=0)
    assert fed.inputs == ("x",)
    assert list(fed._fed) == ["w"]
    assert not Evaluator(hub)._fed
    np.testing.assert_array_equal(fed.run({"x": IMAGE})["y"], Evaluator(hub).run({"x": IMAGE})["y"])
