"""Pooling against onnxruntime; `ceil_mode` and its uncounted padding above all."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(4)
WINDOWS = {
    "plain": ((1, 3, 8, 9), {"kernel_shape": [2, 3], "strides": [2, 2]}),
    "padded": ((1, 3, 8, 9), {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1]}),
    "ceil": ((1, 2, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}),
    "ceil and pads": ((1, 2, 9, 8), {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    "1d": ((2, 3, 11), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "3d": ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 2]}),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool(bench, ops_of, case) -> None:
    shape, attributes = WINDOWS[case]
    # Negative numbers: padding with zeros would win every maximum at the border.
    x = -np.abs(RNG.normal(size=shape)).astype(np.float32) - 1
    written = bench.agree([make_node("MaxPool", ["x"], ["y"], **attributes)], {"x": x})
    assert ops_of(written.path) == ["max_pool"]


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(bench, case, include) -> None:
    shape, attributes = WINDOWS[case]
    x = (RNG.normal(size=shape) + 3).astype(np.float32)
    bench.agree([make_node("AveragePool", ["x"], ["y"], count_include_pad=include, **attributes)], {"x": x})


@pytest.mark.parametrize("case", ["plain", "padded", "1d", "3d"])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(bench, case, p) -> None:
    shape, attributes = WINDOWS[case]
    bench.agree([make_node("LpPool", ["x"], ["y"], p=p, **attributes)], {"x": RNG.normal(size=shape).astype("f")})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 3, 5, 6), (1, 2, 3, 4, 5)])
def test_global(bench, op, shape) -> None:
    bench.agree([make_node(op, ["x"], ["y"])], {"x": RNG.normal(size=shape).astype(np.float32)})


def test_max_pool_of_bytes(bench) -> None:
    x = RNG.integers(0, 256, (1, 2, 6, 6)).astype(np.uint8)
    bench.agree([make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3])], {"x": x}, tolerance=0)


def test_a_window_that_starts_in_the_padding_is_refused(bench, build) -> None:
    """ONNX drops it, shape inference of older opsets counts it: the two disagree about the result's shape."""
    node = make_node("MaxPool", ["x"], ["y"], kernel_shape=[3], strides=[3], pads=[1, 1], ceil_mode=1)
    model = build([node], {"x": np.zeros((1, 1, 8), np.float32)}, ["y"])
    assert "starts in the padding" in bench.blockers(model)[0]


@pytest.mark.parametrize(
    ("op", "outputs", "attributes", "reason"),
    [
        ("MaxPool", ["y", "indices"], {}, "no indices"),
        ("MaxPool", ["y"], {"dilations": [2, 2]}, "dilated"),
        ("AveragePool", ["y"], {"dilations": [2, 2]}, "dilated"),
    ],
)
def test_refused(bench, build, op, outputs, attributes, reason) -> None:
    x = np.zeros((1, 1, 6, 6), np.float32)
    model = build([make_node(op, ["x"], outputs, kernel_shape=[2, 2], **attributes)], {"x": x}, outputs)
    assert reason in bench.blockers(model)[0]
