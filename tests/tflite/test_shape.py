"""Shapes, orders of axes, joins and cuts against onnxruntime, in every element type that data comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator

DTYPES = ["float32", "int64", "int32", "uint8", "int8", "bool"]


def data(dtype: str, *shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 100 % (2 if dtype == "bool" else 100)).astype(dtype)


NODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Reshape": (make_node("Reshape", ["x", "s"], ["y"]), {"s": np.array([4, -1])}),
    "Squeeze": (make_node("Squeeze", ["x", "s"], ["y"]), {"s": np.array([2])}),
    "Unsqueeze": (make_node("Unsqueeze", ["x", "s"], ["y"]), {"s": np.array([0, -1])}),
    "Flatten": (make_node("Flatten", ["x"], ["y"], axis=2), {}),
    "Transpose": (make_node("Transpose", ["x"], ["y"], perm=[3, 1, 0, 2]), {}),
    "Transpose reversed": (make_node("Transpose", ["x"], ["y"]), {}),
    "Expand": (make_node("Expand", ["x", "s"], ["y"]), {"s": np.array([2, 1, 1, 5, 1])}),
    "Tile": (make_node("Tile", ["x", "s"], ["y"]), {"s": np.array([1, 2, 3, 1])}),
    "Concat": (make_node("Concat", ["x", "x"], ["y"], axis=-1), {}),
    "Slice": (
        make_node("Slice", ["x", "b", "e", "a"], ["y"]),
        {"b": np.array([1, -3]), "e": np.array([9, 9]), "a": np.array([1, -1])},
    ),
    "Slice with steps": (
        make_node("Slice", ["x", "b", "e", "a", "s"], ["y"]),
        {"b": np.array([0, 0]), "e": np.array([9, 9]), "a": np.array([1, 3]), "s": np.array([2, 2])},
    ),
    "Slice backwards": (
        make_node("Slice", ["x", "b", "e", "a", "s"], ["y"]),
        {"b": np.array([-1, 3]), "e": np.array([-99, 0]), "a": np.array([1, 3]), "s": np.array([-1, -2])},
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NODES)
def test_move(name: str, dtype: str, bench: Any) -> None:
    node, constants = NODES[name]
    bench.agree([node], {"x": data(dtype, 2, 3, 1, 4)}, constants=constants)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[2, 2, 2], [1, 3, 2]], ids=str)
def test_split(sizes: list[int], dtype: str, bench: Any) -> None:
    node = make_node("Split", ["x", "s"], ["a", "b", "c"], axis=1)
    bench.agree([node], {"x": data(dtype, 2, 6, 3)}, ["a", "b", "c"], {"s": np.array(sizes)})


def test_transpose_of_many_axes(bench: Any) -> None:
    node = make_node("Transpose", ["x"], ["y"], perm=[0, 3, 4, 1, 2, 5, 7, 6])
    bench.agree([node], {"x": data("float32", 2, 3, 2, 2, 3, 1, 2, 2)})


@pytest.mark.parametrize("k", [-1, 0, 2])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper: int, k: int, bench: Any) -> None:
    bench.agree(
        [make_node("Trilu", ["x", "k"], ["y"], upper=upper)],
        {"x": data("float32", 2, 4, 5)},
        constants={"k": np.array(k)},
    )


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str, bench: Any) -> None:
    bench.agree([make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": data("float32", 2, 12, 3, 4)})


def test_space_to_depth(bench: Any) -> None:
    bench.agree([make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": data("float32", 2, 3, 4, 6)})


PADS: dict[str, tuple[list[int], dict[str, Any]]] = {
    "constant": ([0, 1, 0, 2, 1, 0, 0, 3], {}),
    "constant value": ([0, 1, 0, 2, 1, 0, 0, 3], {"value": 3.5}),
    "negative": ([0, -1, 1, 0, 0, 0, 1, -2], {}),
    "reflect": ([0, 0, 2, 1, 0, 0, 1, 3], {"mode": "reflect"}),
    "edge": ([0, 0, 2, 1, 1, 0, 1, 3], {"mode": "edge"}),
    "wrap": ([0, 1, 2, 0, 0, 0, 1, 3], {"mode": "wrap"}),
}


@pytest.mark.parametrize("name", PADS)
def test_pad(name: str, bench: Any, random: Random) -> None:
    pads, given = PADS[name]
    constants: dict[str, Any] = {"p": np.array(pads)}
    if "value" in given:
        constants["v"] = np.float32(given["value"])
    node = make_node("Pad", ["x", *constants], ["y"], mode=given.get("mode", "constant"))
    bench.agree([node], {"x": random.standard_normal((1, 3, 4, 5)).astype(np.float32)}, constants=constants)


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_pad_of_integers(dtype: str, bench: Any) -> None:
    constants = {"p": np.array([1, 0, 0, 2]), "v": np.array(1, dtype)}
    bench.agree([make_node("Pad", ["x", "p", "v"], ["y"])], {"x": data(dtype, 3, 4)}, constants=constants)


def test_an_input_may_be_an_output(bench: Any) -> None:
    nodes = [make_node("Identity", ["x"], ["y"]), make_node("Neg", ["x"], ["z"])]
    bench.agree(nodes, {"x": data("float32", 2, 3)}, ["y", "z"])
