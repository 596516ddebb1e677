"""Scales moved into weights: the same integers, fewer numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.operators import constant
from haversack.convert.compress.recipes import Recipe
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets.unit_scales import unit_scales


def integers(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    names = [str(n.outputs[0].name) for n in model.graph if n.op_type == "QuantizeLinear"]
    names += [str(value.name) for value in model.graph.outputs]
    run = Evaluator(model, names)
    rows = [run.run(each) for each in feeds]
    return {name: np.stack([row[name] for row in rows]) for name in names}


def scales(model: ir.Model, name: str) -> np.ndarray:
    node = next(node for node in model.graph if node.outputs[0].name == name)
    found = constant(node.inputs[1])
    assert found is not None
    return found


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
def test_every_integer_stays(weights, network, batches) -> None:
    model = compress(network, Recipe("int8", weights=weights), batches).model
    before, after = integers(model, batches), integers(unit_scales(model), batches)
    assert list(before) == list(after)
    for name, found in after.items():
        expected = before[name]
        assert found.dtype == expected.dtype
        step = 1 if found.dtype == np.int8 else 1 / 256 + 1e-6  # a softmax's
        difference = np.abs(found.astype(np.float64) - expected)
        assert difference.max() <= step, name
        assert np.count_nonzero(difference) <= found.size / 1000, name  # only what lies on the edge of rounding


def test_a_bias_has_the_scales_of_its_weights(network, batches) -> None:
    model = compress(network, Recipe("int8", weights="per-channel"), batches).model
    made = unit_scales(model)
    assert scales(made, "r1_quantized") == 1
    np.testing.assert_array_equal(scales(made, "w2_dequantized"), scales(made, "b2_dequantized"))
    assert not np.array_equal(scales(model, "w2_dequantized"), scales(model, "b2_dequantized"))
    # The residual sum has r1 in it, so one factor serves both: what w3 reads is in the same unit, at its own scale.
    moved = scales(made, "g_quantized") / scales(model, "g_quantized")
    np.testing.assert_allclose(moved, 1 / scales(model, "r1_quantized"), rtol=1e-6)
    product = (scales(made, "f_quantized") * scales(made, "w3_dequantized")).astype(np.float32)
    np.testing.assert_array_equal(scales(made, "b3_dequantized"), product)


def test_what_has_a_unit_keeps_it(network, batches) -> None:
    model = compress(network, Recipe("int8"), batches).model
    made = unit_scales(model)
    for name in ("x_quantized", "logits_quantized", "y"):
        np.testing.assert_array_equal(scales(made, name), scales(model, name))
    assert model.graph.initializers["x_scale"].const_value is not None  # and the model given was not changed


def test_a_float_reader_keeps_the_unit(build, batches) -> None:
    rng = np.random.default_rng(0)
    model = build(
        [
            ("Conv", ("x", "w"), "c", None),
            ("Erf", ("c",), "e", None),  # has no int8 kernel
            ("Conv", ("c", "w2", "b2"), "d", None),
            ("Conv", ("e", "w2", "b2"), "f", None),
            ("Add", ("d", "f"), "y", None),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        w=rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        w2=rng.normal(size=(4, 4, 1, 1)).astype(np.float32),
        b2=rng.normal(size=4).astype(np.float32),
    )
    made = compress(model, Recipe("int8", weights="per-channel"), batches).model
    scaled = unit_scales(made)
    assert scales(scaled, "c_quantized") == scales(made, "c_quantized")
    before, after = Evaluator(made).run(batches[0])["y"], Evaluator(scaled).run(batches[0])["y"]
    np.testing.assert_allclose(after, before, atol=float(scales(made, "y")) * 1.01)


def test_a_float_model_is_left_alone(network) -> None:
    assert unit_scales(network) is network
