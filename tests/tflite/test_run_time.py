"""Axes, bounds, pads and counts that are fed at run time, against onnxruntime; the result's shape is declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator


def declared(*shape: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {"y": np.zeros(shape, dtype)}


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axes", [[1], [-1, 0]])
@pytest.mark.parametrize(
    "op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp"]
)
def test_reduction(op: str, axes: list[int], bench: Any, random: Random) -> None:
    x = floats(random, 3, 4, 5)
    shape = [1 if n in [a % 3 for a in axes] else size for n, size in enumerate(x.shape)]
    nodes = [make_node(op, ["x", "a"], ["y"], keepdims=1)]
    bench.agree(nodes, {"x": x, "a": np.array(axes)}, declared=declared(*shape))


def test_reduction_of_nothing(bench: Any) -> None:
    x = np.zeros((2, 0, 3), np.float32)
    bench.agree([make_node("ReduceProd", ["x", "a"], ["y"])], {"x": x}, constants={"a": np.array([1])})


@pytest.mark.parametrize("axis", [1, -2])
def test_cumulative_sum(axis: int, bench: Any, random: Random) -> None:
    x = floats(random, 3, 4)
    bench.agree([make_node("CumSum", ["x", "a"], ["y"], reverse=1)], {"x": x, "a": np.array(axis)})


@pytest.mark.parametrize("k", [-1, 0, 2])
def test_triangle(k: int, bench: Any, random: Random) -> None:
    bench.agree([make_node("Trilu", ["x", "k"], ["y"], upper=0)], {"x": floats(random, 2, 4, 5), "k": np.array(k)})


@pytest.mark.parametrize(
    ("bounds", "shape"),
    [
        (([1], [3]), (2, 4, 5)),
        (([0, -3], [2**62, -1], [0, -1]), (3, 4, 2)),
        (([3, 4], [-(2**62), 0], [1, 2], [-1, -2]), (3, 4, 2)),
    ],
)
def test_slice(bounds: tuple[list[int], ...], shape: tuple[int, ...], bench: Any, random: Random) -> None:
    feeds = {f"b{n}": np.array(bound) for n, bound in enumerate(bounds)}
    nodes = [make_node("Slice", ["x", *feeds], ["y"])]
    bench.agree(nodes, {"x": floats(random, 3, 4, 5), **feeds}, declared=declared(*shape))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("axes", [None, [-1]])
def test_pad(axes: list[int] | None, mode: str, bench: Any, random: Random) -> None:
    pads = [1, 0, 0, 2] if axes is None else [1, 2]
    feeds = {"p": np.array(pads), **({} if axes is None else {"a": np.array(axes)})}
    names = ["x", "p", "", "a"] if axes is not None else ["x", "p"]
    shape = (5, 7) if axes is None else (4, 8)
    nodes = [make_node("Pad", names, ["y"], mode=mode)]
    bench.agree(nodes, {"x": floats(random, 4, 5), **feeds}, declared=declared(*shape))


def test_counts_follow_from_the_shape(bench: Any, random: Random) -> None:
    x = floats(random, 3, 6)
    bench.agree([make_node("Tile", ["x", "r"], ["y"])], {"x": x, "r": np.array([2, 3])}, declared=declared(6, 18))
    both = {"y": np.zeros((3, 2), np.float32), "i": np.zeros((3, 2), np.int64)}
    bench.agree([make_node("TopK", ["x", "k"], ["y", "i"])], {"x": x, "k": np.array([2])}, ["y", "i"], declared=both)
    feeds = {"x": np.array([1, -1]), "d": np.array(4), "v": np.array([0.5, 2], np.float32)}
    bench.agree([make_node("OneHot", ["x", "d", "v"], ["y"])], feeds, declared=declared(2, 4))


def test_shapes_of_operands_follow_from_a_declared_result(bench: Any) -> None:
    nodes = [
        make_node("Range", ["a", "b", "c"], ["r"]),
        make_node("Mul", ["r", "c"], ["m"]),
        make_node("Cos", ["m"], ["y"]),
    ]
    feeds = {name: np.array(value, np.float32) for name, value in (("a", 1), ("b", 5), ("c", 0.5))}
    bench.agree(nodes, feeds, declared=declared(8))


def test_selected_at_run_time(bench: Any, random: Random) -> None:
    x = floats(random, 4, 3)
    mask = np.array([True, False, True, True])
    bench.agree([make_node("Compress", ["x", "m"], ["y"], axis=0)], {"x": x, "m": mask}, declared=declared(3, 3))
    x = np.array([[0, 3, 0], [4, 0, 5]], np.float32)
    bench.agree([make_node("NonZero", ["x"], ["y"])], {"x": x}, declared=declared(2, 3, dtype="int64"))


@pytest.mark.parametrize("time_axis", [0, 1])
def test_reverse_sequence(time_axis: int, bench: Any, random: Random) -> None:
    node = make_node("ReverseSequence", ["x", "n"], ["y"], time_axis=time_axis, batch_axis=1 - time_axis)
    bench.agree([node], {"x": floats(random, 4, 4, 2), "n": np.array([1, 4, 2, 3])})
