"""A subgraph of a control-flow node as a model of its own."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

Given = tuple[tuple[int, ...], ir.DataType | None]
"""What a subgraph is called with: a static shape and, where known, an element type."""


def closed(graph: ir.Graph, given: Sequence[Given]) -> tuple[ir.Model, list[ir.Value]]:
    """Make a subgraph independent of the graph around it, and simplify it for inputs of these sizes.

    Args:
        graph: The subgraph; it is not changed. Values it reads from outside become further inputs of the model, after
            its own, or initializers where they are constants (which are shared, not copied).
        given: The shape and element type of each of its own inputs.

    Returns:
        The model, and the values of the enclosing graphs that its further inputs are.
    """
    from haversack.convert.hub import IR_VERSION, OPSET, shapes
    from haversack.convert.hub.passes import simplify

    copy = graph.clone(allow_outer_scope_values=True)
    known = {*copy.inputs, *copy.initializers.values()}
    nodes = list(RecursiveGraphIterator(copy))
    for node in nodes:
        known.update(node.outputs)
        for inner in (a.as_graph() for a in node.attributes.values() if a.type is ir.AttributeType.GRAPH):
            known.update((*inner.inputs, *inner.initializers.values()))
    for own, (size, dtype) in zip(copy.inputs, given, strict=True):
        own.shape = ir.Shape(size)
        own.type = own.type if dtype is None else ir.TensorType(dtype)
    captured: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        for place, value in enumerate(node.inputs):
            if value is None or value in known or not (value.name or value.producer()):
                continue
            if value not in captured:
                inside = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
                captured[value] = inside
                if value.is_initializer() and value.const_value is not None:
                    copy.register_initializer(inside)
                else:
                    inside.const_value = None
                    copy.inputs.append(inside)
            node.replace_input_with(place, captured[value])
    copy.opset_imports.update(dict.fromkeys((node.domain for node in nodes), 1))  # named, never looked up
    copy.opset_imports[""] = OPSET
    model = ir.Model(copy, ir_version=IR_VERSION)
    simplify(shapes.infer(model))
    return model, [value for value, inside in captured.items() if inside.is_graph_input()]


def inline(graph: ir.Graph, given: Sequence[ir.Value | None], before: ir.Node, prefix: str) -> list[ir.Value]:
    """Put the nodes of a subgraph before a node of an enclosing graph.

    Args:
        graph: A subgraph of its own, which is empty afterwards.
        given: What its inputs are.
        before: The node.
        prefix: Of the names that its nodes, values and initializers get.

    Returns:
        What its outputs are.
    """
    outer = before.graph
    assert outer is not None
    for own, value in zip(list(graph.inputs), given, strict=True):
        if value is not None:
            own.replace_all_uses_with(value, replace_graph_outputs=True)
    outputs = list(graph.outputs)
    graph.outputs.clear()
    for value in list(graph.initializers.values()):
        del graph.initializers[value.name or ""]
        value.name = f"{prefix}/{value.name}"
        outer.register_initializer(value)
    inner = list(graph)
    graph.remove(inner)
    for node in inner:
        node.name = f"{prefix}/{node.name}"
        for value in node.outputs:
            if value.name:
                value.name = f"{prefix}/{value.name}"
    outer.insert_before(before, inner)
    return outputs


def always_true(graph: ir.Graph, output: int, given: int) -> bool:
    """Whether an output of a subgraph is true whenever its input number `given` is: that input, or a true constant."""
    value: ir.Value | None = graph.outputs[output]
    while value is not None and (node := value.producer()) is not None and node.op_type == "Identity":
        value = node.inputs[0]
    if value is None or value is graph.inputs[given]:
        return value is not None
    return value.is_initializer() and value.const_value is not None and bool(value.const_value.numpy().all())
