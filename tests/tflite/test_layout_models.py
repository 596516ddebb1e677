"""How many Transposes real and Keras-style networks keep, and what becomes of constants, captures and reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from haversack.convert.targets.tflite.layout import CHANNELS_LAST, assign
from haversack.convert.targets.tflite.layout_blocks import OUT, Free, Slot
from haversack.convert.targets.tflite.layout_rules import classify

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
FLOAT = TensorProto.FLOAT


def light(name: str) -> ir.Model:
    """One of onnx's light models: real architectures whose weights are made by ConstantOfShape nodes."""
    proto = version_converter.convert_version(onnx.load(LIGHT / f"light_{name}.onnx"), 21)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [info for info in proto.graph.input if info.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    model = ir.from_proto(shape_inference.infer_shapes(proto, data_prop=True))
    for number, node in enumerate(list(model.graph)):
        node.name = node.name or f"n{number}"
        if node.op_type != "ConstantOfShape":
            continue
        shape = node.inputs[0].const_value.numpy()  # type: ignore[union-attr]
        name = node.outputs[0].name
        node.outputs[0].name = f"{name}_made"
        # Only shape and type of a weight matter here.
        array = np.broadcast_to(np.float32(1), shape)
        weight = ir.Value(
            name=name, shape=ir.Shape(shape), type=node.outputs[0].type, const_value=ir.tensor(array, name=name)
        )
        model.graph.register_initializer(weight)
        node.outputs[0].replace_all_uses_with(weight)
        model.graph.remove(node)
    return model


@pytest.mark.parametrize(
    ("name", "inserted", "own"),
    [
        # The input keeps its order, and so does flattening for a dense layer where the image is larger than 1 × 1.
        ("densenet121", 1, 0),
        ("resnet50", 1, 0),
        ("inception_v1", 1, 0),
        ("inception_v2", 1, 0),
        ("squeezenet", 1, 0),
        ("bvlc_alexnet", 2, 0),
        ("vgg19", 2, 0),
        # Sixteen channel shuffles: swapping groups and channels moves bytes in either order.
        ("shufflenet", 1, 16),
    ],
)
def test_transposes_left_in_real_networks(name: str, inserted: int, own: int) -> None:
    layout = assign(light(name))
    reasons = [transposition.reason for transposition in layout.transposes.values()]
    assert len(reasons) == inserted + own
    assert sum("the model's own" in reason for reason in reasons) == own
    assert len([node for node in layout.model.graph if node.op_type == "Transpose"]) == inserted + own
    free = assign(light(name), "channels-last")
    assert list(free.inputs.values()) == [(0, 2, 3, 1)]
    assert len(free.transposes) == inserted + own - 1


def build(nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], outputs: list[str], **constants: Any) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "built",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(shape_inference.infer_shapes(model, strict_mode=True))


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"{op}_{outputs[0]}", **attributes)


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


KERNEL = np.ones((3, 3, 1, 1), np.float32)


def test_a_keras_style_network_keeps_no_transpose() -> None:
    """Channels-last input, channels-first convolutions with a residual, flattening and a dense layer."""
    model = build(
        [
            node("Sub", ["image", "mean"], ["centred"]),
            node("Transpose", ["centred"], ["first"], perm=[0, 3, 1, 2]),
            node("Conv", ["first", "kernel"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "kernel"], ["c"]),
            node("Add", ["c", "b"], ["d"]),
            node("Transpose", ["d"], ["last"], perm=[0, 2, 3, 1]),
            node("Mul", ["last", "scale"], ["scaled"]),
            node("Reshape", ["scaled", "shape"], ["flat"]),
            node("Gemm", ["flat", "dense"], ["scores"]),
        ],
        {"image": [1, 4, 4, 3]},
        ["scores", "last"],
        mean=np.float32([1, 2, 3]),
        kernel=KERNEL,
        scale=np.float32([3, 2, 1]),
        shape=np.int64([1, 48]),
        dense=np.ones((48, 2), np.float32),
    )
    layout = assign(model)
    assert ops(layout.model) == ["Sub", "Conv", "Relu", "Conv", "Add", "Mul", "Reshape", "Gemm"]
    assert not layout.transposes
    assert layout.places["first"].name == "centred"
    assert layout.places["first"].permutation == (0, 2, 3, 1)
    assert layout.places["centred"].permutation is None
    assert layout.places["d"].name == "last"
    assert [value.name for value in layout.model.graph.outputs] == ["scores", "last"]
    assert layout.model.opset_imports[CHANNELS_LAST] == 1


