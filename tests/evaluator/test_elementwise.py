"""Elementwise ops and activations, against what NumPy and the standard library give, and MIL's documented traps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from haversack.runtimes.engines.coreml.ops.elementwise import erf


def test_erf_is_exact_in_float32() -> None:
    x = np.concatenate([np.linspace(-5, 5, 4001), [0.0, -0.0, 0.46875, 1e-30, 30.0, np.inf, -np.inf]]).astype(
        np.float32
    )
    wanted = np.array([math.erf(float(v)) for v in x], np.float32)
    # Cody's approximation is good to 1e-16; rounding to float32 may then differ in the last bit of a tie only.
    np.testing.assert_allclose(erf(x), wanted, rtol=2**-23, atol=0)
    assert np.isnan(erf(np.array([np.nan], np.float32)))[0]


@pytest.mark.parametrize(
    ("op", "value", "wanted"),
    [
        ("inverse", 1e-3, 1 / (1e-3 + 1e-4)),  # 909, the trap: a default epsilon of 1e-4
        ("rsqrt", 0.25, 2.0),
        ("log", 2.0, math.log(2)),
        ("round", 2.5, 2.0),
        ("round", 3.5, 4.0),
        ("sign", -3.0, -1.0),
    ],
)
def test_documented_values(evaluate: Any, op: str, value: float, wanted: float) -> None:
    (found,) = evaluate(lambda mb, x: getattr(mb, op)(x=x, name="y"), {"x": np.array([value], np.float32)})
    np.testing.assert_allclose(found, [wanted], rtol=1e-6)  # one float32 rounding is 6e-8; log and rsqrt a few


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu(evaluate: Any, mode: str) -> None:
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    wide = x.astype(np.float64)
    wanted = {
        "EXACT": 0.5 * wide * (1 + np.vectorize(math.erf)(wide / np.sqrt(2))),
        "TANH_APPROXIMATION": 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))),
        "SIGMOID_APPROXIMATION": wide / (1 + np.exp(-1.702 * wide)),
    }[mode]
    (found,) = evaluate(lambda mb, x: mb.gelu(x=x, mode=mode, name="y"), {"x": x})
    # Near -4 the factor 1 + erf cancels to 6e-5 of its terms: an absolute error of a few float32 roundings times |x|.
    np.testing.assert_allclose(found, wanted, atol=4 * 2**-23)


@pytest.mark.parametrize(
    ("op", "parameters", "reference"),
    [
        ("leaky_relu", {"alpha": 0.1}, lambda x: np.where(x >= 0, x, 0.1 * x)),
        ("elu", {"alpha": 1.5}, lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
        ("clamped_relu", {"alpha": 0.5, "beta": 1.0}, lambda x: np.minimum(1, np.where(x >= 0, x, 0.5 * x))),
        ("thresholded_relu", {"alpha": 1.0}, lambda x: np.where(x >= 1, x, 0)),
        ("sigmoid_hard", {"alpha": 0.3, "beta": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
        ("scaled_tanh", {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * np.tanh(0.5 * x)),
        ("linear_activation", {"alpha": 2.0, "beta": 0.5}, lambda x: 2 * x + 0.5),
        ("softplus", {}, lambda x: np.log1p(np.exp(x))),
        ("softsign", {}, lambda x: x / (1 + np.abs(x))),
        ("silu", {}, lambda x: x / (1 + np.exp(-x))),
        ("relu6", {}, lambda x: np.clip(x, 0, 6)),
    ],
)
def test_activations(evaluate: Any, op: str, parameters: dict[str, float], reference: Any) -> None:
    x = np.linspace(-8, 8, 65, dtype=np.float32)
    constants = {name: np.float32(value) for name, value in parameters.items()}
    (found,) = evaluate(lambda mb, x: getattr(mb, op)(x=x, name="y", **constants), {"x": x})
    # A handful of float32 roundings of values up to 16.
    np.testing.assert_allclose(found, reference(x.astype(np.float64)), rtol=1e-6, atol=2e-6)


def test_softmax_and_sigmoid_survive_large_values(evaluate: Any) -> None:
    x = np.array([[1000.0, 1001.0, -1000.0]], np.float32)
    soft, logistic = evaluate(lambda mb, x: (mb.softmax(x=x, name="s"), mb.sigmoid(x=x, name="l")), {"x": x})
    np.testing.assert_allclose(soft, [[1 / (1 + math.e), math.e / (1 + math.e), 0]], rtol=1e-6)
    np.testing.assert_array_equal(logistic, [[1, 1, 0]])


def test_integer_division_rounds_toward_minus_infinity(evaluate: Any) -> None:
    x, y = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    quotient, rest = evaluate(
        lambda mb, x, y: (mb.floor_div(x=x, y=y, name="q"), mb.mod(x=x, y=y, name="r")), {"x": x, "y": y}
    )
    np.testing.assert_array_equal(quotient, [3, -4, -4, 3])
    np.testing.assert_array_equal(rest, [1, 1, -1, -1])


def test_cast_truncates_and_saturates(evaluate: Any) -> None:
    x = np.array([1.9, -1.9, 300.0, -3e9, 3e9], np.float32)
    whole, small, true = evaluate(
        lambda mb, x: (
            mb.cast(x=x, dtype="int32", name="a"),
            mb.cast(x=mb.cast(x=x, dtype="uint8"), dtype="int32", name="b"),
            mb.cast(x=mb.cast(x=mb.sub(x=x, y=np.float32(300)), dtype="bool"), dtype="int32", name="c"),
        ),
        {"x": x},
    )
    np.testing.assert_array_equal(whole, [1, -1, 300, -(2**31), 2**31 - 1])
    np.testing.assert_array_equal(small, [1, 0, 255, 0, 255])
    np.testing.assert_array_equal(true, [1, 1, 0, 1, 1])
