"""Mixed precision in an `.onnx`: what onnxruntime runs once it has optimised the file, and on which numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from mixed_weights import with_weights
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.compress import compress
from haversack.convert.compress.mixed import apply_plan, observe_model
from haversack.convert.compress.plan import Plan
from haversack.convert.compress.recipes import Recipe
from haversack.convert.targets import Options, Written, open_target

TARGET = open_target("ort")

Feeds = list[dict[str, np.ndarray]]


@pytest.fixture
def feeds() -> Feeds:
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(8)]


@pytest.fixture
def floats() -> ir.Model:
    """Convolutions with and without a Relu, a depthwise one, a dense layer."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2", "b1"], ["c2"], pads=[1, 1, 1, 1], group=16, name="depthwise"),
        helper.make_node("Conv", ["c2", "w3", "b1"], ["c3"], name="pointwise"),
        helper.make_node("GlobalAveragePool", ["c3"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w4", "b2"], ["y"], transB=1, name="dense"),
    ]
    shapes = {"w1": (16, 4, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1), "w4": (5, 16), "b1": (16,), "b2": (5,)}
    arrays = {name: (random.normal(size=shape) / 4).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


@pytest.fixture(params=["per-channel", "per-tensor"])
def hub(request: pytest.FixtureRequest, floats: ir.Model, feeds: Feeds) -> ir.Model:
    """All in int8."""
    return compress(floats, Recipe("int8", weights=request.param), feeds).model


def outputs(content: bytes, feeds: Feeds, *, optimised: bool, save: Path | None = None) -> np.ndarray:
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if optimised else levels.ORT_DISABLE_ALL
    if save is not None:
        options.optimized_model_filepath = str(save)
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, each)[0] for each in feeds])


def agrees(model: ir.Model, feeds: Feeds, folder: Path) -> tuple[Written, Counter[str]]:
    """Write the graph, assert that the file computes what it does to an LSB, and tell what onnxruntime runs."""
    written = TARGET.write(model, "int8", folder / "m.onnx", Options())
    seen = folder / "seen.onnx"
    found = outputs(written.path.read_bytes(), feeds, optimised=True, save=seen)
    expected = outputs(ir.to_proto(model).SerializeToString(), feeds, optimised=False)
    scale = float(model.graph.initializers["y_scale"].const_value.numpy())  # type: ignore[union-attr]
    assert np.abs(found - expected).max() <= 1.01 * scale
    return written, Counter(node.op_type for node in onnx.load(seen).graph.node)


@pytest.mark.parametrize("form", ["int4", "palette2", "palette4", "palette6"])
def test_small_weights_run_in_the_same_integer_kernels(form: str, hub: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    written, ops = agrees(with_weights(hub, {"*": form}), feeds, tmp_path)
    assert ops["QLinearConv"] == 3
    assert ops["QGemm"] == 1
    assert not {"Conv", "Gemm", "Cast", "Gather"} & set(ops)
    types = {each.data_type for each in onnx.load(written.path).graph.initializer}
    assert ({TensorProto.INT4, TensorProto.UINT4} & types != set()) == (form != "palette6")


def test_int4_is_stored_raw_at_half_a_byte(hub: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    written, _ = agrees(with_weights(hub, {"first": "int4"}), feeds, tmp_path)
    stored = next(each for each in onnx.load(written.path).graph.initializer if each.data_type == TensorProto.INT4)
    assert len(stored.raw_data) == 16 * 4 * 9 // 2


@pytest.mark.parametrize("form", ["float", "int4-block2"])
def test_a_float_layer_stays_float(form: str, hub: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    """Left alone onnxruntime makes int8 of the weights, one scale a tensor: other numbers than were asked for."""
    chosen = {"first": form, "pointwise": form, "dense": form}
    model = with_weights(hub, chosen)
    for node in model.graph:  # weights that int8 cannot hold, so that it would be seen
        if form == "float" and node.name in chosen:
            held = node.inputs[1].const_value.numpy().copy()  # type: ignore[union-attr]
            held.reshape(-1)[0] *= 40
            node.inputs[1].const_value = ir.Tensor(held, name=node.inputs[1].name)  # type: ignore[union-attr]
    _, ops = agrees(model, feeds, tmp_path)
    assert ops["QLinearConv"] == 1
    assert ops["Conv"] + ops["FusedConv"] == 2
    assert ops["FusedGemm"] + ops["Gemm"] == 1
    assert ops["LeakyRelu"] == 0  # computed inside


def test_layers_keep_the_hubs_names(hub: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    forms = {"first": "int4", "depthwise": "int8", "pointwise": "float", "dense": "palette4"}
    written, _ = agrees(with_weights(hub, forms), feeds, tmp_path)
    assert [layer.name for layer in written.layers if layer.op in ("Conv", "Gemm")] == list(forms)
    taps = {tap.value for layer in written.layers for tap in layer.outputs}
    assert {"r1_quantized", "c2_quantized", "c3_quantized", "y_quantized"} <= taps


def test_weights_in_blocks_fold(hub: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    model = with_weights(hub, {"first": "int4-block2"})
    written = TARGET.write(model, "int8", tmp_path / "m.onnx", Options())
    held = {tuple(each.dims)[1:] for each in onnx.load(written.path).graph.initializer}
    assert (2, 1, 1, 1) in held  # a scale a block, not one a kernel tap
    _, ops = agrees(model, feeds, tmp_path)
    assert not {"Mul", "Cast"} & set(ops)


def test_int16_activations_are_what_the_hub_computes(floats: ir.Model, feeds: Feeds, tmp_path: Path) -> None:
    observed = observe_model(floats, lambda: feeds)
    model = apply_plan(floats, Plan("int16", arithmetic="int16"), observed)[0]
    written = TARGET.write(model, "int16", tmp_path / "m.onnx", Options(ort_format=False))
    found = outputs(written.path.read_bytes(), feeds, optimised=True)
    expected = outputs(ir.to_proto(model).SerializeToString(), feeds, optimised=False)
    scale = float(model.graph.initializers["y_scale"].const_value.numpy())  # type: ignore[union-attr]
    assert np.abs(found - expected).max() <= 1.01 * scale
    types = {each.data_type for each in onnx.load(written.path).graph.initializer}
    assert TensorProto.INT16 in types
    assert any("no kernels for int16" in note for note in written.notes)
