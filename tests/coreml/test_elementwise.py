"""Elementwise arithmetic against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
POSITIVE = (np.abs(X) + 0.1).astype(np.float32)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (3, 1), ()])
def test_binary_broadcasts(bench, op, shape) -> None:
    other = np.asarray(RNG.normal(size=shape) + 3, np.float32)
    bench.agree([make_node(op, ["x", "c"], ["y"])], {"x": X}, constants={"c": other})


def test_pow(bench) -> None:
    bench.agree([make_node("Pow", ["x", "z"], ["y"])], {"x": POSITIVE, "z": X})
    bench.agree([make_node("Pow", ["x", "c"], ["y"])], {"x": X}, constants={"c": np.array(2.0, np.float32)})
    bench.agree([make_node("Pow", ["x", "c"], ["y"])], {"x": X}, constants={"c": np.array(3, np.int64)})


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize("count", [1, 3])
def test_variadic(bench, op, count) -> None:
    inputs = {f"x{number}": RNG.normal(size=(2, 3)).astype(np.float32) for number in range(count)}
    bench.agree([make_node("Identity", ["x0"], ["i"]), make_node(op, ["i", *list(inputs)[1:]], ["y"])], inputs)


@pytest.mark.parametrize(
    "op",
    [
        "Abs",
        "Asinh",
        "Atan",
        "Ceil",
        "Cos",
        "Cosh",
        "Erf",
        "Exp",
        "Floor",
        "Neg",
        "Round",
        "Sign",
        "Sin",
        "Sinh",
        "Tan",
    ],
)
def test_unary(bench, op) -> None:
    bench.agree([make_node(op, ["x"], ["y"])], {"x": 2 * X})


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal", "Acosh"])
def test_unary_on_a_wide_range(bench, op) -> None:
    """MIL's own epsilons (1e-4 in `inverse`) would show in the small numbers: each is compared by itself."""
    x = np.geomspace(1e-6, 1e4, 11).astype(np.float32) + (1 if op == "Acosh" else 0)
    for number in x:
        bench.agree([make_node(op, ["x"], ["y"])], {"x": number.reshape(1)})


def test_log_of_zero_is_minus_infinity(bench) -> None:
    bench.agree([make_node("Log", ["x"], ["y"])], {"x": np.array([0.0, 1.0], np.float32)})


@pytest.mark.parametrize("op", ["Acos", "Asin", "Atanh"])
def test_inverse_functions(bench, op) -> None:
    bench.agree([make_node(op, ["x"], ["y"])], {"x": np.linspace(-0.99, 0.99, 23).astype(np.float32)})


def test_round_takes_halves_to_even(bench) -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    bench.agree([make_node("Round", ["x"], ["y"])], {"x": halves}, tolerance=0)


INTEGERS = np.array([-7, -6, -1, 0, 1, 6, 7], np.int32)


@pytest.mark.parametrize("divisor", [-4, -3, 3, 4])
@pytest.mark.parametrize(("op", "attributes"), [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})])
def test_integer_division_and_remainder(bench, op, attributes, divisor) -> None:
    constants = {"c": np.array(divisor, np.int32)}
    bench.agree([make_node(op, ["x", "c"], ["y"], **attributes)], {"x": INTEGERS}, constants=constants, tolerance=0)


def test_float_remainder(bench) -> None:
    x = np.array([-4.3, 7.2, 5.0, 4.3, -7.2, 8.0], np.float32)
    z = np.array([2.1, -3.4, 8.0, -2.1, 3.4, 5.0], np.float32)
    bench.agree([make_node("Mod", ["x", "z"], ["y"], fmod=1)], {"x": x, "z": z})


NARROW = ("int8", "uint8", "int16", "uint16")


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Neg", "Abs"])
def test_arithmetic_on_narrow_integers_wraps(bench, op: str, dtype: str) -> None:
    """As NumPy's does: uint8 200 + 100 is 44."""
    limits = np.iinfo(dtype)
    x = np.array([limits.max, limits.min, limits.max - 1, 7, limits.min, limits.max], dtype)
    y = np.array([limits.max, 3, 100, 2, 1, 1], dtype)
    function = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Neg": np.negative, "Abs": np.abs}.get(op)
    if op == "Div":
        wanted = (np.trunc(x.astype(np.float64) / y)).astype(dtype)
    else:
        wanted = function(x) if op in ("Neg", "Abs") else function(x, y)
    feeds = {"x": x} if op in ("Neg", "Abs") else {"x": x, "y2": y}
    node = make_node(op, list(feeds), ["y"])
    bench.agree([node], feeds, wanted={"y": wanted}, tolerance=0)


def test_integer_powers(bench) -> None:
    x = np.array([2, -3, 0, 0, -1, 1, -1, 5, 7, 46340], np.int32)
    y = np.array([30, 5, 0, 64, 65, 10**6, 10**6, 13, 0, 2], np.int32)
    wanted = np.array([2**30, -243, 1, 0, -1, 1, 1, 5**13, 1, 46340**2], np.int64).astype(np.int32)
    bench.agree([make_node("Pow", ["x", "e"], ["y"])], {"x": x, "e": y}, wanted={"y": wanted}, tolerance=0)


def test_int64_is_narrowed_with_a_note(bench) -> None:
    written = bench.agree([make_node("Add", ["x", "x"], ["y"])], {"x": np.array([1, -(2**30)], np.int64)}, tolerance=0)
    assert any("int64" in note for note in written.notes)


def test_constants_beyond_int32_are_refused(bench, build) -> None:
    constants = {"c": np.array([2**40], np.int64)}
    model = build([make_node("Add", ["x", "c"], ["y"])], {"x": np.array([1], np.int64)}, ["y"], constants)
    (blocker,) = bench.blockers(model)
    assert "int32" in blocker
