"""Activations and normalisations that exporters spell out get their names, with the same values; near misses do not."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from haversack.convert.hub.attributes import python
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub

RNG = np.random.default_rng(0)
NUMBERS = {
    "zero": 0, "half": 0.5, "one": 1, "minus": -1, "two": 2, "three": 3, "six": 6, "sixth": 1 / 6, "rounded": 0.1666667,
    "root": math.sqrt(2), "reciprocal": math.sqrt(0.5), "cubic": 0.044715, "k": math.sqrt(2 / math.pi),
    "kc": math.sqrt(2 / math.pi) * 0.044715, "epsilon": 1e-3, "coarse": 0.1667, "near": 0.7071, "near_cubic": 0.0447,
    "root_exponent": 0.5, "inverse_root": -0.5, "five": 5,
}  # fmt: skip
"""Scalars by name, rounded to float32 as exporters do."""


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def rewritten(
    body: str, shape: tuple[int, ...] = (2, 3, 4, 8), outputs: str = "y", dtype: str = "float", **constants: np.ndarray
) -> ir.Model:
    """The hub graph of `body` over `x`, after onnxruntime found the same values in it and in the source."""
    element = {"float": np.float32, "float16": np.float16}[dtype]
    declared = ", ".join(f"{dtype} {name}" for name in outputs.split())
    sizes = ",".join(map(str, ("N", *shape[1:])))
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({dtype}[{sizes}] x) => ({declared}) {{ {body} }}'
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.ClearField("type")
    scalars = {name: np.array(number, element) for name, number in NUMBERS.items()}
    for name, array in {**scalars, **constants}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    source = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    hub = to_hub(source)
    onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    x = (3 * RNG.normal(size=shape)).astype(element)
    before, after = Evaluator(source).run({"x": x}), Evaluator(hub).run({"x": x})
    assert list(before) == list(after)
    # A dozen roundings in another order, relative to values of about 10.
    tolerance = 24 * np.finfo(element).eps
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=tolerance, atol=tolerance)
    return hub


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


HARD_SWISH = {
    "product over six": "a = Add(x, three) g = Clip(a, zero, six) p = Mul(x, g) y = Div(p, six)",
    "gate times a sixth": "a = Add(three, x) g = Clip(a, zero, six) h = Mul(g, sixth) y = Mul(h, x)",
    "input times a rounded sixth": "a = Add(x, three) g = Clip(a, zero, six) h = Mul(x, rounded) y = Mul(h, g)",
    "max and min": "a = Add(x, three) m = Max(a, zero) g = Min(m, six) h = Div(g, six) y = Mul(x, h)",
    "hard sigmoid": "g = HardSigmoid<alpha=0.16666667>(x) y = Mul(g, x)",
    "hard sigmoid by hand": "s = Div(x, six) a = Add(s, half) g = Clip(a, zero, one) y = Mul(x, g)",
}


@pytest.mark.parametrize("body", HARD_SWISH.values(), ids=list(HARD_SWISH))
def test_hard_swish(body: str) -> None:
    hub = rewritten(body)
    assert ops(hub) == ["HardSwish"]
    assert hub.graph.outputs[0].name == "y"


def test_hard_swish_of_a_sum() -> None:
    """The input may itself be arithmetic."""
    body = "u = Add(x, x) a = Add(u, three) g = Clip(a, zero, six) p = Mul(u, g) y = Div(p, six)"
    assert ops(rewritten(body)) == ["Add", "HardSwish"]


def test_hard_swish_in_float16() -> None:
    """Its constants are rounded to float16: 1/6 is 2.4e-4 off."""
    body = "a = Add(x, three) g = Clip(a, zero, six) h = Mul(g, sixth) y = Mul(x, h)"
    assert ops(rewritten(body, dtype="float16")) == ["HardSwish"]


GATE = "a = Add(x, three) g = Clip(a, zero, six)"
NO_HARD_SWISH = {
    "a sixth with four digits": f"{GATE} p = Mul(x, g) y = Mul(p, coarse)",
    "another offset": "a = Add(x, two) g = Clip(a, zero, six) p = Mul(x, g) y = Div(p, six)",
    "another bound": "a = Add(x, three) g = Clip(a, zero, five) p = Mul(x, g) y = Div(p, six)",
    "a lower bound": "a = Add(x, three) g = Clip(a, one, six) p = Mul(x, g) y = Div(p, six)",
    "ONNX's own slope of 0.2": "g = HardSigmoid(x) y = Mul(x, g)",
    "a gate of another value": f"{GATE} n = Abs(x) p = Mul(n, g) y = Div(p, six)",
    "the square of the gate": f"{GATE} q = Mul(g, g) p = Mul(x, q) y = Div(p, six)",
    "more axes than the input": f"{GATE} p = Mul(x, g) y = Mul(p, wide)",
    "a factor a column": f"{GATE} p = Mul(x, g) y = Mul(p, columns)",
}


@pytest.mark.parametrize("body", NO_HARD_SWISH.values(), ids=list(NO_HARD_SWISH))
def test_what_is_no_hard_swish(body: str) -> None:
    wide, columns = np.full((1, 1, 1, 1, 1), 1 / 6, np.float32), np.linspace(0, 1, 8, dtype=np.float32)
    assert "HardSwish" not in ops(rewritten(body, wide=wide, columns=columns))


@pytest.mark.parametrize("shared", ["a", "g", "p"])
def test_a_value_that_is_read_elsewhere_keeps_a_hard_swish_spelled_out(shared: str) -> None:
    hub = rewritten(f"{GATE} p = Mul(x, g) y = Div(p, six) z = Abs({shared})", outputs="y z")
    assert "HardSwish" not in ops(hub)
    assert "HardSwish" not in ops(rewritten(f"{GATE} p = Mul(x, g) y = Div(p, six)", outputs=f"y {shared}"))


GELU = {
    "over the root of two": "a = Div(x, root) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)",
    "half of the input": "a = Mul(x, reciprocal) e = Erf(a) s = Add(one, e) h = Mul(half, x) y = Mul(h, s)",
    "half inside": "a = Mul(reciprocal, x) e = Erf(a) h = Mul(e, half) s = Add(h, half) y = Mul(s, x)",
    "half by two": "a = Div(x, root) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Div(p, two)",
    "erfc": "n = Neg(x) a = Mul(n, reciprocal) e = Erf(a) s = Sub(one, e) h = Mul(x, half) y = Mul(h, s)",
    "two products": "a = Div(x, root) e = Erf(a) h = Mul(x, half) p = Mul(h, e) y = Add(h, p)",
}
GELU_BY_TANH = {
    "power": "q = Pow(x, three) c = Mul(q, cubic) u = Add(x, c) a = Mul(u, k)",
    "products": "q = Mul(x, x) q3 = Mul(q, x) c = Mul(cubic, q3) u = Add(c, x) a = Mul(k, u)",
    "factored": "q = Mul(x, x) c = Mul(q, kc) u = Add(c, k) a = Mul(x, u)",
}


@pytest.mark.parametrize("body", GELU.values(), ids=list(GELU))
def test_gelu(body: str) -> None:
    (node,) = rewritten(body).graph
    assert (node.op_type, python(node).get("approximate", "none")) == ("Gelu", "none")


@pytest.mark.parametrize("body", GELU_BY_TANH.values(), ids=list(GELU_BY_TANH))
def test_gelu_by_tanh(body: str) -> None:
    (node,) = rewritten(f"{body} t = Tanh(a) s = Add(t, one) h = Mul(x, half) y = Mul(h, s)").graph
    assert (node.op_type, python(node)["approximate"]) == ("Gelu", "tanh")


NO_GELU = {
    "a root with four digits": "a = Mul(x, near) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)",
    "no half": "a = Mul(x, reciprocal) e = Erf(a) s = Add(e, one) y = Mul(x, s)",
    "no one": "a = Mul(x, reciprocal) e = Erf(a) p = Mul(x, e) y = Mul(p, half)",
    "erf of the negated input": (
        "n = Neg(x) a = Mul(n, reciprocal) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)"
    ),
    "erf of another value": "n = Abs(x) a = Div(n, root) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)",
    "another cubic term": (
        "q = Pow(x, three) c = Mul(q, near_cubic) u = Add(x, c) a = Mul(u, k) t = Tanh(a) s = Add(t, one)"
        " h = Mul(x, half) y = Mul(h, s)"
    ),
    "a square where a cube belongs": (
        "q = Pow(x, two) c = Mul(q, cubic) u = Add(x, c) a = Mul(u, k) t = Tanh(a) s = Add(t, one)"
        " h = Mul(x, half) y = Mul(h, s)"
    ),
    "a product read elsewhere": "a = Div(x, root) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half) z = Abs(e)",
    "more axes": "a = Mul(x, reciprocal) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, wide)",
}


@pytest.mark.parametrize("case", NO_GELU)
def test_what_is_no_gelu(case: str) -> None:
    outputs = "y z" if "elsewhere" in case else "y"
    assert "Gelu" not in ops(rewritten(NO_GELU[case], outputs=outputs, wide=np.full((1,) * 5, 0.5, np.float32)))


MOMENTS = "m = ReduceMean(x, axes) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, axes) e = Add(v, epsilon)"
LAYER_NORM = {
    "deviation": f"{MOMENTS} s = Sqrt(e) n = Div(d, s) f = Mul(n, g) y = Add(f, b)",
    "squares by Pow": (
        "m = ReduceMean(x, axes) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, axes) e = Add(epsilon, v)"
        " s = Pow(e, root_exponent) n = Div(d, s) f = Mul(g, n) y = Add(b, f)"
    ),
    "one factor for both": (
        f"{MOMENTS} s = Sqrt(e) r = Reciprocal(s) i = Mul(r, g) f = Mul(x, i) j = Mul(m, i) o = Sub(b, j) y = Add(f, o)"
    ),
    "negated mean": (
        f"{MOMENTS} s = Pow(e, inverse_root) i = Mul(s, g) f = Mul(x, i) w = Neg(m) j = Mul(w, i) p = Add(f, j)"
        " y = Add(p, b)"
    ),
}


@pytest.mark.parametrize("axes", [[3], [-1, -2], [1, 2, 3]], ids=str)
@pytest.mark.parametrize("body", LAYER_NORM.values(), ids=list(LAYER_NORM))
def test_layer_norm(body: str, axes: list[int]) -> None:
    shape = (4, 8)[-len(axes) :] if len(axes) < 3 else (3, 4, 8)
    (node,) = rewritten(body, axes=np.array(axes), g=normal(*shape), b=normal(*shape)).graph
    assert node.op_type == "LayerNormalization"
    assert python(node)["epsilon"] == pytest.approx(1e-3)
    assert python(node)["axis"] == 4 - len(axes)


def test_layer_norm_without_parameters() -> None:
    (node,) = rewritten(f"{MOMENTS} s = Sqrt(e) y = Div(d, s)", axes=np.array([3])).graph
    assert node.op_type == "LayerNormalization"
    np.testing.assert_array_equal(node.inputs[1].const_value.numpy(), np.ones(8))


def test_parameters_along_another_axis_stay_outside() -> None:
    hub = rewritten(LAYER_NORM["deviation"], axes=np.array([3]), g=normal(4, 1), b=normal(8))
    assert ops(hub) == ["LayerNormalization", "Mul", "Add"]


def test_layer_norm_over_channels_is_transposed() -> None:
    body = LAYER_NORM["deviation"]
    hub = rewritten(body, axes=np.array([1]), g=normal(3, 1, 1), b=normal(1, 3, 1, 1))
    assert ops(hub) == ["Transpose", "LayerNormalization", "Transpose"]


NO_LAYER_NORM = {
    "mean and variance over different axes": (
        "m = ReduceMean(x, axes) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, others) e = Add(v, epsilon) s = Sqrt(e)"
        " n = Div(d, s) y = Mul(n, two)"
    ),
    "a mean that is not taken off": f"{MOMENTS} s = Sqrt(e) n = Div(x, s) y = Mul(n, two)",
    "another factor on the mean": (f"{MOMENTS} s = Sqrt(e) n = Div(x, s) t = Mul(m, two) j = Div(t, s) y = Sub(n, j)"),
    "a cubed deviation": (
        "m = ReduceMean(x, axes) d = Sub(x, m) q = Pow(d, two) c = Mul(q, two) v = ReduceMean(c, axes)"
        " e = Add(v, epsilon) s = Sqrt(e) y = Div(d, s)"
    ),
    "a deviation read elsewhere": f"{MOMENTS} s = Sqrt(e) y = Div(d, s) z = Abs(s)",
    "a difference read elsewhere": f"{MOMENTS} s = Sqrt(e) y = Div(d, s) z = Abs(d)",
}


@pytest.mark.parametrize("case", NO_LAYER_NORM)
def test_what_is_no_layer_norm(case: str) -> None:
    outputs = "y z" if "elsewhere" in case else "y"
    constants = {"axes": np.array([3]), "others": np.array([2]), "g": normal(4, 1), "b": normal(8)}
    assert "LayerNormalization" not in ops(rewritten(NO_LAYER_NORM[case], outputs=outputs, **constants))


BATCH_NORM = "s = Mul({}, f) y = Add(s, o)"
CHANNELS_LAST = {"w": normal(6, 1, 3, 3), "f": normal(6), "o": normal(6)}


def test_factors_fold_through_a_transpose() -> None:
    """Exporters of channels-last frameworks leave one between a depthwise convolution and its normalisation."""
    body = "c = Conv<group=3>(x, w) t = Transpose<perm=[0,2,3,1]>(c) " + BATCH_NORM.format("t")
    hub = rewritten(body, **CHANNELS_LAST)
    assert ops(hub) == ["Conv", "Transpose"]
    assert len(hub.graph.node(0).inputs) == 3
    assert hub.graph.node(0).outputs[0].name != "c", "it is another value now"


def test_factors_fold_through_a_reshape_that_keeps_the_last_axis() -> None:
    body = "r = Reshape(x, rows) c = MatMul(r, w) u = Reshape(c, axes) " + BATCH_NORM.format("u")
    constants = {"w": normal(8, 6), "f": normal(6), "o": normal(1, 6)}
    hub = rewritten(body, rows=np.array([-1, 8]), axes=np.array([-1, 3, 4, 6]), **constants)
    assert ops(hub) == ["Reshape", "Gemm", "Reshape"]


KEPT = {
    "a convolution read elsewhere": "c = Conv<group=3>(x, w) t = Transpose<perm=[0,2,3,1]>(c) s = Mul(t, f) z = Abs(c)",
    "a Transpose read elsewhere": "c = Conv<group=3>(x, w) t = Transpose<perm=[0,2,3,1]>(c) s = Mul(t, f) z = Abs(t)",
    "factors along another axis": (
        "c = Conv<group=3>(x, w) t = Transpose<perm=[0,1,3,2]>(c) s = Mul(t, column) z = Abs(s)"
    ),
    "a Reshape that splits channels": "c = Conv<group=3>(x, w) t = Reshape(c, split) s = Mul(t, f) z = Abs(s)",
}


@pytest.mark.parametrize("body", KEPT.values(), ids=list(KEPT))
def test_factors_that_stay(body: str) -> None:
    hub = rewritten(body, outputs="s z", split=np.array([-1, 12, 6]), column=normal(2), **CHANNELS_LAST)
    assert "Mul" in ops(hub)
