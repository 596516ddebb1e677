"""fp16, int8-weights and int8-dynamic: what is stored, which kernels run, and how close they stay to the source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets.tflite import extract

Random = np.random.Generator


@pytest.fixture
def model(graph_of: Any, random: Random) -> tuple[Any, dict[str, np.ndarray]]:
    """Every kind of weights: convolution, depthwise, grouped, dense, MatMul of a batch."""
    constants = {
        "w": random.standard_normal((16, 8, 3, 3)).astype(np.float32) / 8,
        "d": random.standard_normal((16, 1, 3, 3)).astype(np.float32) / 3,
        "g": random.standard_normal((16, 8, 3, 3)).astype(np.float32) / 8,
        "m": random.standard_normal((64, 32)).astype(np.float32) / 8,
        "f": random.standard_normal((10, 16 * 32)).astype(np.float32) / 16,
        "b": random.standard_normal(16).astype(np.float32),
        "c": random.standard_normal(10).astype(np.float32),
        "s": np.array([1, 16, 64]),
    }
    nodes = [
        make_node("Conv", ["x", "w", "b"], ["1"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["1"], ["2"]),
        make_node("Conv", ["2", "d"], ["3"], pads=[1, 1, 1, 1], group=16),
        make_node("Conv", ["3", "g"], ["4"], pads=[1, 1, 1, 1], group=2),
        make_node("Reshape", ["4", "s"], ["5"]),
        make_node("MatMul", ["5", "m"], ["6"]),
        make_node("Flatten", ["6"], ["7"]),
        make_node("Gemm", ["7", "f", "c"], ["y"], transB=1),
    ]
    x = random.standard_normal((1, 8, 8, 8)).astype(np.float32)
    return graph_of(nodes, {"x": x}, ["y"], constants), {"x": x}


def noise(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# float16 has 11 significant bits: 2^-12 a weight; int8 weights 2^-8 of the largest of a channel, int8 activations twice
# that; both average out over the sums, so these are bounds with a factor of four to spare for five layers in a row.
BOUNDS = {"fp16": 5 * 2**-12, "int8-weights": 5 * 2**-8, "int8-dynamic": 5 * 2**-7}


@pytest.mark.parametrize("recipe", BOUNDS)
def test_close_to_the_source(recipe: str, model: Any, bench: Any, run: Any) -> None:
    hub, feeds = model
    bench.write(compress(hub, Recipe(recipe), None).model, recipe)
    expected = Evaluator(hub).run(feeds)["y"]
    for xnnpack in (True, False):
        assert noise(run(bench.data, feeds, xnnpack)["y"], expected) < BOUNDS[recipe]


@pytest.mark.parametrize("recipe", ["fp16", "int8-weights"])
def test_weights_are_stored_small_and_computed_in_float(recipe: str, model: Any, bench: Any) -> None:
    hub, feeds = model
    written = bench.layers_agree(compress(hub, Recipe(recipe), None).model, feeds, recipe)
    graph, _ = extract.read(bench.data)
    stored = "float16" if recipe == "fp16" else "int8"
    weights = [op.inputs[0] for op in graph.operators if op.code == "DEQUANTIZE"]
    assert len(weights) >= 5
    assert {tensor.dtype for tensor in weights} == {stored}
    for operator in graph.operators:  # a float operator given int8 weights would silently quantize its input
        if operator.code != "DEQUANTIZE":
            assert all(tensor is None or tensor.dtype in ("float32", "int32") for tensor in operator.inputs)
    assert any("bytes of float32 in memory" in note for note in written.notes)


def test_hybrid_kernels_take_int8_weights_and_float_activations(model: Any, bench: Any) -> None:
    """But for depthwise convolutions, whose hybrid kernel is slower than float."""
    hub, _ = model
    bench.write(compress(hub, Recipe("int8-dynamic"), None).model, "int8-dynamic")
    graph, _ = extract.read(bench.data)
    kernels = [op for op in graph.operators if op.code in ("CONV_2D", "FULLY_CONNECTED")]
    assert len(kernels) >= 4
    for operator in kernels:
        data, weights = operator.inputs[:2]
        assert data is not None
        assert weights is not None
        assert (data.dtype, weights.dtype) == ("float32", "int8")


@pytest.mark.parametrize("container", ["int4", "fast", "int8"])
@pytest.mark.parametrize("recipe", ["int4-weights", "int4-block16", "palette4", "palette2-group16", "sparse50-int8"])
def test_stored_weights_are_the_hubs(recipe: str, container: str, model: Any, bench: Any, run: Any) -> None:
    """The arithmetic is float, on the very weights of the compressed graph."""
    hub, feeds = model
    made = compress(hub, Recipe(recipe), None).model
    written = bench.write(made, recipe, int4_container=container)
    expected = Evaluator(made).run(feeds)["y"]
    for xnnpack in (True, False):
        # Five layers in a row, each rounded anew: five times what one may be off.
        assert noise(run(bench.data, feeds, xnnpack)["y"], expected) <= 5e-5
    dtypes = {op.inputs[0].dtype for op in extract.read(bench.data)[0].operators if op.code == "DEQUANTIZE"}
    if recipe == "int4-weights":
        assert dtypes == ({"int4"} if container == "int4" else {"int8"})
        assert any("widened at start" in note for note in written.notes)
    elif recipe == "sparse50-int8":
        assert dtypes == {"int8"}
    else:
        assert not dtypes or recipe == "int4-block16"  # channels that do not divide into blocks have one scale each
        assert any("smaller only where the file travels compressed" in note for note in written.notes)
    assert written.min_runtime is not None
