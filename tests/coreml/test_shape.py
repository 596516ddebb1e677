"""Ops that only move elements, against onnxruntime: exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.helper import make_node

X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
TYPES = (np.float32, np.int32, np.bool_)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("op", "constants", "attributes"),
    [
        ("Reshape", {"c": ints(0, -1, 10)}, {}),
        ("Reshape", {"c": ints(-1)}, {}),
        ("Flatten", {}, {"axis": 2}),
        ("Unsqueeze", {"c": ints(1)}, {}),
        ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
        ("Transpose", {}, {}),
        ("Expand", {"c": ints(2, 1, 3, 4, 5)}, {}),
        ("Tile", {"c": ints(1, 2, 1, 3)}, {}),
    ],
)
def test_one_input(bench, dtype, op, constants, attributes) -> None:
    x = (X % 7 > 2) if dtype is np.bool_ else X.astype(dtype)
    bench.agree([make_node(op, ["x", *constants], ["y"], **attributes)], {"x": x}, constants=constants, tolerance=0)


def test_squeeze(bench) -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 1, 3)
    bench.agree([make_node("Squeeze", ["x", "c"], ["y"])], {"x": x}, constants={"c": ints(0, -2)}, tolerance=0)
    bench.agree([make_node("Squeeze", ["x"], ["y"])], {"x": x}, tolerance=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_concat_and_split(bench, dtype) -> None:
    x = (X % 7 > 2) if dtype is np.bool_ else X.astype(dtype)
    nodes = [make_node("Split", ["x", "c"], ["a", "b"], axis=2), make_node("Concat", ["b", "a", "k"], ["y"], axis=2)]
    constants = {"c": ints(1, 3), "k": np.ones((2, 3, 1, 5), dtype)}
    bench.agree(nodes, {"x": x}, ["y", "b"], constants, tolerance=0)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(bench, ops_of, mode) -> None:
    x = np.arange(8 * 6, dtype=np.float32).reshape(1, 8, 2, 3)
    written = bench.agree([make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": x}, tolerance=0)
    assert ops_of(written.path) == ["depth_to_space" if mode == "DCR" else "pixel_shuffle"]


def test_space_to_depth(bench) -> None:
    bench.agree([make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": X[..., :4]}, tolerance=0)


@st.composite
def slices(draw: st.DrawFn) -> dict[str, np.ndarray]:
    axes = draw(st.lists(st.sampled_from([0, 1, 2, -1]), min_size=1, unique_by=lambda axis: axis % 4))
    bounds = st.integers(-7, 7) | st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1])
    starts, ends = ([draw(bounds) for _ in axes] for _ in range(2))
    steps = [draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not len(range(*slice(start, end, step).indices(X.shape[axis]))):
            starts[axes.index(axis)], ends[axes.index(axis)] = (0, 99) if step > 0 else (99, -99)
    return {"starts": ints(*starts), "ends": ints(*ends), "axes": ints(*axes), "steps": ints(*steps)}


@given(slices())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slice_takes_what_onnxruntime_takes(bench, constants) -> None:
    bench.agree([make_node("Slice", ["x", *constants], ["y"])], {"x": X}, constants=constants, tolerance=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-5, -2, -1, 0, 1, 2, 6])
def test_triangle(bench, dtype, upper, k) -> None:
    x = np.ones((3, 4), dtype) if dtype is np.bool_ else X[0, :, :, 0].astype(dtype)
    nodes = [make_node("Trilu", ["x", "k"], ["y"], upper=upper)]
    bench.agree(nodes, {"x": x}, constants={"k": np.array(k, np.int64)}, tolerance=0)


def test_a_triangle_leaves_no_trace_of_infinities(bench) -> None:
    x = np.array([[np.inf, 1], [np.nan, 2]], np.float32)
    for k in (0, 1):
        bench.agree([make_node("Trilu", ["x", "k"], ["y"])], {"x": x}, constants={"k": np.array(k)}, tolerance=0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 0, 1, 2, 0, 0, 2, 1), (1, 0, 2, 0, 0, 2, 0, 3), (0, 0, -1, 2, 0, 0, 1, -2)])
def test_pad(bench, dtype, mode, pads) -> None:
    x = (X % 7 > 2) if dtype is np.bool_ else X.astype(dtype)
    if mode == "constant":
        constants = {"pads": ints(*pads), "value": np.array(True if dtype is np.bool_ else 7, dtype)}
    else:
        constants = {"pads": ints(*pads)}
    # onnxruntime has no such kernel for booleans, and onnx's own implementation no negative pads: they are cut before.
    reference = dtype is np.bool_ and mode != "constant"
    if reference:
        constants["pads"] = np.maximum(constants["pads"], 0)
    node = make_node("Pad", ["x", *constants], ["y"], mode=mode)
    bench.agree([node], {"x": x}, constants=constants, tolerance=0, reference=reference)


def test_pad_of_named_axes(bench) -> None:
    constants = {"pads": ints(1, 2, 0, 3), "value": np.array(0.5, np.float32), "axes": ints(-1, 1)}
    bench.agree([make_node("Pad", ["x", *constants], ["y"])], {"x": X}, constants=constants, tolerance=0)


@pytest.mark.parametrize("perm", [(0, 1, 3, 2, 4, 5), (5, 3, 1, 4, 2, 0)])
def test_more_than_five_axes_between_reshapes(bench, perm: tuple[int, ...]) -> None:
    nodes = [
        make_node("Reshape", ["x", "c"], ["wide"]),
        make_node("Transpose", ["wide"], ["t"], perm=perm),
        make_node("Reshape", ["t", "d"], ["y"]),
    ]
    x = np.arange(720, dtype=np.float32).reshape(8, 90)
    bench.agree(nodes, {"x": x}, constants={"c": ints(2, 4, 3, 5, 3, 2), "d": ints(2, 360)}, tolerance=0)


def test_arithmetic_on_more_than_five_axes_is_refused(bench, build) -> None:
    nodes = [
        make_node("Reshape", ["x", "c"], ["wide"]),
        make_node("Relu", ["wide"], ["t"]),
        make_node("Reshape", ["t", "d"], ["y"]),
    ]
    model = build(nodes, {"x": X}, ["y"], {"c": ints(1, 2, 3, 2, 2, 5), "d": ints(2, 60)})
    assert "6 axes" in bench.blockers(model)[0]
