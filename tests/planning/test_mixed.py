"""Plans as compressed models: what onnxruntime computes of them, and what they hold."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from haversack.convert.compress.mixed import Observed, apply_plan, held_weights, planned_layers
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.errors import UsageError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.planning.change import compare


def outputs(model: ir.Model, samples: list) -> np.ndarray:
    evaluator = Evaluator(model)
    return np.concatenate([next(iter(evaluator.run(feeds).values())) for feeds in samples])


def weights_of(model: ir.Model, layer: str) -> np.ndarray:
    """The integers that a layer's weights are held in."""
    node = next(node for node in model.graph if node.name == layer)
    return node.inputs[1].producer().inputs[0].const_value.numpy()


def uniform(model: ir.Model, layer: LayerPlan, arithmetic: str = "int8") -> Plan:
    return Plan("p", arithmetic=arithmetic, layers=dict.fromkeys(planned_layers(model), layer))


@pytest.mark.parametrize("granularity", ["per-tensor", "per-channel"])
@pytest.mark.parametrize(("bits", "largest"), [(2.5, 2), (3.0, 3), (4.0, 7), (5.0, 15), (8.0, 127)])
def test_bits_say_how_many_integers_there_are(
    model: ir.Model, observed: Observed, granularity: str, bits: float, largest: int
) -> None:
    made, _, _ = apply_plan(model, uniform(model, LayerPlan("int8", bits, granularity)), observed)
    for name in planned_layers(model):
        integers = weights_of(made, name)
        assert integers.dtype == np.int8
        assert np.abs(integers.astype(int)).max() <= largest


def test_coarser_steps_cost_more_at_the_output(model: ir.Model, observed: Observed, samples: list) -> None:
    own = outputs(model, samples)
    costs = []
    for bits in (4.0, 3.0, 2.0):  # finer ones drown in what int8 activations cost
        made, _, _ = apply_plan(model, uniform(model, LayerPlan("int8", bits)), observed)
        costs.append(compare([own], [outputs(made, samples)]).cost)
    assert costs == sorted(costs)
    assert costs[-1] > 4 * costs[0]


def test_int4_is_held_in_four_bits_and_computes_the_same_as_in_eight(
    model: ir.Model, observed: Observed, samples: list
) -> None:
    made, _, _ = apply_plan(model, uniform(model, LayerPlan("int4")), observed)
    names = list(planned_layers(model))
    assert all(weights_of(made, name).dtype == ml_dtypes.int4 for name in names)
    wide = made.clone()
    for name in names:
        node = next(node for node in wide.graph if node.name == name)
        for value in (node.inputs[1].producer().inputs[0], node.inputs[1].producer().inputs[2]):
            held = value.const_value.numpy().astype(np.int8)
            value.const_value, value.type = ir.Tensor(held, name=value.name), ir.TensorType(ir.DataType.INT8)
    np.testing.assert_array_equal(outputs(made, samples), outputs(wide, samples))


def test_a_float_layer_reads_floats_and_keeps_its_weights(model: ir.Model, observed: Observed) -> None:
    first, *rest = planned_layers(model)
    plan = Plan("p", layers={first: LayerPlan("float32"), **dict.fromkeys(rest, LayerPlan("int8"))})
    made, _, _ = apply_plan(model, plan, observed)
    node = next(node for node in made.graph if node.name == first)
    assert node.inputs[1].const_value.dtype == ir.DataType.FLOAT
    source = node.inputs[0].producer()
    assert source is None or source.op_type != "DequantizeLinear" or source.outputs[0].name.endswith("_dequantized")
    assert weights_of(made, rest[0]).dtype == np.int8


@pytest.mark.parametrize("weights", ["float32", "float16", "int8-weights", "int4-weights", "palette4", "sparse50"])
def test_every_form_of_float_layers_runs(model: ir.Model, observed: Observed, samples: list, weights: str) -> None:
    made, _, _ = apply_plan(model, uniform(model, LayerPlan(weights), "float32"), observed)
    agreement = compare([outputs(model, samples)], [outputs(made, samples)]).agreement
    assert agreement is not None
    assert agreement >= 0.9


def test_int16_activations_leave_less_noise_than_int8(model: ir.Model, observed: Observed, samples: list) -> None:
    own = outputs(model, samples)
    noise = {}
    for arithmetic in ("int8", "int16"):
        made, _, _ = apply_plan(model, uniform(model, LayerPlan("int8"), arithmetic), observed)
        kinds = {node.outputs[0].dtype for node in made.graph if node.op_type == "QuantizeLinear"}
        assert kinds == {ir.DataType.INT8 if arithmetic == "int8" else ir.DataType.INT16}
        noise[arithmetic] = float(np.square(own - outputs(made, samples)).mean())
    assert noise["int16"] < noise["int8"]


def test_second_order_rounding_beats_the_nearest_integer(model: ir.Model, observed: Observed, samples: list) -> None:
    own = outputs(model, samples)
    plain = Observed(observed.activations)
    layer = LayerPlan("int8", 3.0, "per-tensor")
    for name in planned_layers(model):
        costs = [
            compare([own], [outputs(held_weights(model, name, layer, seen)[0], samples)]).cost
            for seen in (observed, plain)
        ]
        assert costs[0] < costs[1], name


def test_a_plan_of_other_layers_names_them_and_what_there_is(model: ir.Model, observed: Observed) -> None:
    with pytest.raises(UsageError, match="no layer 'conv99'; it has "):
        apply_plan(model, Plan("p", layers={"conv99": LayerPlan()}), observed)


def test_integers_under_float_arithmetic_are_refused_with_what_to_write(model: ir.Model, observed: Observed) -> None:
    with pytest.raises(UsageError, match="under float16 write int8-weights"):
        apply_plan(model, uniform(model, LayerPlan("int8"), "float16"), observed)


def test_integers_without_data_are_refused(model: ir.Model) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        apply_plan(model, Plan("p"), Observed())
