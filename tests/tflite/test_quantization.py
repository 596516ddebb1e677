"""QuantizeLinear and its kin where they stand alone: integers against onnxruntime, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_quantize_along_an_axis(dtype: str, constant: bool, bench: Any, random: Random) -> None:
    x = floats(random, 2, 3, 4) * 50
    more = {"s": np.array([0.1, 0.5, 2], np.float32), "z": np.array([3, 0, 7], dtype)}
    node = make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=1)
    bench.agree([node], {"x": x} if constant else {"x": x, **more}, constants=more if constant else None)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_dequantize_in_blocks(dtype: str, bench: Any, random: Random) -> None:
    x = random.integers(0, 100, (2, 6)).astype(dtype)
    feeds = {"x": x, "s": np.abs(floats(random, 2, 3)), "z": random.integers(0, 9, (2, 3)).astype(dtype)}
    bench.agree([make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=1, block_size=2)], feeds)


def test_dynamic_quantization(bench: Any, random: Random) -> None:
    outputs = ("y", "scale", "zero")
    bench.agree([make_node("DynamicQuantizeLinear", ["x"], list(outputs))], {"x": floats(random, 4, 5)}, outputs)
