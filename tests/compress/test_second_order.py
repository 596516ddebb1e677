"""Rounding that makes up for itself: its statistics against onnxruntime's convolutions, its laws on held-out data."""

from __future__ import annotations

import numpy as np
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.compress.second_order import layer_of, moments
from haversack.convert.errors import DataError
from haversack.convert.hub.evaluate import Evaluator

RNG = np.random.default_rng(6)
MIX = RNG.normal(size=(64, 12)).astype(np.float32)


def correlated(count: int) -> list[dict[str, np.ndarray]]:
    """Inputs of 64 numbers that are mixtures of 12, with a mean and a little noise, as real activations are."""
    hidden = RNG.normal(size=(count, 12)).astype(np.float32)
    rows = np.maximum(hidden @ MIX.T, 0) + 0.1 * RNG.normal(size=(count, 64)).astype(np.float32)
    return [{"x": row[None].astype(np.float32)} for row in rows]


def outputs(model, data) -> np.ndarray:
    evaluator = Evaluator(model)
    return np.concatenate([evaluator.run(feeds)["y"] for feeds in data])


WITH_BIAS = ("Gemm", "Gemm without bias", "Gemm, transposed", "1x1 convolution")


@pytest.fixture(params=[*WITH_BIAS, "MatMul"])
def dense(request, build):
    weights, bias = RNG.normal(size=(48, 64)).astype(np.float32), RNG.normal(size=48).astype(np.float32)
    kind = request.param
    if kind == "1x1 convolution":
        shapes = {"four": np.array([1, 64, 1, 1]), "two": np.array([1, 48])}
        nodes = [
            ("Reshape", ("x", "four"), "r", None),
            ("Conv", ("r", "w", "b"), "c", None),
            ("Reshape", ("c", "two"), "y", None),
        ]
        return build(nodes, {"x": (1, 64)}, ["y"], w=weights.reshape(48, 64, 1, 1), b=bias, **shapes)
    if kind == "MatMul":
        return build([("MatMul", ("x", "w"), "y", None)], {"x": (1, 64)}, ["y"], w=weights.T.copy())
    arrays = {"w": weights.T.copy() if "transposed" in kind else weights}
    if "without" not in kind:
        arrays["b"] = bias
    attributes = {"transB": int("transposed" not in kind)}
    return build([("Gemm", ("x", *arrays), "y", attributes)], {"x": (1, 64)}, ["y"], **arrays)


@pytest.mark.parametrize("recipe", ["palette3", "int4-weights", "sparse50", "sparse2of4", "sparse50-palette4"])
def test_outputs_on_other_data_are_closer(dense, recipe) -> None:
    data, other = correlated(128), correlated(200)
    wanted = outputs(dense, other)
    plain = np.square(outputs(compress(dense, Recipe(recipe)).model, other) - wanted).mean()
    told = np.square(outputs(compress(dense, Recipe(recipe), data).model, other) - wanted).mean()
    assert told < 0.6 * plain


@pytest.mark.parametrize("dense", WITH_BIAS, indirect=True)
@pytest.mark.parametrize("recipe", ["palette2", "int4-weights", "sparse75"])
def test_the_bias_takes_over_what_is_left_in_the_mean(dense, recipe) -> None:
    data = correlated(128)
    made = compress(dense, Recipe(recipe), iter(data)).model
    gap = outputs(made, data).mean(axis=0) - outputs(dense, data).mean(axis=0)
    plain = outputs(compress(dense, Recipe(recipe)).model, data).mean(axis=0) - outputs(dense, data).mean(axis=0)
    assert np.abs(plain).max() > 0.1
    # Exact but for float32: outputs of about 30, weights rounded to float32, sums of 64.
    assert np.abs(gap).max() < 64 * 30 * 2.0**-23


@pytest.mark.parametrize(
    ("attributes", "weights"),
    [
        ({}, (6, 4, 3, 3)),
        ({"strides": [2, 1], "pads": [1, 0, 2, 1]}, (6, 4, 3, 3)),
        ({"dilations": [2, 2], "pads": [2, 1, 2, 1]}, (6, 4, 3, 2)),
        ({"group": 2}, (6, 2, 2, 2)),
        ({"group": 4, "pads": [1, 1, 1, 1]}, (8, 1, 3, 3)),
    ],
)
def test_moments_predict_the_power_of_a_convolution(build, attributes, weights) -> None:
    """E[y²] of each output channel is w·H·wᵀ, whatever the weights: onnxruntime computes y."""
    w, b = RNG.normal(size=weights).astype(np.float32), RNG.normal(size=weights[0]).astype(np.float32)
    given = {"kernel_shape": list(weights[2:]), **attributes}
    model = build([("Conv", ("x", "w", "b"), "y", given)], {"x": (2, 4, 8, 8)}, ["y"], w=w, b=b)
    data = [{"x": RNG.normal(0.5, 1, (2, 4, 8, 8)).astype(np.float32)} for _ in range(3)]
    layer = layer_of(model.graph.initializers["w"])
    moment = moments(model, [layer], data)["w"]
    rows = np.concatenate([layer.matrix(w), b.reshape(layer.groups, -1, 1)], axis=2)
    predicted = np.einsum("goi,gij,goj->go", rows, moment, rows).reshape(-1)
    power = np.square(outputs(model, data).astype(np.float64)).mean(axis=(0, 2, 3))
    # float32 convolutions of up to 36 products; at most 64 positions here, so that none is left out
    np.testing.assert_allclose(predicted, power, rtol=36 * 2.0**-22)


def test_weights_of_two_layers_are_rounded_as_they_are(build) -> None:
    table = RNG.normal(size=(64, 64)).astype(np.float32)
    nodes = [("MatMul", ("x", "w"), "m", None), ("Gemm", ("m", "w"), "y", {"transB": 1})]
    model = build(nodes, {"x": (1, 64)}, ["y"], w=table)
    assert layer_of(model.graph.initializers["w"]) is None
    compress(model, Recipe("palette4"), correlated(4))


def test_the_same_data_gives_the_same_weights_at_another_batch(dense) -> None:
    data = correlated(64)
    made = compress(dense, Recipe("palette3"), data)
    again = made.repeat(dense)
    for name, value in made.model.graph.initializers.items():
        np.testing.assert_array_equal(again.graph.initializers[name].const_value.numpy(), value.const_value.numpy())


def test_no_data_is_refused(dense) -> None:
    with pytest.raises(DataError, match="not one batch"):
        compress(dense, Recipe("palette4"), [])
