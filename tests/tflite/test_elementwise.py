"""Arithmetic, comparison, logic and selection against onnxruntime: broadcasting, many axes, integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node

Random = np.random.Generator

SHAPES = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 1, 4), (3, 1)),
    ((), (3, 2)),
    ((2, 3, 1, 5, 1, 2), (1, 3, 4, 1, 2, 1)),  # more axes than kernels broadcast
    ((2, 1, 2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2, 1)),  # none of which can be merged
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(
    "op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Greater", "LessOrEqual", "Mod"]
)
def test_binary(op: str, shapes: tuple[tuple[int, ...], ...], bench: Any, random: Random) -> None:
    inputs = {n: random.integers(1, 6, s).astype(np.float32) for n, s in zip("ab", shapes, strict=True)}
    given = {"fmod": 1} if op == "Mod" else {}
    bench.agree([make_node(op, ["a", "b"], ["y"], **given)], inputs)


WIDE = [(op, dtype) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Less") for dtype in ("int32", "int64")]
NARROW = [("Mod", "int8"), ("Mod", "uint8"), ("Mod", "int16"), ("Max", "int8"), ("Max", "uint8")]
"""Those that onnxruntime has a kernel for; the backend node tests compare the others."""


@pytest.mark.parametrize(("op", "dtype"), WIDE + NARROW)
def test_integers(op: str, dtype: str, bench: Any, random: Random) -> None:
    inputs = {n: random.integers(1, 12, (3, 4)).astype(dtype) for n in "ab"}
    if not dtype.startswith("u") and op != "Div":
        inputs["a"] = inputs["a"] - np.array(6, dtype)
    bench.agree([make_node(op, ["a", "b"], ["y"])], inputs)


@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_of_every_sign(fmod: int, signs: tuple[int, int], bench: Any, random: Random) -> None:
    inputs = {n: random.integers(1, 20, 32).astype(np.int32) * s for n, s in zip("ab", signs, strict=True)}
    bench.agree([make_node("Mod", ["a", "b"], ["y"], fmod=fmod)], inputs)


UNARY = {
    "Abs": (-5, 5), "Acos": (-1, 1), "Acosh": (1, 9), "Asin": (-1, 1), "Asinh": (-9, 9), "Atan": (-9, 9),
    "Atanh": (-0.99, 0.99), "Ceil": (-5, 5), "Cos": (-9, 9), "Cosh": (-5, 5), "Exp": (-9, 9), "Floor": (-5, 5),
    "Log": (0.01, 9), "Neg": (-5, 5), "Reciprocal": (0.1, 9), "Round": (-5, 5), "Sign": (-5, 5), "Sin": (-9, 9),
    "Sinh": (-5, 5), "Sqrt": (0, 9), "Tan": (-1.5, 1.5), "IsNaN": (-5, 5), "IsInf": (-5, 5),
}  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str, bench: Any) -> None:
    x = np.linspace(*UNARY[op], 201).astype(np.float32)
    if op in ("IsNaN", "IsInf"):
        x[[3, 5, 7]] = np.nan, np.inf, -np.inf
    if op == "Round":
        x = np.concatenate([x, np.arange(-5, 5, 0.5, np.float32)])  # halves go to even
    bench.agree([make_node(op, ["x"], ["y"])], {"x": x})


@pytest.mark.parametrize("exponent", [2.0, 0.5, -0.5, 1.0, 3.0, -1.0])
def test_constant_powers(exponent: float, bench: Any) -> None:
    x = np.linspace(0.1, 4, 50).astype(np.float32)
    bench.agree([make_node("Pow", ["x", "e"], ["y"])], {"x": x}, constants={"e": np.float32(exponent)})


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_variadic(op: str, bench: Any, random: Random) -> None:
    inputs = {n: random.standard_normal((2, 3)).astype(np.float32) for n in "abc"}
    bench.agree([make_node(op, ["a", "b", "c"], ["y"])], inputs)


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(op: str, bench: Any) -> None:
    inputs = {"a": np.array([[True], [False]]), "b": np.array([True, False])}
    bench.agree([make_node(op, ["a", "b"], ["c"]), make_node("Not", ["c"], ["y"])], inputs)


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8"])
def test_where(dtype: str, bench: Any, random: Random) -> None:
    inputs = {
        "c": random.integers(0, 2, (3, 1)).astype(bool),
        "a": random.integers(0, 9, (3, 4)).astype(dtype),
        "b": random.integers(0, 9, (4,)).astype(dtype),
    }
    bench.agree([make_node("Where", ["c", "a", "b"], ["y"])], inputs)


CASTS = ["FLOAT", "DOUBLE", "FLOAT16", "INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "BOOL"]


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", ["float32", "float64", "int64", "int32", "int8", "uint8", "bool"])
def test_cast(source: str, target: str, bench: Any) -> None:
    x = np.array([0, 1, 2, 3, 100]).astype(source)
    bench.agree([make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, target))], {"x": x})


def test_float64_is_computed_in_float32_and_said_so(bench: Any, random: Random) -> None:
    inputs = {n: random.standard_normal(5) for n in "ab"}
    written = bench.agree([make_node("Mul", ["a", "b"], ["y"])], inputs)
    assert any("float32" in note and "float64" in note for note in written.notes)
