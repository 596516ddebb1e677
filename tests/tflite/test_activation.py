"""Activations against onnxruntime, over a range in which naive formulas overflow or cancel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

RANGE = np.concatenate([np.linspace(-100, 100, 401), np.linspace(-4, 4, 399), [0.0, -0.0, 1e-6, -1e-6]])

ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}),
    ("LeakyRelu", {"alpha": 0.3}),
    ("Elu", {}),
    ("Elu", {"alpha": 2.5}),
    ("Selu", {}),
    ("Selu", {"alpha": 2.0, "gamma": 3.0}),
    ("Celu", {}),
    ("Celu", {"alpha": 0.4}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}),
    ("HardSwish", {}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Mish", {}),
    ("ThresholdedRelu", {"alpha": 2.0}),
    ("Shrink", {"lambd": 1.5, "bias": 0.5}),
    ("Erf", {}),
]


@pytest.mark.parametrize(("op", "given"), ACTIVATIONS, ids=str)
def test_activation(op: str, given: dict[str, Any], bench: Any) -> None:
    bench.agree([make_node(op, ["x"], ["y"], **given)], {"x": RANGE.astype(np.float32)})


NEAR_ZERO = [
    (op, given)
    for op, given in ACTIVATIONS
    if op not in ("ThresholdedRelu", "Shrink", "Erf")  # two are 0 there; Erf is accurate to 1.5e-7 absolutely
]


@pytest.mark.parametrize(("op", "given"), NEAR_ZERO, ids=str)
def test_near_zero(op: str, given: dict[str, Any], bench: Any) -> None:
    """Relative accuracy where a wrong formula cancels: a whole tensor of small numbers (outputs near 0 for most)."""
    x = np.linspace(-1e-2, 1e-2, 64).astype(np.float32)
    bench.agree([make_node(op, ["x"], ["y"], **given)], {"x": x})


@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str, axis: int, bench: Any, random: np.random.Generator) -> None:
    x = (random.standard_normal((3, 4, 5)) * 30).astype(np.float32)
    bench.agree([make_node(op, ["x"], ["y"], axis=axis)], {"x": x})


@pytest.mark.parametrize("shape", [(7,), (2, 3, 2, 3, 2, 4)])
def test_softmax_of_any_rank(shape: tuple[int, ...], bench: Any, random: np.random.Generator) -> None:
    x = random.standard_normal(shape).astype(np.float32)
    bench.agree([make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": x})


@pytest.mark.parametrize("bounds", [(0, 6), (-1, 1), (0, 1), (-0.5, 2.5), (None, 2), (0, None), (-2, None)], ids=str)
def test_clip(bounds: tuple[float | None, float | None], bench: Any) -> None:
    constants = {n: np.float32(v) for n, v in zip(("low", "high"), bounds, strict=True) if v is not None}
    names = [n if n in constants else "" for n in ("low", "high")]
    bench.agree([make_node("Clip", ["x", *names], ["y"])], {"x": RANGE.astype(np.float32)}, constants=constants)


@pytest.mark.parametrize("slope", [(3, 1, 1), (1,), (1, 1, 1), (3, 4, 5), (5,)], ids=str)
def test_prelu(slope: tuple[int, ...], bench: Any, random: np.random.Generator) -> None:
    constants = {"s": random.standard_normal(slope).astype(np.float32)}
    x = random.standard_normal((2, 3, 4, 5)).astype(np.float32)
    bench.agree([make_node("PRelu", ["x", "s"], ["y"])], {"x": x}, constants=constants)
