"""A channels-last graph computes what the hub graph computes, in every tensor, on random graphs and real networks.

The new graph is made executable again by wrapping each channels-last operator in Transposes; onnxruntime runs both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import layout_sketches as sketches
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, shape_inference, version_converter

from haversack.convert.targets.tflite.layout import CHANNELS_LAST, Layout, assign

Array = np.ndarray[Any, np.dtype[Any]]

DEPTH = int(os.environ.get("HAVERSACK_LAYOUT_EXAMPLES", "1"))
"""How many times as many examples as usual: `HAVERSACK_LAYOUT_EXAMPLES=50` is a deep run."""


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], wanted: list[str]) -> dict[str, Array]:
    """Run a graph by onnxruntime without optimisations, with any of its values as outputs."""
    import onnxruntime as ort

    model = onnx.ModelProto.FromString(model.SerializeToString())
    model = shape_inference.infer_shapes(model, strict_mode=True)
    types = {info.name: info for info in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    del model.graph.output[:]
    model.graph.output.extend(types[name] for name in wanted)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, dict(feeds)), strict=True))


def executable(model: ir.Model) -> onnx.ModelProto:
    """Plain ONNX again: each channels-last operator between two Transposes. Declared inner shapes are dropped."""
    proto = ir.to_proto(model)
    nodes = list(proto.graph.node)
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    }
    del proto.graph.node[:]
    for number, node in enumerate(nodes):
        if node.domain != CHANNELS_LAST:
            proto.graph.node.append(node)
            continue
        node.domain = ""
        rank = ranks[node.input[0]]
        first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
        before = helper.make_node("Transpose", [node.input[0]], [f"first_{number}"], perm=first)
        after = helper.make_node("Transpose", [f"last_{number}"], [node.output[0]], perm=last)
        node.input[0], node.output[0] = f"first_{number}", f"last_{number}"
        proto.graph.node.extend([before, node, after])
    del proto.graph.value_info[:]
    for entry in list(proto.opset_import):
        if entry.domain == CHANNELS_LAST:
            proto.opset_import.remove(entry)
    return proto


def check(proto: onnx.ModelProto, feeds: Mapping[str, Array], inexact: set[str], io_layout: Any = "keep") -> Layout:
    """Assign, run both graphs and compare every tensor of the hub with its place in the new graph."""
    hub = shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    model = ir.from_proto(hub)
    original = ir.to_proto(model).SerializeToString(deterministic=True)
    layout = assign(model, io_layout)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == original, "the hub graph was changed"
    assert layout.bytes <= naive(hub), "dearer than a transpose before and after each spatial operator"
    assert sum(t.bytes for t in layout.transposes.values()) == transposed(layout.model)
    assert all(t.reason and "cheaper so" not in t.reason for t in layout.transposes.values())
    values = [name for node in proto.graph.node for name in node.output]
    expected = run(hub, feeds, values)
    new_feeds = {n: a.transpose(layout.inputs[n]) if n in layout.inputs else a for n, a in feeds.items()}
    names = sorted({layout.places[name].name for name in values} - set(feeds))
    outputs = [info.name for info in proto.graph.output]
    found = run(executable(layout.model), new_feeds, list(dict.fromkeys(names + outputs))) | new_feeds
    declared = {value.name: value for node in layout.model.graph for value in node.outputs}
    for name in values:
        place = layout.places[name]
        want = expected[name] if place.permutation is None else expected[name].transpose(place.permutation)
        compare(name, found[place.name], want, name in inexact)
        if place.name in declared:
            assert tuple(declared[place.name].shape or ()) == want.shape, name
    for info, value in zip(proto.graph.output, layout.model.graph.outputs, strict=True):
        assert info.name == value.name
        order = layout.outputs.get(info.name)
        want = expected[info.name] if order is None else expected[info.name].transpose(order)
        compare(info.name, found[info.name], want, info.name in inexact)
    if io_layout == "keep":
        assert not layout.inputs
        assert not layout.outputs
    return layout


SPATIAL = {"Conv", "MaxPool", "GlobalMaxPool", "Resize", "DepthToSpace", "GlobalAveragePool", "AveragePool"}
ALONG_LAST = {"Softmax", "LogSoftmax", "TopK"}


def naive(hub: onnx.ModelProto) -> int:
    """Bytes that transposes move where one stands before and after every operator that needs it, and none cancels.

    Spatial operators need channels-last data; a kernel that works along the last axis needs it last. Transposes of the
    model stay.
    """
    sizes = {}
    for info in (*hub.graph.value_info, *hub.graph.input, *hub.graph.output):
        kind = info.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        item = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        sizes[info.name] = (item * int(np.prod(shape)), len(shape))
    total = 0
    for node in hub.graph.node:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Transpose":
            total += sizes[node.output[0]][0]
        elif node.op_type in SPATIAL or (
            node.op_type in ALONG_LAST and given.get("axis", -1) not in (-1, sizes[node.input[0]][1] - 1)
        ):
            total += sum(sizes[name][0] for name in (node.input[0], *node.output) if name)
    return total


def transposed(model: ir.Model) -> int:
    """Bytes of all the Transposes in a graph, counted from its shapes."""
    results = [node.outputs[0] for node in model.graph if node.op_type == "Transpose"]
    return sum(int(np.prod([int(d) for d in value.shape or ()])) * value.dtype.itemsize for value in results)  # type: ignore[union-attr, arg-type]


def compare(name: str, found: Array, want: Array, inexact: bool) -> None:
    assert found.shape == want.shape, name
    assert found.dtype == want.dtype, name
    if inexact:
        # Softmax and LayerNormalization over at most 400 numbers may add in another order: 400 * 2**-24 = 2.4e-5 of the
        # largest; the operators allowed after them select, or add two such values, at most twice in a row.
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-4 * max(1.0, np.abs(want).max(initial=0)), err_msg=name)
    else:
        np.testing.assert_array_equal(found, want, err_msg=name)


@given(sketches.sketches(), st.sampled_from(["keep", "channels-last"]))
@settings(max_examples=120 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_graphs_compute_the_same(case: tuple[Any, list[str]], io_layout: str) -> None:
    sketch, outputs = case
    if not outputs:
        return
    model = sketch.model(outputs)
    note(onnx.printer.to_text(model))
    check(model, sketch.inputs, sketch.inexact, io_layout)


@pytest.mark.parametrize("rule", dict.fromkeys(sketches.SPATIAL + sketches.FREE), ids=lambda rule: rule.__name__)
@given(st.data())
@settings(max_examples=10 * DEPTH, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_operator_between_convolutions_computes_the_same(rule: Any, data: st.DataObject) -> None:
    sketch, outputs = data.draw(sketches.between_convolutions(rule))
    check(sketch.model(outputs), sketch.inputs, sketch.inexact)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v2", "resnet50", "densenet121"])
def test_real_networks_compute_the_same(name: str) -> None:
    """Architectures of onnx's light models with random weights; every tensor is compared, bit for bit."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    proto = version_converter.convert_version(onnx.load(folder / f"light_{name}.onnx"), 21)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    random = np.random.default_rng(0)
    nodes = []
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        shape = tuple(shapes[node.input[0]])
        # Positive, for they may be variances; of the size that keeps activations near 1.
        weight = (random.random(shape) + 0.5) * (random.choice([-1, 1], shape) if len(shape) > 1 else 1)
        weight /= np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 1
        proto.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), node.output[0]))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.ir_version = 10  # before version 4 every initializer had to be an input
    read = {name for node in nodes for name in node.input}
    for tensor in [tensor for tensor in proto.graph.initializer if tensor.name not in read]:
        proto.graph.initializer.remove(tensor)
    feeds = [info for info in proto.graph.input if info.name not in shapes]
    del proto.graph.input[:]
    proto.graph.input.extend(feeds)
    image = random.standard_normal([dim.dim_value for dim in feeds[0].type.tensor_type.shape.dim]).astype(np.float32)
    # Softmax over the 1 x 1 image's channels and over a vector add in the same order, so nothing is inexact.
    check(proto, {feeds[0].name: image}, set())