def test_the_encoder_of_a_vision_transformer_keeps_no_transpose_of_its_patches() -> None:
    model = build(
        [
            node("Conv", ["image", "kernel"], ["patches"], strides=[2, 2]),
            node("Reshape", ["patches", "shape"], ["merged"]),
            node("Transpose", ["merged"], ["tokens"], perm=[0, 2, 1]),
            node("Add", ["tokens", "position"], ["embedded"]),
            node("LayerNormalization", ["embedded", "gamma"], ["normal"], axis=-1),
            node("MatMul", ["normal", "query"], ["out"]),
        ],
        {"image": [1, 3, 4, 4]},
        ["out"],
        kernel=np.ones((6, 3, 2, 2), np.float32),
        shape=np.int64([1, 6, 4]),
        position=np.ones((1, 4, 6), np.float32),
        gamma=np.ones(6, np.float32),
        query=np.ones((6, 6), np.float32),
    )
    layout = assign(model, "channels-last")
    assert ops(layout.model) == ["Conv", "Reshape", "Add", "LayerNormalization", "MatMul"]
    assert layout.inputs == {"image": (0, 2, 3, 1)}
    assert not layout.outputs


def test_a_tensor_is_transposed_once_for_all_its_readers_and_the_reason_names_both_sides() -> None:
    readers = [node("Conv", ["x", "kernel"], [f"c{i}"]) for i in range(3)]
    pinned = [node("Einsum", [f"c{i}"], [f"e{i}"], equation="nchw->nchw") for i in range(1)]
    model = build([*readers, *pinned], {"x": [1, 3, 4, 5]}, ["e0"], kernel=KERNEL)
    layout = assign(model)
    assert [(t.value, t.bytes) for t in layout.transposes.values()] == [("x", 240), ("c0", 240)]
    first, second = (t.reason for t in layout.transposes.values())
    assert first == "input x keeps its order; Conv_c0 (Conv) is channels-last"
    assert second.startswith(
        "Conv_c0 (Conv) is channels-last; Einsum_e0 (Einsum) keeps the logical order: no layout rule"
    )


def test_in_a_quantized_graph_the_integers_are_transposed() -> None:
    def quantized(name: str) -> list[onnx.NodeProto]:
        parameters = ["step", "zero"]
        return [
            node("QuantizeLinear", [name, *parameters], [f"{name}_quantized"]),
            node("DequantizeLinear", [f"{name}_quantized", *parameters], [f"{name}_dequantized"]),
        ]

    model = build(
        [*quantized("x"), node("Conv", ["x_dequantized", "kernel"], ["y"]), *quantized("y")],
        {"x": [1, 3, 4, 5]},
        ["y_dequantized"],
        kernel=KERNEL,
        step=np.float32(0.5),
        zero=np.int8(0),
    )
    layout = assign(model)
    assert [(t.value, t.bytes) for t in layout.transposes.values()] == [("x_quantized", 60), ("y_quantized", 60)]
    assert ops(layout.model) == [
        "QuantizeLinear", "Transpose", "DequantizeLinear", "Conv", "QuantizeLinear", "Transpose", "DequantizeLinear",
    ]  # fmt: skip


def test_encoded_constants_are_moved_offline() -> None:
    """float16 and int8 constants of a binary operator: their decoder stays, their bytes are transposed."""
    half = np.arange(60).reshape(1, 3, 4, 5).astype(np.float16)
    small = np.arange(3).reshape(3, 1, 1).astype(np.int8)
    model = build(
        [
            node("Cast", ["half"], ["whole"], to=FLOAT),
            node("DequantizeLinear", ["small", "steps", "zeros"], ["factors"], axis=0),
            node("Conv", ["x", "kernel"], ["a"]),
            node("Add", ["a", "whole"], ["b"]),
            node("Mul", ["b", "factors"], ["c"]),
            node("GlobalAveragePool", ["c"], ["d"]),
        ],
        {"x": [1, 3, 4, 5]},
        ["d"],
        kernel=KERNEL,
        half=half,
        small=small,
        steps=np.float32([1, 2, 3]),
        zeros=np.int8([0, 0, 0]),
    )
    layout = assign(model)
    assert [t.value for t in layout.transposes.values()] == ["x"]
    made = {node.op_type: node for node in layout.model.graph if node.outputs[0].uses()}
    added = made["Add"].inputs[1]
    assert added is not None
    decoder = added.producer()
    assert decoder is not None
    assert decoder.inputs[0] is not None
    np.testing.assert_array_equal(decoder.inputs[0].const_value.numpy(), half.transpose(0, 2, 3, 1)[0])  # type: ignore[union-attr]
    factors = made["Mul"].inputs[1]
    assert factors is not None
    assert tuple(factors.shape or ()) == (3,)
    decoder = factors.producer()
    assert decoder is not None
    assert decoder.attributes["axis"].as_int() == 0


