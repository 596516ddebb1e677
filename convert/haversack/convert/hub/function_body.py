"""Replacing an operator by the function that ONNX defines it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from haversack.convert.hub import OPSET

if TYPE_CHECKING:
    import onnx.defs

_MAX_DEPTH = 8
"""Bodies nest (Attention holds Softmax, SequenceMap holds Loop); ONNX's own nest three deep."""


DOMAINS = ("", "ai.onnx.preview")
"""Domains whose operators onnx itself defines."""


def expand(model: ir.Model, version: int, wanted: Callable[[ir.Node], bool]) -> bool:
    """Inline the ONNX function body of every node that is `wanted`, in place, bodies inside bodies too.

    Args:
        model: A graph whose nodes and values are named.
        version: The opset by which the nodes are to be understood.
        wanted: Says of a node of one of `DOMAINS` whether it should be expanded. A node without a body (of its
            operator, or for the types it has) stays.

    Returns:
        Whether anything changed.
    """
    changed = False
    for _ in range(_MAX_DEPTH):
        called = 0
        for graph in list(model.graphs()):
            for node in list(graph):
                known = version if node.domain == "" else model.opset_imports.get(node.domain, 1)
                if node.domain in DOMAINS and not node.overload and wanted(node) and _call_body(model, node, known):
                    called += 1
        if not called:
            break
        InlinePass()(model)
        changed = True
    return changed


def _call_body(model: ir.Model, node: ir.Node, version: int) -> bool:
    """Turn `node` into a call of its own copy of the body, registered with the model; False where there is none."""
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return False
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.from_proto(attribute.default_value)
    body = _body(schema, node)
    if body is None:
        return False
    # Context-dependent bodies differ from node to node: the overload keeps them apart until they are inlined.
    node.overload = f"of {node.name}"
    inner = ir.serde.deserialize_function(body)
    function = ir.Function(
        node.domain, node.op_type, node.overload, graph=inner.graph, attributes=list(inner.attributes.values())
    )
    function.opset_imports[""] = model.opset_imports.get("", OPSET)
    _name(function, node)
    if len(node.outputs) < len(function.outputs):
        node.resize_outputs(len(function.outputs))
    model.functions[function.identifier()] = function
    return True


def _body(schema: onnx.defs.OpSchema, node: ir.Node) -> onnx.FunctionProto | None:
    import onnx

    function = onnx.FunctionProto()
    if schema.has_context_dependent_function:
        version = _best(schema.context_dependent_function_opset_versions)
        if any(value is not None and value.type is None for value in node.inputs):
            return None
        types = [
            ir.serde.serialize_value(value).type.SerializeToString() if value is not None else b""
            for value in node.inputs
        ]
        proto = ir.to_proto(node).SerializeToString()
        data = schema.get_context_dependent_function_with_opset_version(version, proto, types)
    elif schema.has_function:
        data = schema.get_function_with_opset_version(_best(schema.function_opset_versions))
    else:
        return None
    if not data:
        return None
    function.ParseFromString(data)
    if not function.node:
        return None
    computed = {name for inner in function.node for name in inner.output} | set(function.input)
    for name in function.output:
        if name not in computed:
            # A context-dependent body leaves out what the node does not ask for, but still declares it.
            function.node.add(op_type="Constant", output=[name]).attribute.add(name="value_int", type=2, i=0)
    return function


def _best(versions: list[int]) -> int:
    """The newest body that the pinned opset can hold, else the oldest there is (its newer ops come down in turn)."""
    return max((v for v in versions if v <= OPSET), default=min(versions))


def _name(function: ir.Function, node: ir.Node) -> None:
    """Name what the body computes after the node, so that a report can say where it came from."""
    for inner in function.graph:
        inner.name = f"{node.name}/{inner.name or inner.op_type}"
        for value in inner.outputs:
            if value.name:
                value.name = f"{node.name}/{value.name}"
