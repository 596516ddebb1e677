"""The int8 hub form, checked on the graph itself and by running it with onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import Recipe
from haversack.convert.errors import DataError, UsageError


def run(model: ir.Model, feeds, names=None):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    if names:
        del proto.graph.output[:]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(names, feeds)


def producer(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph for value in node.outputs if value.name == name)


def parameters(node: ir.Node) -> tuple[np.ndarray, np.ndarray]:
    return node.inputs[1].const_value.numpy(), node.inputs[2].const_value.numpy()


def int8(model, batches, **options):
    return compress(model, Recipe("int8", **options), batches)


def test_the_source_is_not_changed(network, batches) -> None:
    before = ir.to_proto(network).SerializeToString()
    for recipe in ("fp32", "fp16", "int8", "int8-dynamic", "int8-weights"):
        compress(network, Recipe(recipe), batches)
        assert ir.to_proto(network).SerializeToString() == before


def test_it_is_legal_onnx_with_the_same_inputs_and_outputs(network, batches) -> None:
    made = int8(network, batches).model
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    for old, new in ((network.graph.inputs, made.graph.inputs), (network.graph.outputs, made.graph.outputs)):
        assert [(v.name, v.dtype, tuple(v.shape)) for v in old] == [(v.name, v.dtype, tuple(v.shape)) for v in new]
    names = [node.name for node in made.graph]
    assert len(set(names)) == len(names)
    assert all(names)
    assert {node.name for node in network.graph} <= set(names)


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("rule", ["minmax", "percentile", "mse", "entropy"])
def test_it_computes_what_the_float_model_computes(network, batches, rule, granularity) -> None:
    made = int8(network, batches, ranges=rule, weights=granularity).model
    reference = np.concatenate([run(network, feeds, ["logits"])[0] for feeds in batches])
    found = np.concatenate([run(made, feeds, ["logits"])[0] for feeds in batches])
    # four layers of int8: 8 bits give 49.9 dB a uniform layer; 25 dB leaves a factor 16 in noise for shape and depth
    assert 10 * np.log10(np.square(reference).sum() / np.square(found - reference).sum()) > 25


def test_weights_and_biases_obey_the_specification(network, batches) -> None:
    for granularity in ("per-channel", "per-tensor"):
        made = int8(network, batches, weights=granularity, methods=()).model
        for name in ("c1", "c2", "logits"):
            node = producer(made, name)
            source, weights, bias = (value.producer() for value in node.inputs)
            scale, zero_point = parameters(weights)
            stored = weights.inputs[0].const_value.numpy()
            assert stored.dtype == np.int8
            assert np.abs(stored.astype(int)).max() <= 127
            assert not zero_point.any()
            assert scale.shape == ((stored.shape[0],) if granularity == "per-channel" else ())
            assert len(bias.inputs) == 2
            assert bias.inputs[0].const_value.numpy().dtype == np.int32
            np.testing.assert_array_equal(bias.inputs[1].const_value.numpy(), parameters(source)[0] * scale)
            original = producer(network, name).inputs[2].const_value.numpy()
            np.testing.assert_allclose(run(made, batches[0], [bias.outputs[0].name])[0], original, atol=scale.max() / 2)


def test_equal_scale_operators_share_and_softmax_is_fixed(network, batches) -> None:
    made = int8(network, batches).model
    by_name = {node.outputs[0].name: node for node in made.graph if node.op_type == "QuantizeLinear"}
    for names in (("r2", "p", "cat"), ("g", "f")):
        found = {tuple(float(each) for each in parameters(by_name[f"{name}_quantized"])) for name in names}
        assert len(found) == 1
    scale, zero_point = parameters(by_name["y_quantized"])
    assert (float(scale), int(zero_point)) == (1 / 256, -128)


def test_nothing_is_quantized_before_a_fused_activation(network, batches) -> None:
    made = int8(network, batches).model
    assert [node.op_type for node in producer(made, "c1").outputs[0].consumers()] == ["Relu"]
    assert [node.op_type for node in producer(made, "a").outputs[0].consumers()] == ["Relu"]
    assert [node.op_type for node in producer(made, "r1").outputs[0].consumers()] == ["QuantizeLinear"]


def test_every_quantized_node_reads_dequantized_values(network, batches) -> None:
    made = int8(network, batches).model
    for node in made.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Relu"):
            continue
        for value in node.inputs:
            assert value.dtype != ir.DataType.FLOAT or value.producer().op_type == "DequantizeLinear", node.name


def test_a_float_operator_between_int8_ones_stays_float_and_is_named(build, batches) -> None:
    model = build(
        [
            ("Conv", ("x", "w"), "c", {"kernel_shape": [1, 1]}),
            ("Erf", ("c",), "e", None),
            ("Reshape", ("e", "shape"), "moved", None),
            ("Erf", ("moved",), "e2", None),
            ("Add", ("e2", "k"), "y", None),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        w=np.ones((3, 3, 1, 1), np.float32) / 3,
        shape=np.array([1, 192]),
        k=np.full(192, 0.25, np.float32),
    )
    made = int8(model, batches)
    assert producer(made.model, "e").inputs[0].producer().op_type == "DequantizeLinear"
    # a shape operator between two float ones is left alone
    assert producer(made.model, "moved").inputs[0].name == "e"
    assert producer(made.model, "e2").inputs[0].name == "moved"
    assert [node.op_type for node in producer(made.model, "e2").outputs[0].consumers()] == ["QuantizeLinear"]
    assert any("Erf_1 (Erf)" in note for note in made.notes)
    addend = producer(made.model, "y_float").inputs[1].producer().inputs[0].const_value.numpy()
    assert addend.dtype == np.int8
    np.testing.assert_allclose(run(made.model, batches[0])[0], run(model, batches[0])[0], atol=0.02)


def test_a_prescribed_scale_is_rescaled_where_it_meets_other_data(build, batches) -> None:
    model = build(
        [
            ("Sigmoid", ("x",), "s", None),
            ("Mul", ("x", "k"), "m", None),
            ("Concat", ("s", "m"), "cat", {"axis": 1}),
            ("Sigmoid", ("cat",), "s2", None),
            ("Flatten", ("s2",), "y", None),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        k=np.asarray(7.0, np.float32),
    )
    made = int8(model, batches).model
    concat = producer(made, "cat")
    scales = [parameters(value.producer()) for value in concat.inputs]
    assert scales[0] == scales[1]
    assert scales[0][0] > 1 / 256
    chain = concat.inputs[0].producer().inputs[0].producer()
    assert chain.inputs[0].producer().op_type == "DequantizeLinear"
    assert float(parameters(chain.inputs[0].producer())[0]) == 1 / 256
    # what only a sigmoid feeds keeps the sigmoid's scale, with no rescaling
    flatten = producer(made, "y_float")
    assert float(parameters(flatten.inputs[0].producer())[0]) == 1 / 256
    assert float(parameters(flatten.outputs[0].consumers()[0])[0]) == 1 / 256
    # sigmoid's slope is at most 1/4, and the group's step is 7 * range / 255: half of it, plus 1/256 twice
    np.testing.assert_allclose(run(made, batches[0])[0], run(model, batches[0])[0], atol=0.05)


def test_integers_are_never_touched(build, batches) -> None:
    model = build(
        [
            ("Relu", ("x",), "r", None),
            ("Shape", ("r",), "shape", None),
            ("Gather", ("shape", "first"), "n", {"axis": 0}),
            ("Concat", ("n", "minus"), "target", {"axis": 0}),
            ("Reshape", ("r", "target"), "y", None),
        ],
        {"x": (1, 3, 8, 8)},
        ["y"],
        first=np.array([0]),
        minus=np.array([-1]),
    )
    made = int8(model, batches).model
    for name in ("shape", "n", "target"):
        node = producer(made, name)
        assert not any(user.op_type == "QuantizeLinear" for user in node.outputs[0].consumers())
    assert run(made, batches[0])[0].shape == (1, 192)


def test_a_silent_input_gets_a_safe_scale(network) -> None:
    made = int8(network, [{"x": np.zeros((1, 3, 8, 8), np.float32)}] * 2).model
    assert np.isfinite(run(made, {"x": np.ones((1, 3, 8, 8), np.float32)})[0]).all()


def test_the_same_input_gives_the_same_bytes(network, batches) -> None:
    first, second = (ir.to_proto(int8(network, batches).model).SerializeToString() for _ in range(2))
    assert first == second


def test_auto_keeps_what_measures_better(network, batches) -> None:
    made = int8(network, batches)
    note = next(note for note in made.notes if note.startswith("weights:"))
    assert note.startswith("weights: per-channel")  # channel 2 is 10,000 times smaller than the others
    fixed = int8(network, batches, weights="per-channel").model
    assert ir.to_proto(made.model).SerializeToString() == ir.to_proto(fixed).SerializeToString()


def test_calibration_is_streamed_once(network, batches) -> None:
    seen = []

    def once():
        for feeds in batches:
            seen.append(1)
            yield feeds

    said: list[float] = []
    compress(network, Recipe("int8"), once(), lambda fraction, _: said.append(fraction))
    assert len(seen) == len(batches)
    for data in (once(), batches):
        said.clear()
        compress(network, Recipe("int8"), data, lambda fraction, _: said.append(fraction))
        assert said == sorted(said)
        assert 0 < said[0] <= said[-1] <= 1


def test_int8_without_data_or_twice_is_refused(network, batches) -> None:
    with pytest.raises(DataError, match="calibration data"):
        compress(network, Recipe("int8"), None)
    with pytest.raises(DataError, match="not one batch"):
        compress(network, Recipe("int8"), [])
    made = int8(network, batches).model
    with pytest.raises(UsageError, match="already quantized"):
        int8(made, batches)
    assert ir.to_proto(compress(made, Recipe("fp32"), None).model) == ir.to_proto(made)


def test_a_model_that_overflows_on_every_input_is_refused(network) -> None:
    with pytest.raises(DataError, match="x is NaN or infinite"):
        int8(network, [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}])
