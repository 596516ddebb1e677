"""Bitwise operators and shifts, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "int64")
FUNCTIONS = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}


def numbers(dtype: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """All of the range that Core ML holds: of int64 only what fits int32."""
    limits = np.iinfo(np.int32 if dtype == "int64" else dtype)
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, shape, endpoint=True)
    drawn.reshape(-1)[:2] = limits.min, limits.max
    return drawn.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_bitwise(bench, op: str, dtype: str) -> None:
    x, y = numbers(dtype, 1, (3, 5)), numbers(dtype, 2, (5,))
    bench.agree([make_node(op, ["x", "o"], ["y"])], {"x": x, "o": y}, wanted={"y": FUNCTIONS[op](x, y)}, tolerance=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_not(bench, dtype: str) -> None:
    x = numbers(dtype, 3, (7,))
    bench.agree([make_node("BitwiseNot", ["x"], ["y"])], {"x": x}, wanted={"y": ~x}, tolerance=0)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shifts(bench, dtype: str, direction: str) -> None:
    """By the word's width and more nothing is left."""
    x, y = numbers(dtype, 4, (3, 6)), np.array([0, 1, 5, 7, 8, 20], dtype)
    bits = np.iinfo(dtype).bits
    wide = x.astype(np.int64)
    moved = wide << y if direction == "LEFT" else wide >> y
    wanted = np.where(y < bits, moved & (2**bits - 1), 0).astype(dtype)
    node = make_node("BitShift", ["x", "s"], ["y"], direction=direction)
    bench.agree([node], {"x": x, "s": y}, wanted={"y": wanted}, tolerance=0)


def test_large_unsigned_numbers_are_refused(bench, build) -> None:
    """The int32 of the same bits is negative: only what looks at bits may read it."""
    nodes = [make_node("Cast", ["x"], ["u"], to=12), make_node("Greater", ["u", "u"], ["y"])]
    (blocker,) = bench.blockers(build(nodes, {"x": np.array([-1], np.int32)}, ["y"]))
    assert "uint32" in blocker
