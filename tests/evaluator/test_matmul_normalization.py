"""Products, normalisations and reductions against onnxruntime's operators of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

RNG = np.random.default_rng(17)
# Sums of at most 60 products of values of about 1, in two orders: 60 * 2 ** -24 * a few.
TOLERANCE = 2e-5


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def onnx_result(op: str, feeds: dict[str, np.ndarray], constants: list[np.ndarray], **attributes: Any) -> np.ndarray:
    """Run one ONNX operator on the feeds, then the constants."""
    names = [f"c{n}" for n in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(op, [*feeds, *names], ["result"], **attributes)],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["result"], feeds)[0]
    return result


X = {"x": normal(2, 4, 3, 5)}
SCALE, SHIFT, MEAN = normal(4), normal(4), normal(4)
VARIANCE = np.abs(normal(4)) + np.float32(0.5)
ROW, COLUMN = normal(5), normal(5)
WEIGHT, BIAS = normal(7, 5), normal(7)
FLAT = {"x": normal(6, 5)}
PAIR = {"x": normal(2, 1, 3, 5), "y": normal(4, 5, 6)}
AXES = np.array([1, 3], np.int64)
LAST = np.array([1], np.int64)

Body = Callable[..., Any]


@pytest.mark.parametrize(
    ("body", "feeds", "op", "constants", "attributes"),
    [
        (lambda mb, x: mb.linear(x=x, weight=WEIGHT, bias=BIAS), FLAT, "Gemm", [WEIGHT, BIAS], {"transB": 1}),
        (lambda mb, x, y: mb.matmul(x=x, y=y), PAIR, "MatMul", [], {}),
        (lambda mb, x: mb.matmul(x=x, y=WEIGHT, transpose_y=True), X, "MatMul", [WEIGHT.T.copy()], {}),
        (
            lambda mb, x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
            X,
            "Einsum",
            [X["x"].transpose(0, 3, 2, 1).copy()],
            {"equation": "nchw,nwhu->nchu"},
        ),
        (
            lambda mb, x: mb.batch_norm(x=x, mean=MEAN, variance=VARIANCE, gamma=SCALE, beta=SHIFT, epsilon=1e-3),
            X,
            "BatchNormalization",
            [SCALE, SHIFT, MEAN, VARIANCE],
            {"epsilon": 1e-3},
        ),
        (
            lambda mb, x: mb.instance_norm(x=x, gamma=SCALE, beta=SHIFT, epsilon=1e-3),
            X,
            "InstanceNormalization",
            [SCALE, SHIFT],
            {"epsilon": 1e-3},
        ),
        (
            lambda mb, x: mb.layer_norm(x=x, axes=[-1], gamma=ROW, beta=COLUMN, epsilon=1e-3),
            X,
            "LayerNormalization",
            [ROW, COLUMN],
            {"axis": -1, "epsilon": 1e-3},
        ),
        (
            lambda mb, x: mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.6, k=1.5),
            X,
            "LRN",
            [],
            {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5},
        ),
        (lambda mb, x: mb.softmax(x=x, axis=1), X, "Softmax", [], {"axis": 1}),
        (lambda mb, x: mb.reduce_mean(x=x, axes=[1, 3], keep_dims=True), X, "ReduceMean", [AXES], {}),
        (lambda mb, x: mb.reduce_l1_norm(x=x, axes=[1, 3]), X, "ReduceL1", [AXES], {"keepdims": 0}),
        (lambda mb, x: mb.reduce_l2_norm(x=x, axes=[1, 3]), X, "ReduceL2", [AXES], {"keepdims": 0}),
        (lambda mb, x: mb.reduce_log_sum_exp(x=x, axes=[1, 3]), X, "ReduceLogSumExp", [AXES], {"keepdims": 0}),
        (lambda mb, x: mb.reduce_sum_square(x=x, axes=[1]), X, "ReduceSumSquare", [LAST], {"keepdims": 0}),
        (lambda mb, x: mb.reduce_prod(x=x, axes=[1]), X, "ReduceProd", [LAST], {"keepdims": 0}),
        (lambda mb, x: mb.cumsum(x=x, axis=1, exclusive=True, reverse=True), X, "CumSum",
         [np.array(1, np.int64)], {"exclusive": 1, "reverse": 1}),
    ],
)  # fmt: skip
def test_like_onnxruntime(
    evaluate: Any,
    body: Body,
    feeds: dict[str, np.ndarray],
    op: str,
    constants: list[np.ndarray],
    attributes: dict[str, Any],
) -> None:
    (found,) = evaluate(body, feeds)
    np.testing.assert_allclose(found, onnx_result(op, feeds, constants, **attributes), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("masked", [False, True])
def test_attention(evaluate: Any, masked: bool) -> None:
    feeds = {"q": normal(2, 3, 4, 8), "k": normal(2, 3, 6, 8), "v": normal(2, 3, 6, 5)}
    mask = np.tril(np.ones((4, 6), bool)) if masked else None

    def body(mb: Any, q: Any, k: Any, v: Any) -> Any:
        given = {} if mask is None else {"attn_mask": mask}
        return mb.scaled_dot_product_attention(query=q, key=k, value=v, **given)

    (found,) = evaluate(body, feeds, "iOS18")
    wide = {name: value.astype(np.float64) for name, value in feeds.items()}
    weights = np.exp(np.einsum("bhqe,bhke->bhqk", wide["q"], wide["k"]) / np.sqrt(8))
    if mask is not None:
        weights = weights * mask
    wanted = np.einsum("bhqk,bhkv->bhqv", weights / weights.sum(-1, keepdims=True), wide["v"])
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE)


@pytest.mark.parametrize(("given", "constant"), [(np.int32, np.float32), (np.float32, np.int32)])
def test_a_product_has_the_dtype_of_what_is_not_constant(evaluate: Any, given: Any, constant: Any) -> None:
    x, y = RNG.integers(-9, 9, (2, 5)).astype(given), RNG.integers(-9, 9, (5, 3)).astype(constant)
    (found,) = evaluate(lambda mb, x: mb.matmul(x=x, y=y), {"x": x})
    assert found.dtype == given
    np.testing.assert_array_equal(found, x.astype(np.int64) @ y.astype(np.int64))
