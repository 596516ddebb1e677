"""Activation functions against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

X = (3 * np.random.default_rng(1).normal(size=(2, 3, 4, 5))).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("Mish", {}),
        ("HardSwish", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.6}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 2.0}),
        ("Selu", {}),
        ("Celu", {"alpha": 0.5}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("ThresholdedRelu", {"alpha": 2.0}),
        ("Shrink", {"bias": 1.5, "lambd": 1.5}),
        ("Softmax", {}),
        ("Softmax", {"axis": 1}),
        ("LogSoftmax", {"axis": 1}),
        ("Hardmax", {"axis": 2}),
    ],
)
def test_activation(bench, op, attributes) -> None:
    bench.agree([make_node(op, ["x"], ["y"], **attributes)], {"x": X})


def test_thresholded_relu_drops_the_threshold_itself(bench) -> None:
    """ONNX keeps x > alpha; MIL's own op keeps x >= alpha."""
    x = np.array([1.5, 2.0, 2.5], np.float32)
    bench.agree([make_node("ThresholdedRelu", ["x"], ["y"], alpha=2.0)], {"x": x}, tolerance=0)


def test_log_softmax_of_large_numbers(bench) -> None:
    bench.agree([make_node("LogSoftmax", ["x"], ["y"])], {"x": np.array([[0.0, 1.0, 300.0]], np.float32)})


@pytest.mark.parametrize(
    ("low", "high", "op"),
    [(0.0, 6.0, "relu6"), (-1.0, 2.0, "clip"), (0.0, None, "relu"), (-1.0, None, "maximum"), (None, 1.0, "minimum")],
)
def test_clip(bench, ops_of, low, high, op) -> None:
    constants = {name: np.float32(value) for name, value in (("low", low), ("high", high)) if value is not None}
    names = ["x", "low" if low is not None else "", "high" if high is not None else ""]
    written = bench.agree([make_node("Clip", names, ["y"])], {"x": X}, constants=constants)
    assert ops_of(written.path) == [op]


def test_clip_of_integers(bench) -> None:
    constants = {"low": np.int32(-1), "high": np.int32(2)}
    bench.agree([make_node("Clip", ["x", "low", "high"], ["y"])], {"x": X.astype(np.int32)}, constants=constants)


@pytest.mark.parametrize(
    ("shape", "op"), [((3, 1, 1), "prelu"), ((1,), "leaky_relu"), ((5,), "add"), ((3, 4, 5), "add")]
)
def test_prelu(bench, ops_of, shape, op) -> None:
    slope = np.linspace(-0.5, 0.9, int(np.prod(shape))).astype(np.float32).reshape(shape)
    written = bench.agree([make_node("PRelu", ["x", "c"], ["y"])], {"x": X}, constants={"c": slope})
    assert ops_of(written.path)[-1] == op
