"""Drop attributes that say what their absence says.

Beside the bytes, onnxruntime needs it: it hands an AveragePool's attributes on to its QLinearAveragePool, which does
not know `dilations` and rejects the model even where they are all one.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

WINDOWED = ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool")
NEUTRAL = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}
"""Attributes of windowed operators that default to this number along every axis (operator specifications)."""


def drop_defaults(graph: ir.Graph, opset: int) -> None:
    """Remove the attributes of `graph`'s nodes that equal their defaults, in place.

    Args:
        graph: The main graph; subgraphs are left alone.
        opset: Version of the default domain, whose schemas say what the defaults are.
    """
    for node in graph:
        if node.domain not in ("", "ai.onnx"):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        for name in [name for name, attribute in node.attributes.items() if _default(node, attribute, schema)]:
            del node.attributes[name]


def _default(node: ir.Node, attribute: ir.Attr, schema: onnx.defs.OpSchema) -> bool:
    if attribute.is_ref():
        return False
    name, value = attribute.name, attribute.value
    if node.op_type in WINDOWED and name in NEUTRAL:
        return all(number == NEUTRAL[name] for number in value)
    if node.op_type in WINDOWED and name == "kernel_shape" and "Pool" not in node.op_type:
        weights = node.inputs[1]
        return weights is not None and weights.shape is not None and tuple(weights.shape)[2:] == tuple(value)
    known = schema.attributes.get(name)
    if known is None or known.required or not known.default_value.type:
        return False
    default = onnx.helper.get_attribute_value(known.default_value)
    if isinstance(default, bytes):
        default = default.decode()
    return bool(tuple(value) == tuple(default)) if isinstance(default, list) else bool(value == default)
