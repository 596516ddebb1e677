"""Gathers, scatters, one-hot vectors and ordering against onnxruntime: exactly, negative indices included."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(8)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
KINDS = pytest.mark.parametrize("constant", [True, False])


def ints(values: object) -> np.ndarray:
    return np.array(values, np.int64)


def run(bench, op, x, indices, constant, more=None, **attributes):
    more = more or {}
    inputs = {"x": x} | ({} if constant else {"i": indices}) | more
    node = make_node(op, ["x", "i", *more], ["y"], **attributes)
    return bench.agree([node], inputs, constants={"i": indices} if constant else {}, tolerance=0)


@KINDS
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [[2, -1, 0], [[0, -3], [1, 1]], [1]])
def test_gather(bench, constant, axis, indices) -> None:
    run(bench, "Gather", X, ints(indices), constant, axis=axis)


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.uint8])
def test_gather_of_other_types(bench, dtype) -> None:
    run(bench, "Gather", (X > 0).astype(dtype), ints([2, 0]), True)


def test_gather_of_one_entry_drops_the_axis(bench, ops_of) -> None:
    written = run(bench, "Gather", X, ints(-1), True, axis=1)
    assert ops_of(written.path) == ["slice_by_index", "reshape"]


@KINDS
@pytest.mark.parametrize("axis", [0, 2])
def test_gather_elements(bench, constant, axis) -> None:
    run(bench, "GatherElements", X, RNG.integers(-3, 3, (3, 4, 5)), constant, axis=axis)
    run(bench, "GatherElements", X, RNG.integers(-3, 3, (2, 3, 4)), constant, axis=axis)


@KINDS
def test_gather_nd(bench, constant) -> None:
    run(bench, "GatherND", X, ints([[0, 1], [-1, -2]]), constant)
    run(bench, "GatherND", X, ints([[[0], [1]], [[-1], [2]], [[3], [1]]]), constant, batch_dims=1)


@KINDS
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd(bench, constant, reduction) -> None:
    updates = RNG.normal(size=(2, 5)).astype(np.float32)
    run(bench, "ScatterND", X, ints([[0, 1], [-1, -2]]), constant, {"u": updates}, reduction=reduction)


@KINDS
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements(bench, constant, reduction) -> None:
    updates = RNG.normal(size=(3, 2, 5)).astype(np.float32)
    indices = ints([1, -1]).reshape(1, 2, 1) * np.ones((3, 1, 5), np.int64)
    run(bench, "ScatterElements", X, indices, constant, {"u": updates}, axis=1, reduction=reduction)


def test_scattering_a_part_along_other_axes_is_refused(bench, build) -> None:
    constants = {"i": np.zeros((2, 2, 5), np.int64)}
    node = make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1)
    model = build([node], {"x": X, "u": np.zeros((2, 2, 5), np.float32)}, ["y"], constants)
    assert "ScatterND" in bench.blockers(model)[0]


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("values", [np.array([0, 1], np.float32), np.array([2, -3], np.int64)])
def test_one_hot(bench, axis, values) -> None:
    """Indices out of [-depth, depth) give no hit at all."""
    indices = np.array([[0, 3, -1], [9, -4, -9]], np.int64)
    constants = {"depth": np.array(4, np.int64), "values": values}
    node = make_node("OneHot", ["x", "depth", "values"], ["y"], axis=axis)
    bench.agree([node], {"x": indices}, constants=constants, tolerance=0)


def test_one_hot_of_booleans(bench) -> None:
    constants = {"depth": np.array(3, np.int64), "values": np.array([True, False])}
    wanted = {"y": np.array([[True, True, False], [True, True, True]])}
    node = make_node("OneHot", ["x", "depth", "values"], ["y"])
    bench.agree([node], {"x": np.array([2, 5], np.int64)}, constants=constants, tolerance=0, wanted=wanted)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_top_k(bench, largest, axis) -> None:
    node = make_node("TopK", ["x", "k"], ["y", "i"], largest=largest, axis=axis)
    bench.agree([node], {"x": X}, ["y", "i"], {"k": ints([2])}, tolerance=0)
