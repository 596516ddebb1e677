"""Convolutions of all kinds against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"pads": [1, 1, 1, 1]},
    "same strided": {"pads": [0, 0, 1, 1], "strides": [2, 2]},
    "symmetric strided, which SAME is not": {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    "asymmetric pads": {"pads": [2, 0, 1, 3]},
    "dilated": {"dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "grouped": {"group": 2, "pads": [1, 1, 1, 1]},
    "depthwise": {"group": 4, "pads": [1, 1, 1, 1]},
    "depthwise strided two ways": {"group": 4, "strides": [2, 1]},
    "depthwise dilated": {"group": 4, "dilations": [2, 2]},
    "depthwise, two filters a channel": {"group": 4, "filters": 8},
    "auto_pad lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("given", CONVOLUTIONS.values(), ids=list(CONVOLUTIONS))
def test_conv_2d(given: dict[str, Any], bias: bool, bench: Any, random: Random) -> None:
    given = dict(given)
    filters = given.pop("filters", 4)
    weights = random.standard_normal((filters, 4 // given.get("group", 1), 3, 3)).astype(np.float32)
    constants = {"w": weights} | ({"b": random.standard_normal(filters).astype(np.float32)} if bias else {})
    x = random.standard_normal((2, 4, 10, 11)).astype(np.float32)
    written = bench.agree([make_node("Conv", ["x", *constants], ["y"], **given)], {"x": x}, constants=constants)
    assert any(("DEPTHWISE" in layer.op) == (given.get("group") == 4) for layer in written.layers if "CONV" in layer.op)


@pytest.mark.parametrize(
    "given",
    [{}, {"pads": [1, 1]}, {"pads": [2, 0], "strides": [2]}, {"dilations": [2]}, {"group": 4}, {"group": 2}],
    ids=str,
)
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_one_axis(op: str, given: dict[str, Any], bench: Any, random: Random) -> None:
    weights = random.standard_normal((4, 4 // given.get("group", 1), 3)).astype(np.float32)
    x = random.standard_normal((2, 4, 12)).astype(np.float32)
    bench.agree([make_node(op, ["x", "w"], ["y"], **given)], {"x": x}, constants={"w": weights})


@pytest.mark.parametrize(
    "given",
    [{}, {"pads": [1] * 6}, {"strides": [1, 2, 2], "pads": [0, 1, 0, 2, 1, 1]}, {"dilations": [1, 2, 1]}, {"group": 2}],
    ids=str,
)
def test_conv_3d(given: dict[str, Any], bench: Any, random: Random) -> None:
    weights = random.standard_normal((4, 4 // given.get("group", 1), 3, 3, 3)).astype(np.float32)
    constants = {"w": weights, "b": random.standard_normal(4).astype(np.float32)}
    x = random.standard_normal((1, 4, 6, 7, 8)).astype(np.float32)
    bench.agree([make_node("Conv", ["x", "w", "b"], ["y"], **given)], {"x": x}, constants=constants)


TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"strides": [2, 2]},
    "same": {"strides": [2, 2], "pads": [0, 0, 1, 1]},
    "as PyTorch pads": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    "output padding beyond the full result": {"strides": [3, 2], "output_padding": [2, 1]},
    "uneven pads": {"strides": [2, 3], "pads": [2, 0, 1, 1]},
    "dilated": {"dilations": [2, 2], "strides": [2, 2]},
    "grouped": {"group": 2, "strides": [2, 2]},
    "depthwise": {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "auto_pad upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "auto_pad lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "output shape": {"output_shape": [12, 13], "strides": [2, 2]},
}


@pytest.mark.parametrize("given", TRANSPOSED.values(), ids=list(TRANSPOSED))
def test_conv_transpose(given: dict[str, Any], bench: Any, random: Random) -> None:
    group = given.get("group", 1)
    weights = random.standard_normal((4, 8 // group, 3, 3)).astype(np.float32)
    constants = {"w": weights, "b": random.standard_normal(8).astype(np.float32)}
    x = random.standard_normal((2, 4, 5, 6)).astype(np.float32)
    bench.agree([make_node("ConvTranspose", ["x", "w", "b"], ["y"], **given)], {"x": x}, constants=constants)


def test_weights_computed_at_run_time(bench: Any, random: Random) -> None:
    inputs = {
        "x": random.standard_normal((1, 3, 8, 8)).astype(np.float32),
        "w": random.standard_normal((2, 3, 3, 3)).astype(np.float32),
    }
    bench.agree([make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], inputs)
