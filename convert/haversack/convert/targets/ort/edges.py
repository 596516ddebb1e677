"""`io_dtype` int8: inputs and outputs hold integers, and the float conversion at the edge is gone."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.compress.editing import Editor

INT8 = ir.DataType.INT8


def integer_edges(editor: Editor) -> tuple[dict[str, str], list[str]]:
    """Turn float inputs that are quantized at once, and outputs that are dequantized last, into int8 ones, in place.

    Inside, activations are uint8 afterwards; a DequantizeLinear and a QuantizeLinear at the edge re-encode them.

    Returns:
        Integer inputs and outputs → the hub's integer value that they hold, and notes on those that stay float.
    """
    graph = editor.graph
    edges: dict[str, str] = {}
    notes = []
    for index, value in enumerate(graph.inputs):
        users = value.consumers()
        if len(users) != 1 or users[0].op_type != "QuantizeLinear" or value.is_graph_output():
            notes.append(f"input {value.name} is not quantized and keeps its type")
            continue
        quantize = users[0]
        entry = ir.Value(name=value.name, type=ir.TensorType(INT8), shape=value.shape)
        node = editor.node(
            "DequantizeLinear", [entry, *quantize.inputs[1:]], f"{value.name}_real", ir.DataType.FLOAT, value.shape
        )
        value.replace_all_uses_with(node.outputs[0])
        graph.inputs[index] = entry
        editor.before(None, [node])
        edges[str(entry.name)] = str(quantize.outputs[0].name)
    for index, value in enumerate(graph.outputs):
        dequantize = value.producer()
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.inputs[0] is None:
            notes.append(f"output {value.name} is not quantized and keeps its type")
            continue
        name = str(value.name)
        node = editor.node("QuantizeLinear", [value, *dequantize.inputs[1:]], f"{name}_integers", INT8, value.shape)
        value.name = editor.name(f"{name}_real")
        node.outputs[0].name = name
        graph.outputs[index] = node.outputs[0]
        graph.append(node)
        edges[name] = str(dequantize.inputs[0].name)
    return edges, notes