def test_a_nested_graph_reads_what_it_captures_in_logical_order() -> None:
    branch = helper.make_graph(
        [node("Identity", ["a"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, [1, 3, 4, 5])],
    )
    model = build(
        [
            node("Conv", ["x", "kernel"], ["a"]),
            node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch),
            node("GlobalMaxPool", ["a"], ["pooled"]),
        ],
        {"x": [1, 3, 4, 5]},
        ["chosen", "pooled"],
        kernel=KERNEL,
        yes=np.bool_(True),
    )
    layout = assign(model)
    assert [t.value for t in layout.transposes.values()] == ["x", "a"]
    inner = [node for graph in layout.model.graphs() if graph is not layout.model.graph for node in graph]
    assert [node.inputs[0].name for node in inner] == ["a_channels_first"] * 2  # type: ignore[union-attr]
    onnx.checker.check_model(_without_domain(layout.model))


def _without_domain(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    for each in proto.graph.node:
        each.domain = ""
    return proto


def test_operators_that_name_positions_in_memory_stay_logical() -> None:
    """The second output of a MaxPool counts elements in logical order; a Resize of channels is no spatial operator."""
    model = build(
        [
            node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2]),
            node("Cast", ["where"], ["z"], to=FLOAT),
            node("Resize", ["x", "", "scales"], ["u"]),
        ],
        {"x": [1, 3, 4, 5]},
        ["y", "z", "u"],
        scales=np.float32([1, 2, 1, 1]),
    )
    layout = assign(model)
    assert all(node.domain == "" for node in layout.model.graph)
    assert not layout.transposes


@pytest.mark.parametrize(
    ("before", "after", "order", "expected"),
    [
        ((2, 6, 4, 5), (2, 3, 2, 4, 5), (0, 2, 3, 1), (0, 3, 4, 1, 2)),  # split channels
        ((2, 6, 4, 5), (2, 6, 20), (0, 2, 3, 1), (0, 2, 1)),  # merge the spatial axes
        ((2, 6, 4, 5), (2, 120), (0, 2, 3, 1), None),  # the channels are on the wrong side of the pixels
        ((2, 6, 4, 5), (2, 120), (0, 1, 3, 2), None),  # ... or the pixels in the wrong order
        ((2, 6, 1, 1), (2, 6), (0, 2, 3, 1), (0, 1)),  # a pooled image
        ((2, 6), (2, 6, 1, 1), (0, 1), (0, 1, 2, 3)),
        ((2, 6, 4, 5), (2, 3, 8, 5), (0, 2, 3, 1), None),  # pixels move into channels
        ((2, 6, 4, 5), (12, 4, 5), (0, 2, 3, 1), None),
    ],
)
def test_what_an_order_becomes_behind_a_reshape(
    before: tuple[int, ...], after: tuple[int, ...], order: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    model = build([node("Reshape", ["x", "shape"], ["y"])], {"x": list(before)}, ["y"], shape=np.int64(after))
    rule = classify(next(iter(model.graph)))
    assert isinstance(rule, Free)
    found = rule.spread(Slot(False, 0), order)
    assert (found and found[OUT]) == expected
    if expected is not None:  # numpy agrees that only a reshape lies between them
        x = np.arange(np.prod(before)).reshape(before)
        y = x.reshape(after).transpose(expected)
        np.testing.assert_array_equal(x.transpose(order).reshape(y.shape), y)


def test_two_runs_give_the_same_bytes() -> None:
    once, again = (ir.to_proto(assign(light("shufflenet")).model).SerializeToString() for _ in range(2))
    assert once == again
