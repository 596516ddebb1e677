"""Pools against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError

Random = np.random.Generator

WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "overlapping": {"kernel_shape": [3, 3], "strides": [2, 2]},
    "same": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "symmetric strided": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    "uneven pads": {"kernel_shape": [3, 2], "pads": [2, 0, 1, 1], "strides": [1, 2]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil and pads": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [0, 1, 0, 1]},
    "dilated": {"kernel_shape": [2, 3], "dilations": [2, 2]},
    "auto_pad": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "auto_pad lower": {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    "one axis": {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    "three axes": {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 1, 0, 0, 1, 1]},
}


@pytest.mark.parametrize("given", WINDOWS.values(), ids=list(WINDOWS))
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool with pads", "LpPool"])
def test_pool(op: str, given: dict[str, Any], bench: Any, random: Random) -> None:
    given = dict(given)
    if op == "AveragePool with pads":
        op, given["count_include_pad"] = "AveragePool", 1
    size = (2, 3, 8, 9, 7)[: len(given["kernel_shape"]) + 2]
    # Far below zero, so that a padding of zeros would win every maximum.
    x = (random.standard_normal(size) - 10).astype(np.float32)
    bench.agree([make_node(op, ["x"], ["y"], **given)], {"x": x})


@pytest.mark.parametrize("given", WINDOWS.values(), ids=list(WINDOWS))
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_maxima_of_integers(dtype: str, given: dict[str, Any], bench: Any, random: Random) -> None:
    size = (1, 3, 8, 9, 7)[: len(given["kernel_shape"]) + 2]
    x = random.integers(-128, -100, size).astype(dtype)  # int8: below any padding but the lowest
    bench.agree([make_node("MaxPool", ["x"], ["y"], **given)], {"x": x})


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pool(op: str, rank: int, bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 3, 5, 4, 6)[:rank]).astype(np.float32)
    bench.agree([make_node(op, ["x"], ["y"])], {"x": x})


def test_indices_of_maxima_are_refused(bench: Any, graph_of: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 4, 4)).astype(np.float32)
    model = graph_of([make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], {"x": x}, ["y", "i"])
    with pytest.raises(UnsupportedError, match="indices"):
        bench.write(model)
