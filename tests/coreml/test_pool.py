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


DILATED = {
    "1d": ((2, 3, 11), {"kernel_shape": [3], "dilations": [2], "strides": [2], "pads": [1, 2]}),
    "2d": ((1, 2, 9, 8), {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 0, 2, 1]}),
    "ceil": ((1, 2, 9, 9), {"kernel_shape": [2, 2], "dilations": [3, 2], "strides": [2, 3], "ceil_mode": 1}),
    "3d": ((1, 1, 6, 7, 6), {"kernel_shape": [2, 2, 2], "dilations": [1, 2, 3]}),
}


@pytest.mark.parametrize("case", DILATED)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_dilated(bench, op, case) -> None:
    shape, attributes = DILATED[case]
    x = -np.abs(RNG.normal(size=shape)).astype(np.float32) - 1
    bench.agree([make_node(op, ["x"], ["y"], **attributes)], {"x": x})


@pytest.mark.parametrize("include", [0, 1])
def test_dilated_averages_count_padding(bench, include) -> None:
    x = RNG.normal(size=(1, 2, 7, 7)).astype(np.float32)
    attributes = {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 2, 1, 2], "count_include_pad": include}
    bench.agree([make_node("AveragePool", ["x"], ["y"], **attributes)], {"x": x})


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("case", ["padded", "ceil", "3d"])
def test_indices(bench, case, storage_order) -> None:
    """Few different numbers: of equal ones the first in the window counts."""
    shape, attributes = WINDOWS[case]
    x = RNG.integers(-3, 3, shape).astype(np.float32)
    node = make_node("MaxPool", ["x"], ["y", "places"], storage_order=storage_order, **attributes)
    bench.agree([node], {"x": x}, ["y", "places"], tolerance=0)
