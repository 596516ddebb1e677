"""Matrix products against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,))],
)
@pytest.mark.parametrize("constant", [True, False])
def test_matmul(bench, left, right, constant) -> None:
    weights = {"w": normal(*right)}
    inputs = {"x": normal(*left)} | ({} if constant else weights)
    bench.agree([make_node("MatMul", ["x", "w"], ["y"])], inputs, constants=weights if constant else {})


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (3, 5), (3, 1), ()])
@pytest.mark.parametrize(
    "attributes", [{"transB": 1}, {}, {"alpha": 0.5, "beta": 2.0}, {"transA": 1}, {"transB": 1, "beta": 0.5}]
)
def test_gemm(bench, ops_of, bias, attributes) -> None:
    x = normal(*((4, 3) if attributes.get("transA") else (3, 4)))
    constants = {"w": normal(*((5, 4) if attributes.get("transB") else (4, 5)))}
    if bias is not None:
        constants["c"] = normal(*bias)
    written = bench.agree([make_node("Gemm", ["x", *constants], ["y"], **attributes)], {"x": x}, constants=constants)
    dense = not {"transA", "alpha"} & set(attributes) and bias in (None, (5,), (1, 5), ())
    assert (ops_of(written.path) == ["linear"]) == dense


def test_gemm_of_three_inputs(bench) -> None:
    inputs = {"x": normal(3, 4), "w": normal(4, 5), "c": normal(5)}
    bench.agree([make_node("Gemm", ["x", "w", "c"], ["y"], alpha=0.3, beta=0.7)], inputs)
