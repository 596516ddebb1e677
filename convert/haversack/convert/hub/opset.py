"""Bringing a graph to the pinned opset, from below and from above."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.errors import Blocker, SourceError, UnsupportedError
from haversack.convert.hub import IR_VERSION, OPSET, shapes
from haversack.convert.hub.function_body import expand
from haversack.convert.hub.functions import first_line, inline_functions
from haversack.convert.hub.skeleton import restore, skeleton
from haversack.runtimes.engines import Array

PREVIEW = "ai.onnx.preview"
"""Operators that onnx tries out; a target lowers none of them, but they have function bodies."""


def to_pinned(model: ir.Model) -> ir.Model:
    """Bring `model` to the pinned opset, its model-local functions inlined.

    Args:
        model: A graph whose nodes and values are named uniquely; it may be changed.

    Returns:
        The model at `hub.OPSET`: the same object, or a new one that shares the weights.

    Raises:
        SourceError: The model's opset is unknown, or its nodes do not fit the opset that it declares.
        UnsupportedError: A newer node can neither be said at the pinned opset nor be expanded.
    """
    inline_functions(model)
    expand(model, model.opset_imports.get("", OPSET), _is_preview)
    version = model.opset_imports.setdefault("", OPSET)
    if version < OPSET:
        model = _raised(model, version)
    elif version > OPSET:
        from haversack.convert.hub.opset_down import lower

        lower(model, version)
    for graph in model.graphs():
        for node in graph:
            if node.op_type == "STFT" and node.domain == "":  # onnx's inference forgets the default
                node.attributes.setdefault("onesided", ir.AttrInt64("onesided", 1))
    model.opset_imports[""] = OPSET
    model.graph.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION
    return model


def _is_preview(node: ir.Node) -> bool:
    """Whether it can be expanded: onnx-ir inlines no functions that take graphs."""
    graphs = any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())
    return node.domain == PREVIEW and not graphs


def _raised(model: ir.Model, version: int) -> ir.Model:
    import onnx.version_converter

    if version < 9 and (scans := [node for graph in model.graphs() for node in graph if node.op_type == "Scan"]):
        # Opset 8's Scan has a batch axis and sequence lengths; the converter passes it on as if it had not.
        remedy = "export the model at opset 9 or later"
        raise UnsupportedError("the hub", [Blocker(n.name or "Scan", "Scan", "opset 8's form", remedy) for n in scans])
    model.ir_version = IR_VERSION  # below IR version 4 the converter looks for initializers among the inputs only
    proto, weights = skeleton(model)
    try:
        proto = onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # RuntimeError, ConvertError and others of the C++ side
        raise SourceError(f"the model cannot be brought from opset {version} to {OPSET}: {first_line(error)}") from None
    raised = restore(ir.from_proto(proto), weights)
    if version < 7:
        shapes.infer(raised)
        for graph in raised.graphs():
            for node in graph:
                if node.op_type == "PRelu" and node.domain == "":
                    _old_prelu(node)
    if version < 11:
        for graph in raised.graphs():
            for node in graph:
                if node.op_type == "Resize" and node.domain == "":
                    _old_resize(node)
    if version < 13:
        for graph in raised.graphs():
            for node in list(graph):
                if node.op_type == "Hardmax" and node.domain == "":
                    _old_hardmax(node)
    return raised


def _old_prelu(node: ir.Node) -> None:
    """Up to opset 6 a slope of one number a channel lay along axis 1; since then it is aligned to the last axes."""
    x, slope = node.inputs
    if x is None or slope is None or x.shape is None or slope.shape is None:
        return
    if len(slope.shape) == 1 and slope.shape[0] != 1 and len(x.shape) > 2:
        axes = ir.node("Constant", [], attributes={"value_ints": list(range(1, len(x.shape) - 1))})
        unsqueeze = ir.node("Unsqueeze", [slope, axes.outputs[0]])
        assert node.graph is not None
        node.graph.insert_before(node, [axes, unsqueeze])
        node.replace_input_with(1, unsqueeze.outputs[0])


def _old_hardmax(node: ir.Node) -> None:
    """Up to opset 12 all axes from `axis` (1 by default) on were one; the version converter says so of Softmax only."""
    x, y = node.inputs[0], node.outputs[0]
    shape = ir.node("Shape", [x])
    flat = ir.node("Flatten", [x], attributes={"axis": node.attributes.get_int("axis", 1)})
    back = ir.node("Reshape", [y, shape.outputs[0]], name=f"{node.name}/Reshape")
    assert node.graph is not None
    node.graph.insert_before(node, [shape, flat])
    node.graph.insert_after(node, back)
    node.replace_input_with(0, flat.outputs[0])
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    result, name = back.outputs[0], y.name
    y.replace_all_uses_with(result, replace_graph_outputs=True)
    back.replace_input_with(0, y)
    result.type, result.shape, result.name = y.type, y.shape, name
    y.name, y.shape = None, None


def _old_resize(node: ir.Node) -> None:
    """Say on a Resize what Resize and Upsample meant up to opset 10.

    Output x came from input x / scale: rounded down when enlarging, up when shrinking (what onnxruntime computes, and
    ONNX's tests of opset 10 expect). The version converter leaves opset 11's default, half_pixel, which is another
    picture in every mode but 2x nearest.
    """
    scales = _held(node.inputs[2]) if len(node.inputs) > 2 else None
    shrinks = scales is not None and bool((scales < 1).any())
    if shrinks and scales is not None and (scales > 1).any() and node.attributes.get_string("mode", "") != "linear":
        raise SourceError(
            f"{node.name or 'Resize'} enlarges one axis and shrinks another, which newer opsets cannot say: export it"
            f" at opset {OPSET}"
        )
    for name, value in (
        ("coordinate_transformation_mode", "asymmetric"),
        ("nearest_mode", "ceil" if shrinks else "floor"),
    ):
        node.attributes[name] = ir.AttrString(name, value)


def _held(value: ir.Value | None) -> Array | None:
    """What an initializer or a Constant node holds."""
    if value is None:
        return None
    producer = value.producer()
    if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        return producer.attributes["value"].as_tensor().numpy()
    return value.const_value.numpy() if value.const_value is not None else None
