"""Products of integers, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

GENERATOR = np.random.default_rng(0)


def byte(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    limits = np.iinfo(dtype)
    return GENERATOR.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def test_matmul_integer(bench) -> None:
    constants = {"w": byte((300, 5), "int8"), "xz": np.uint8(113), "wz": np.array([1, -3, 0, 7, 2], np.int8)}
    node = make_node("MatMulInteger", ["x", "w", "xz", "wz"], ["y"])
    bench.agree([node], {"x": byte((4, 300))}, constants=constants, tolerance=0)


def test_conv_integer(bench) -> None:
    constants = {"w": byte((4, 3, 3, 3), "uint8"), "xz": np.uint8(9), "wz": np.uint8(130)}
    node = make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], pads=[1, 0, 1, 2], strides=[2, 1])
    bench.agree([node], {"x": byte((2, 3, 7, 6))}, constants=constants, tolerance=0)


def test_a_sum_that_floats_do_not_hold_exactly_is_refused(bench, build) -> None:
    model = build(
        [make_node("ConvInteger", ["x", "w"], ["y"])],
        {"x": byte((1, 300, 4, 4))},
        ["y"],
        {"w": byte((2, 300, 1, 1), "int8")},
    )
    assert "256 products" in bench.blockers(model)[0]


@pytest.mark.parametrize("kind", ["QLinearMatMul", "QLinearConv"])
def test_requantized(bench, kind: str) -> None:
    """At most one step apart: onnxruntime's kernels multiply by the ratio of scales in another order."""
    x, w = (byte((3, 40)), byte((40, 6))) if kind == "QLinearMatMul" else (byte((1, 2, 6, 6)), byte((3, 2, 3, 3)))
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "w": w,
        "ws": np.float32(0.011),
        "wz": np.uint8(131),
        "ys": np.float32(0.09),
        "yz": np.uint8(125),
    }
    node = make_node(kind, ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])
    bench.agree([node], {"x": x}, constants=constants, tolerance=1 / 255)
