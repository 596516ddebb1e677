"""Reductions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
OPS = ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("axes", "keepdims"),
    # Over all axes only with keepdims: a scalar is no output that Core ML can have.
    [(None, 1), ([1], 0), ([1], 1), ([0, -1], 0), ([0, -1], 1), ([1, 2, 3], 0), ([1, 2, 3], 1)],
)
def test_reduction(bench, op, axes, keepdims) -> None:
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    node = make_node("Reduce" + op, ["x", *constants], ["y"], keepdims=keepdims)
    bench.agree([node], {"x": X}, constants=constants)


def test_log_sum(bench) -> None:
    constants = {"axes": np.array([1], np.int64)}
    bench.agree([make_node("ReduceLogSum", ["x", "axes"], ["y"])], {"x": np.abs(X)}, constants=constants)


def test_log_sum_exp_of_large_numbers(bench) -> None:
    x = np.array([[1000.0, 1001.0], [-1000.0, -1002.0]], np.float32)
    constants = {"axes": np.array([1], np.int64)}
    bench.agree([make_node("ReduceLogSumExp", ["x", "axes"], ["y"])], {"x": x}, constants=constants)


@pytest.mark.parametrize("op", OPS)
def test_no_axes_may_mean_each_element(bench, op) -> None:
    nodes = [make_node("Reduce" + op, ["x"], ["r"], noop_with_empty_axes=1), make_node("Add", ["r", "x"], ["y"])]
    bench.agree(nodes, {"x": X}, reference=True)


@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Prod"])
def test_integers(bench, op) -> None:
    x, constants = RNG.integers(-9, 9, (3, 4)).astype(np.int32), {"axes": np.array([1], np.int64)}
    bench.agree([make_node("Reduce" + op, ["x", "axes"], ["y"])], {"x": x}, constants=constants, tolerance=0)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1}, {"axis": -1, "keepdims": 0}, {"select_last_index": 1}])
def test_arg(bench, op, attributes) -> None:
    """Small integers, so that there are ties for the first or the last to win."""
    x = RNG.integers(0, 3, (4, 5, 6)).astype(np.float32)
    bench.agree([make_node(op, ["x"], ["y"], **attributes)], {"x": x}, tolerance=0)


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
@pytest.mark.parametrize("axis", [0, -2])
def test_cumulative_sum(bench, attributes, axis) -> None:
    constants = {"axis": np.array(axis, np.int64)}
    bench.agree([make_node("CumSum", ["x", "axis"], ["y"], **attributes)], {"x": X}, constants=constants)
