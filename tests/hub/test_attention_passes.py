"""What exporters leave around an attention is brought to its products, and computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.hub.load import to_hub

RNG = np.random.default_rng(0)

CLOSE = 1e-5
"""A sum of at most 64 products of normal numbers, in another order and scaled by one rounded factor instead of two."""


def hub_of(body: str, inputs: dict[str, np.ndarray], **constants: np.ndarray) -> ir.Model:
    """The hub graph of an ONNX text, after it was found legal and equal in value to the text."""
    given = ", ".join(f"float[{','.join(map(str, x.shape))}] {name}" for name, x in inputs.items())
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({given}) => (float y) {{ {body} }}'.replace("'", '"')
    model = parser.parse_model(text)
    model.graph.output[0].ClearField("type")
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    source = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    hub = to_hub(source)
    onnx.checker.check_model(ir.to_proto(hub), full_check=True)
    expected, found = Evaluator(source).run(inputs)["y"], Evaluator(hub).run(inputs)["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=CLOSE, atol=CLOSE * np.abs(expected).max())
    return hub


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def perms(hub: ir.Model) -> list[list[int]]:
    return [list(node.attributes["perm"].as_ints()) for node in hub.graph if node.op_type == "Transpose"]


def ops(hub: ir.Model) -> list[str]:
    return [node.op_type for node in hub.graph]


@pytest.mark.parametrize("batch", [1, 3])
def test_keys_are_transposed_once(batch: int) -> None:
    """Of two Transposes with Reshapes between and around them one remains, and no Reshape but the first."""
    body = """a = Reshape(x, s1) b = Transpose<perm=[0, 2, 1, 3]>(a) c = Reshape(b, s2) d = Transpose<perm=[0, 2, 1]>(c)
              e = Reshape(d, s3) y = MatMul(q, e)"""
    hub = hub_of(
        body, {"x": normal(batch, 7, 20), "q": normal(batch, 4, 7, 5)}, s1=np.array([batch, 7, 4, 5]),
        s2=np.array([4 * batch, 7, 5]), s3=np.array([batch, 4, 5, 7]),
    )  # fmt: skip
    assert perms(hub) == [[0, 2, 3, 1]]
    assert ops(hub).count("Reshape") == 1


def test_a_reshape_that_merges_axes_stays_behind_its_transpose() -> None:
    hub = hub_of(
        "a = Transpose<perm=[0, 2, 1, 3]>(x) y = Reshape(a, s)", {"x": normal(2, 4, 7, 5)}, s=np.array([2, 7, 20])
    )
    assert ops(hub) == ["Transpose", "Reshape"]


def test_a_joint_projection_is_unpacked_without_a_transpose() -> None:
    body = """a = Unsqueeze(x, zero) b = Transpose<perm=[3, 1, 2, 0, 4]>(a) c = Squeeze(b, three)
              q = Gather<axis=0>(c, i) k = Gather<axis=0>(c, j) y = Sub(q, k)"""
    hub = hub_of(
        body, {"x": normal(12, 1, 3, 8)}, zero=np.array([0]), three=np.array([3]), i=np.array(0), j=np.array(2)
    )
    assert perms(hub) == []
    assert ops(hub).count("Gather") == 2


def test_a_joint_projection_of_several_heads_is_transposed_as_one() -> None:
    """Unpacked first, each part would have to be transposed."""
    body = "a = Transpose<perm=[1, 2, 0, 3]>(x) q = Gather<axis=0>(a, i) k = Gather<axis=0>(a, j) y = Sub(q, k)"
    hub = hub_of(body, {"x": normal(12, 3, 4, 8)}, i=np.array(0), j=np.array(1))
    assert perms(hub) == [[1, 2, 0, 3]]


def test_factors_of_queries_and_keys_become_one() -> None:
    scale = np.array([0.5], np.float32)
    hub = hub_of("a = Mul(x, s) b = Mul(t, z) y = MatMul(a, b)", {"x": normal(2, 3, 4), "z": normal(2, 4, 3)},
                 s=scale, t=np.float32(0.25))  # fmt: skip
    assert ops(hub) == ["Mul", "MatMul"]
    (factor,) = (value.const_value for value in hub.graph.initializers.values() if value.uses())
    assert factor is not None
    assert factor.numpy().reshape(-1).tolist() == [0.125]


def test_factors_whose_product_underflows_stay() -> None:
    tiny = np.array([1e-30], np.float32)
    x = {"x": normal(2, 3, 4) * np.float32(1e25), "z": normal(2, 4, 3) * np.float32(1e25)}
    assert ops(hub_of("a = Mul(x, s) b = Mul(z, s) y = MatMul(a, b)", x, s=tiny)).count("Mul") == 2


@pytest.mark.parametrize(
    ("equation", "shapes", "turned"),
    [
        ("bhid,bhjd->bhij", ((2, 3, 4, 5), (2, 3, 6, 5)), 1),
        ("bhij,bhjd->bhid", ((2, 3, 4, 5), (2, 3, 5, 6)), 0),
        ("bihd,bjhd->bhij", ((2, 4, 3, 5), (2, 6, 3, 5)), 2),
        ("ik,jk->ji", ((4, 5), (6, 5)), 2),
    ],
)
def test_an_einsum_of_matrices_is_a_product(equation: str, shapes: tuple[tuple[int, ...], ...], turned: int) -> None:
    inputs = {name: normal(*shape) for name, shape in zip("xz", shapes, strict=True)}
    hub = hub_of(f"y = Einsum<equation='{equation}'>(x, z)", inputs)
    assert sorted(set(ops(hub)) - {"Transpose"}) in (["MatMul"], ["Gemm"])
    assert len(perms(hub)) <= turned


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bi", ((2, 3, 4), (2, 4, 5))),  # a label of one operand is summed
        ("bij,bjk->bik", ((1, 3, 4), (2, 4, 5))),  # the stack is broadcast
        ("bi,bi->b", ((2, 3), (2, 3))),
        ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
    ],
)
def test_another_einsum_stays(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    inputs = {name: normal(*shape) for name, shape in zip("xz", shapes, strict=True)}
    assert ops(hub_of(f"y = Einsum<equation='{equation}'>(x, z)", inputs)) == ["Einsum"]
