"""Rows that NonMaxSuppression selects: compared with their counterparts, and only where a contract allows changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.hub import OPSET
from haversack.convert.verify.contract import CONTRACTS
from haversack.convert.verify.selection import WINDOW, paired

ROWS = 217


@pytest.fixture(scope="module")
def model() -> ir.Model:
    """Places and doubled places of what is selected of 40 boxes, and an output that has nothing to do with it."""
    nodes = [
        helper.make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["k"]),
        helper.make_node("Mul", ["k", "two"], ["twice"]),
        helper.make_node("Relu", ["x"], ["other"]),
    ]
    sizes = {"x": [1, 40, 4], "s": [1, 3, 40], "other": [1, 40, 4]}
    x, s, other = (helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items())
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", 3]) for name in ("k", "twice")]
    values = {
        "m": np.array([9]),
        "o": np.array([0.5], np.float32),
        "t": np.array([0.1], np.float32),
        "two": np.array(2),
    }
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [x, s], [*ends, other], constants)
    return ir.from_proto(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)]))


@pytest.fixture
def source() -> dict[str, np.ndarray]:
    """Values as such a graph might give; floats, so that distances show."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return {"k": rows, "twice": np.arange(ROWS), "other": rng.normal(size=(4, 40, 4)).astype(np.float32)}


FP16 = CONTRACTS["fp16"]


def test_what_is_in_order_stays(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    near = {**source, "k": source["k"] + np.float32(1e-3)}
    rows = paired(model, source, near, FP16)
    assert rows.notes == ()
    assert rows.outputs["k"] is near["k"]


def test_neighbours_that_changed_places_are_brought_back(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    order = np.arange(ROWS)
    order[[10, 11, 50, 52]] = order[[11, 10, 52, 50]]
    rows = paired(model, source, {**source, "k": source["k"][order], "twice": source["twice"][order]}, FP16)
    np.testing.assert_array_equal(rows.outputs["k"], source["k"])
    np.testing.assert_array_equal(rows.outputs["twice"], source["twice"])
    assert (rows.alone, rows.failure) == (0, "")
    assert "217 in the source, 217 in the artifact, 0 without, 1 allowed" in rows.notes[0]


@pytest.mark.parametrize("side", ["source", "artifact"])
def test_one_row_in_a_thousand_may_be_selected_otherwise(
    side: str, model: ir.Model, source: dict[str, np.ndarray]
) -> None:
    fewer = {**source, "k": np.delete(source["k"], 99, 0), "twice": np.delete(source["twice"], 99, 0)}
    before, after = (fewer, source) if side == "source" else (source, fewer)
    rows = paired(model, before, after, FP16)
    assert (rows.alone, rows.failure) == (1, "")
    np.testing.assert_array_equal(rows.outputs["k"], rows.source["k"])
    assert len(rows.source["k"]) == ROWS - 1
    assert rows.outputs["other"] is after["other"], "which no selection gives"


def test_two_are_too_many(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    fewer = {**source, "k": np.delete(source["k"], [9, 99], 0), "twice": np.delete(source["twice"], [9, 99], 0)}
    rows = paired(model, source, fewer, FP16)
    assert (
        "2 of 217 of the rows that NonMaxSuppression selects (k, twice) have no counterpart, 1 allowed" in rows.failure
    )


def test_a_row_that_is_off_has_no_counterpart(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    off = source["k"].copy()
    off[[3, 4], 1] += 0.05 * np.abs(off).max()  # five times what fp16 may
    assert paired(model, source, {**source, "k": off}, FP16).alone == 2
    labels = source["twice"].copy()
    labels[[3, 4]] += 1000  # integers are equal or they are not
    assert paired(model, source, {**source, "twice": labels}, FP16).alone == 2


def test_counterparts_are_near(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    """A row of one image must not stand for a row of another."""
    order = np.roll(np.arange(ROWS), WINDOW + 1)
    moved = {**source, "k": source["k"][order], "twice": source["twice"][order]}
    assert paired(model, source, moved, FP16).failure


def test_float32_compares_place_by_place(model: ir.Model, source: dict[str, np.ndarray]) -> None:
    swapped = {**source, "k": source["k"][::-1]}
    rows = paired(model, source, swapped, CONTRACTS["fp32"])
    assert rows.outputs["k"] is swapped["k"]
    assert rows.notes == ()
