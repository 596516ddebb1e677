"""Comparisons, logic, selection and casts against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node

RNG = np.random.default_rng(2)
X, Z = RNG.integers(-2, 3, (2, 3, 4)).astype(np.float32), RNG.integers(-2, 3, (3, 1)).astype(np.float32)
FLAGS, MORE = X > 0, Z[..., 0] > 0


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparison(bench, op) -> None:
    bench.agree([make_node(op, ["x", "z"], ["y"])], {"x": X, "z": Z}, tolerance=0)


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic_on_boolean_inputs(bench, op) -> None:
    written = bench.agree([make_node(op, ["x", "z"], ["y"])], {"x": FLAGS, "z": MORE[:, None]}, tolerance=0)
    assert any("'x' is int32" in note for note in written.notes)


def test_not(bench) -> None:
    bench.agree([make_node("Not", ["x"], ["y"])], {"x": FLAGS}, tolerance=0)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (3, 1)])
def test_where_broadcasts_all_three(bench, shape) -> None:
    """MIL's `select` infers its shape from the two choices alone: the condition here is larger than both."""
    inputs = {"c": FLAGS, "x": RNG.normal(size=shape).astype(np.float32), "z": np.ones((1,), np.float32)}
    bench.agree([make_node("Where", ["c", "x", "z"], ["y"])], inputs, tolerance=0)


def test_where_keeps_infinity_out(bench) -> None:
    inputs = {"c": np.array([True, False]), "x": np.array([1, np.inf], np.float32), "z": np.zeros(2, np.float32)}
    bench.agree([make_node("Where", ["c", "x", "z"], ["y"])], inputs, tolerance=0)


SPECIAL = np.array([-np.inf, -1.0, 0.0, np.nan, 2.0, np.inf], np.float32)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("IsNaN", {}),
        ("IsInf", {}),
        ("IsInf", {"detect_negative": 0}),
        ("IsInf", {"detect_positive": 0}),
        ("IsInf", {"detect_positive": 0, "detect_negative": 0}),
    ],
)
@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_special_numbers(bench, op, attributes, recipe) -> None:
    bench.agree([make_node(op, ["x"], ["y"], **attributes)], {"x": SPECIAL}, recipe=recipe, tolerance=0)


@pytest.mark.parametrize("to", [TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8])
def test_cast_from_float_truncates(bench, to) -> None:
    x = np.array([0.0, 0.9, 1.5, 200.7], np.float32)
    bench.agree([make_node("Cast", ["x"], ["y"], to=to)], {"x": x}, tolerance=0)


@pytest.mark.parametrize("to", [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16, TensorProto.UINT16])
def test_cast_to_a_narrower_integer_keeps_the_low_bits(bench, to) -> None:
    x = np.array([-70000, -129, -1, 0, 127, 128, 255, 256, 70000], np.int32)
    bench.agree([make_node("Cast", ["x"], ["y"], to=to)], {"x": x}, tolerance=0)


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.INT32])
def test_cast_from_bool(bench, to) -> None:
    bench.agree([make_node("Cast", ["x"], ["y"], to=to)], {"x": FLAGS}, tolerance=0)


def test_cast_to_float16_rounds(bench) -> None:
    nodes = [make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), make_node("Cast", ["h"], ["y"], to=1)]
    bench.agree(nodes, {"x": np.array([1.0001, 2049.0], np.float32)}, tolerance=0)
