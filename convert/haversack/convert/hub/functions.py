"""Functions that a model brings along, inlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from haversack.convert.errors import SourceError

if TYPE_CHECKING:
    import onnx


def inline_functions(model: ir.Model) -> None:
    """Put the body of every model-local function in place of its calls, in place.

    A function may be written for another opset than the graph; its body is brought to the graph's first.

    Raises:
        SourceError: A function calls itself, or cannot be brought to the graph's opset.
    """
    if not model.functions:
        return
    version = model.opset_imports.get("")
    for identifier, function in list(model.functions.items()):
        own = function.opset_imports.get("")
        if own is not None and version is not None and own != version:
            model.functions[identifier] = _converted(function, own, version)
    try:
        InlinePass()(model)
    except Exception as error:
        raise SourceError(f"the model's own functions cannot be inlined: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """The first line of an error's message that says anything."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _converted(function: ir.Function, own: int, version: int) -> ir.Function:
    """The function at another opset.

    onnx's inliner offers this too, but gives what it adds to two calls the same name. Its version converter works on
    models, so the body travels as one.
    """
    import onnx
    import onnx.version_converter

    what = f"the model's function {function.name!r} of opset {own} cannot be brought to the model's {version}"
    proto = ir.serde.serialize_function(function)
    if any(attribute.ref_attr_name for node in proto.node for attribute in node.attribute):
        raise SourceError(f"{what}, because its attributes are parameters: export the model with one opset")
    inputs = [onnx.ValueInfoProto(name=name) for name in proto.input]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output]
    graph = onnx.GraphProto(name="body", node=proto.node, input=inputs, output=outputs)
    model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=proto.opset_import)
    try:
        raised = onnx.version_converter.convert_version(model, version).graph
    except Exception as error:  # RuntimeError, ConvertError and others of the C++ side
        raise SourceError(f"{what}: {first_line(error)}") from None
    _take(proto, raised, version)
    return ir.serde.deserialize_function(proto)


def _take(proto: onnx.FunctionProto, graph: onnx.GraphProto, version: int) -> None:
    """Put a converted body into a function; a function has no initializers, so these become Constants."""
    del proto.node[:]
    for tensor in graph.initializer:
        proto.node.add(op_type="Constant", output=[tensor.name]).attribute.add(name="value", type=4).t.CopyFrom(tensor)
    proto.node.extend(graph.node)
    for entry in proto.opset_import:
        if entry.domain == "":
            entry.version = version
