"""Reductions, arg-reductions, running sums and TopK against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator

REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [-1], [0, 2], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reduction(op: str, axes: list[int] | None, keepdims: int, bench: Any, random: Random) -> None:
    x = (random.random((2, 3, 4, 5)) + 0.5).astype(np.float32)
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    bench.agree([make_node(f"Reduce{op}", ["x", *constants], ["y"], keepdims=keepdims)], {"x": x}, constants=constants)


def test_log_sum_exp_does_not_overflow(bench: Any) -> None:
    x = np.array([[1000.0, 999.0], [-1000.0, -999.0]], np.float32)
    bench.agree([make_node("ReduceLogSumExp", ["x", "a"], ["y"])], {"x": x}, constants={"a": np.array([1])})


def test_no_axes_may_mean_nothing(bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 3)).astype(np.float32)
    nodes = [make_node("ReduceSum", ["x"], ["s"], noop_with_empty_axes=1), make_node("Neg", ["s"], ["y"])]
    bench.agree(nodes, {"x": x})


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_reductions(op: str, dtype: str, bench: Any, random: Random) -> None:
    x = random.integers(-5, 6, (3, 4)).astype(dtype)
    bench.agree([make_node(op, ["x", "a"], ["y"])], {"x": x}, constants={"a": np.array([1])})


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg_reduction(op: str, axis: int, keepdims: int, last: int, bench: Any, random: Random) -> None:
    x = random.integers(0, 4, (4, 5, 6)).astype(np.float32)  # many ties
    node = make_node(op, ["x"], ["y"], axis=axis, keepdims=keepdims, select_last_index=last)
    bench.agree([node], {"x": x})


@pytest.mark.parametrize("given", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}], ids=str)
def test_cumulative_sum(given: dict[str, int], bench: Any, random: Random) -> None:
    x = random.standard_normal((3, 5)).astype(np.float32)
    bench.agree([make_node("CumSum", ["x", "a"], ["y"], **given)], {"x": x}, constants={"a": np.array(1)})


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_top_k(axis: int, largest: int, dtype: str, bench: Any, random: Random) -> None:
    x = random.permutation(24).reshape(4, 6).astype(dtype)
    nodes = [make_node("TopK", ["x", "k"], ["y", "i"], axis=axis, largest=largest)]
    bench.agree(nodes, {"x": x}, ["y", "i"], constants={"k": np.array([3])})


def test_top_k_takes_the_first_of_equals(bench: Any) -> None:
    x = np.array([[2, 5, 5, 1, 5]], np.float32)
    bench.agree([make_node("TopK", ["x", "k"], ["y", "i"])], {"x": x}, ["y", "i"], constants={"k": np.array([2])})
