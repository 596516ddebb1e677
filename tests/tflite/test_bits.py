"""Bitwise operators and shifts of every integer width against onnxruntime, and NumPy where it has no kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError

Random = np.random.Generator
WIDTHS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def words(random: Random, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """All bits random, the extremes among them."""
    x = np.frombuffer(random.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()
    x.flat[0], x.flat[1] = np.iinfo(dtype).max, np.iinfo(dtype).min
    return x


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_two(op: str, dtype: str, bench: Any, random: Random) -> None:
    x, y = words(random, dtype, (3, 4, 5)), words(random, dtype, (4, 1))
    bench.agree([make_node(op, ["x", "k"], ["y"])], {"x": x, "k": y})


@pytest.mark.parametrize("dtype", WIDTHS)
def test_not(dtype: str, bench: Any, random: Random) -> None:
    bench.agree([make_node("BitwiseNot", ["x"], ["y"])], {"x": words(random, dtype, (3, 5))})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shift(
    direction: str, dtype: str, graph_of: Any, bench: Any, run: Any, random: Random
) -> None:  # onnxruntime has no 16-bit shifts
    bits = np.dtype(dtype).itemsize * 8
    x, n = words(random, dtype, (4, bits)), np.arange(bits).astype(dtype)
    model = graph_of([make_node("BitShift", ["x", "n"], ["y"], direction=direction)], {"x": x, "n": n}, ["y"])
    if (dtype, direction) == ("uint64", "RIGHT"):
        with pytest.raises(UnsupportedError, match="shifts no 64-bit integers to the right"):
            bench.write(model)
        return
    bench.write(model)
    expected = x << n if direction == "LEFT" else x >> n
    for xnnpack in (True, False):
        np.testing.assert_array_equal(run(bench.data, {"x": x, "n": n}, xnnpack)["y"], expected)
