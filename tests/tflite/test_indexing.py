"""Gathers, scatters and one-hot against onnxruntime: negative indices, constant and computed ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator

CONSTANT = pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])


def agree(bench: Any, node: Any, x: np.ndarray, more: dict[str, np.ndarray], constant: bool) -> None:
    if constant:
        bench.agree([node], {"x": x}, constants=more)
    else:
        bench.agree([node], {"x": x, **more})


@CONSTANT
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(axis: int, dtype: str, constant: bool, bench: Any, random: Random) -> None:
    x = random.integers(0, 2 if dtype == "bool" else 90, (3, 4, 5)).astype(dtype)
    more = {"i": np.array([[0, -1], [2, -3]], np.int64)}
    agree(bench, make_node("Gather", ["x", "i"], ["y"], axis=axis), x, more, constant)


@CONSTANT
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_elements(axis: int, constant: bool, bench: Any, random: Random) -> None:
    x = random.standard_normal((3, 4, 5)).astype(np.float32)
    more = {"i": random.integers(-3, 3, (2, 3, 4))}
    agree(bench, make_node("GatherElements", ["x", "i"], ["y"], axis=axis), x, more, constant)


@CONSTANT
@pytest.mark.parametrize(("depth", "batch"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)])
def test_gather_nd(depth: int, batch: int, constant: bool, bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 3, 4)).astype(np.float32)
    more = {"i": random.integers(-2, 2, (2, 5, depth))}
    agree(bench, make_node("GatherND", ["x", "i"], ["y"], batch_dims=batch), x, more, constant)


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
def test_scatter_nd(constant: bool, reduction: str, bench: Any, random: Random) -> None:
    x = random.standard_normal((4, 3)).astype(np.float32)
    indices = np.array([[1], [-1]] if reduction == "none" else [[1], [1]])
    u = random.standard_normal((2, 3)).astype(np.float32)
    node = make_node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)
    if constant:
        bench.agree([node], {"x": x, "u": u}, constants={"i": indices})
    else:
        bench.agree([node], {"x": x, "u": u, "i": indices})


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
def test_scatter_elements(constant: bool, axis: int, bench: Any, random: Random) -> None:
    x, u = (random.standard_normal(s).astype(np.float32) for s in ((4, 3), (2, 2)))
    indices = np.array([[1, 2], [0, -1]])
    node = make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis)
    if constant:
        bench.agree([node], {"x": x, "u": u}, constants={"i": indices})
    else:
        bench.agree([node], {"x": x, "u": u, "i": indices})


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int, bench: Any) -> None:
    indices = np.array([[0, 2], [-1, 7]])  # 7 is outside: nothing is hot
    constants = {"d": np.array(4), "v": np.array([0.5, 2.0], np.float32)}
    bench.agree([make_node("OneHot", ["x", "d", "v"], ["y"], axis=axis)], {"x": indices}, constants=constants)
