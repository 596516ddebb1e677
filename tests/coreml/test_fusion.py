"""Patterns that exporters spell out in several nodes, and that Core ML has one op for."""

from __future__ import annotations

import numpy as np
from onnx.helper import make_node

RNG = np.random.default_rng(13)
X = RNG.normal(size=(2, 5, 8)).astype(np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def test_exact_gelu(bench, ops_of) -> None:
    nodes = [
        make_node("Div", ["x", "root"], ["d"]),
        make_node("Erf", ["d"], ["e"]),
        make_node("Add", ["e", "one"], ["a"]),
        make_node("Mul", ["x", "a"], ["m"]),
        make_node("Mul", ["m", "half"], ["y"]),
    ]
    constants = {"root": scalar(np.sqrt(2)), "one": scalar(1), "half": scalar(0.5)}
    written = bench.agree(nodes, {"x": X}, constants=constants)
    assert ops_of(written.path) == ["gelu"]
    # The values inside are gone from the package, so no layer may claim to hold them.
    assert [tap.value for layer in written.layers for tap in layer.outputs] == ["y"]


def test_silu(bench, ops_of) -> None:
    nodes = [make_node("Sigmoid", ["x"], ["s"]), make_node("Mul", ["x", "s"], ["y"])]
    written = bench.agree(nodes, {"x": X})
    assert ops_of(written.path) == ["silu"]
