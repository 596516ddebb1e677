"""fp16, int8-weights and int8-dynamic: the documented form, run by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.errors import UsageError


def run(model: ir.Model, feeds) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, feeds
    )[0]


def stored(model: ir.Model) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def test_float16_keeps_names_and_values(network, batches) -> None:
    made = compress(network, Recipe("fp16")).model
    held = stored(made)
    for name in ("w1", "w2", "w3"):
        original = network.graph.initializers[name].const_value.numpy()
        np.testing.assert_array_equal(held[f"{name}_fp16"], original.astype(np.float16))
        cast = next(node for node in made.graph if node.outputs[0].name == name)
        assert cast.op_type == "Cast"
    # 2^-11 a weight, and a softmax whose slope is at most 1/4 of logits that sum 80 such products
    np.testing.assert_allclose(run(made, batches[0]), run(network, batches[0]), atol=5e-3)


@pytest.mark.parametrize(("value", "reason"), [(70000.0, "65504"), (1e-7, "too small")])
def test_float16_keeps_what_it_cannot_hold_and_says_so(build, value, reason) -> None:
    weights = np.full((32, 32), value, np.float32)
    weights[0, 0] = value / 3
    model = build([("Gemm", ("x", "w"), "y", {"transB": 1})], {"x": (1, 32)}, ["y"], w=weights)
    made = compress(model, Recipe("fp16"))
    np.testing.assert_array_equal(stored(made.model)["w"], weights)
    assert len(made.notes) == 1
    assert "w stays float32" in made.notes[0]
    assert reason in made.notes[0]


@pytest.mark.parametrize("granularity", ["auto", "per-channel", "per-tensor"])
def test_int8_weights_are_half_a_step_off(network, batches, granularity) -> None:
    made = compress(network, Recipe("int8-weights", weights=granularity)).model
    held, rounded = stored(made), network.clone()
    for name in ("w1", "w2", "w3"):
        original = network.graph.initializers[name].const_value.numpy()
        integers, scale = held[f"{name}_quantized"], held[f"{name}_scale"]
        assert integers.dtype == np.int8
        assert scale.shape == (() if granularity == "per-tensor" else (len(original),))
        spread = scale.reshape(scale.shape + (1,) * (original.ndim - 1)) if scale.ndim else scale
        assert (np.abs(integers * spread - original) <= spread * 0.5001).all()
        rounded.graph.initializers[name].const_value = ir.tensor((integers * spread).astype(np.float32), name=name)
    assert held["b1"].dtype == np.float32
    # the same arithmetic on the same float32 weights, summed in another order where constant weights are packed:
    # 360 products of 6e-8 relative rounding each
    np.testing.assert_allclose(run(made, batches[0]), run(rounded, batches[0]), rtol=360 * 2.0**-24)


def test_tied_weights_read_along_two_axes_share_one_scale(build) -> None:
    table = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    nodes = [("MatMul", ("x", "w"), "m", None), ("Gemm", ("m", "w"), "y", {"transB": 1})]
    made = compress(build(nodes, {"x": (1, 16)}, ["y"], w=table), Recipe("int8-weights")).model
    assert stored(made)["w_scale"].shape == ()


def test_dynamic_quantizes_each_activation_once(build) -> None:
    rng = np.random.default_rng(0)
    model = build(
        [
            ("Conv", ("x", "w1", "b1"), "c", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 2}),
            ("Flatten", ("c",), "f", None),
            ("Gemm", ("f", "w2", "b2"), "left", {"transB": 1}),
            ("MatMul", ("f", "w3"), "right", None),
            ("Add", ("left", "right"), "y", None),
        ],
        {"x": (1, 4, 5, 5)},
        ["y"],
        w1=rng.normal(size=(8, 2, 3, 3)).astype(np.float32),
        b1=rng.normal(size=8).astype(np.float32),
        w2=rng.normal(size=(6, 200)).astype(np.float32),
        b2=rng.normal(size=6).astype(np.float32),
        w3=rng.normal(size=(200, 6)).astype(np.float32),
    )
    feeds = {"x": rng.normal(size=(1, 4, 5, 5)).astype(np.float32)}
    made = compress(model, Recipe("int8-dynamic")).model
    ops = [node.op_type for node in made.graph]
    assert ops.count("DynamicQuantizeLinear") == 2
    assert (ops.count("ConvInteger"), ops.count("MatMulInteger")) == (1, 2)
    assert {"Conv", "Gemm", "MatMul"}.isdisjoint(ops)
    assert {node.name for node in model.graph} <= {node.name for node in made.graph}
    reference, found = run(model, feeds), run(made, feeds)
    # 200 products of rounded numbers: 8 bits each side gives about 40 dB; 30 dB leaves a factor 10 in noise
    assert 10 * np.log10(np.square(reference).sum() / np.square(found - reference).sum()) > 30


def test_a_recipe_with_nothing_to_do_is_refused(build) -> None:
    model = build([("Erf", ("x",), "y", None)], {"x": (1, 4)}, ["y"])
    with pytest.raises(UsageError, match="int8-dynamic"):
        compress(model, Recipe("int8-dynamic"))
    with pytest.raises(UsageError, match="no operator"):
        compress(model, Recipe("int8"), [{"x": np.zeros((1, 4), np.float32)}])
    with pytest.raises(UsageError, match="unknown recipe"):
        compress(model, Recipe("int3"))


@pytest.mark.parametrize("packed", ["int8-weights", "fp16"])
@pytest.mark.parametrize("recipe", ["int8", "int8-dynamic"])
def test_weights_that_come_packed_are_quantized_anew(network, batches, packed, recipe) -> None:
    source = compress(network, Recipe(packed)).model
    before = ir.to_proto(source).SerializeToString()
    made = compress(source, Recipe(recipe), batches)
    assert ir.to_proto(source).SerializeToString() == before
    direct = compress(network, Recipe(recipe), batches).model
    assert [node.op_type for node in made.model.graph] == [node.op_type for node in direct.graph]
    assert not any("stays float32" in note for note in made.notes)
    held, again = stored(made.model), stored(source)
    if packed == "int8-weights":  # the largest weight of a channel is 127 steps, before and after
        columns = held["w3_quantized"] if recipe == "int8" else held["w3_quantized"].T
        np.testing.assert_array_equal(columns, again["w3_quantized"])
