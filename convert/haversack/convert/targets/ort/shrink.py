"""Make the file small without changing a value that it computes: half of a small ONNX file is names."""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.operators import constant

FACTORED = 32
"""A bias scale with at least this many channels is computed at load: the Mul weighs less than the numbers."""


def drop_saturated(graph: ir.Graph) -> None:
    """Remove a Relu or Clip whose bounds the QuantizeLinear behind it enforces anyway by saturating.

    Given Conv → Relu → QuantizeLinear(zero point 0, uint8), whose lowest number is 0.0, the result is
    Conv → QuantizeLinear. Rounding and saturation do not move a value across a bound that both share.
    """
    for node in list(graph):
        users = node.outputs[0].consumers() if node.op_type in ("Relu", "Clip") else ()
        if len(users) != 1 or users[0].op_type != "QuantizeLinear" or node.outputs[0].is_graph_output():
            continue
        low, high = _bounds(node)
        scale, zero_point = (constant(value) for value in users[0].inputs[1:3])
        if scale is None or zero_point is None or scale.ndim or low is None or high is None:
            continue
        info = np.iinfo(zero_point.dtype)
        lowest = float(scale) * (int(info.min) - int(zero_point))
        highest = float(scale) * (int(info.max) - int(zero_point))
        if lowest >= low and highest <= high:
            users[0].replace_input_with(0, node.inputs[0])
            graph.remove(node, safe=True)


def _bounds(node: ir.Node) -> tuple[float | None, float | None]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    found: list[float | None] = []
    for index, absent in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = constant(value)
        found.append(absent if value is None else None if array is None else float(array))
    return found[0], found[1]


def factor_bias_scales(editor: Editor) -> None:
    """Compute each bias's vector of scales at load, as Mul(input scale, weight scales), which it is by definition.

    The product is the same float32 multiplication, so the numbers are the same bits; onnxruntime folds it.
    """
    for node in list(editor.graph):
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3:
            continue
        parts = [value.producer() if value is not None else None for value in node.inputs[:3]]
        if not all(part is not None and part.op_type == "DequantizeLinear" for part in parts):
            continue
        source, weights, bias = (part.inputs[1] for part in parts if part is not None)
        vectors = [constant(value) for value in (source, weights, bias)]
        if any(vector is None for vector in vectors) or parts[2] is None:
            continue
        input_scale, weight_scale, bias_scale = vectors
        assert input_scale is not None
        assert weight_scale is not None
        assert bias_scale is not None
        if bias_scale.size < FACTORED or not np.array_equal(input_scale * weight_scale, bias_scale):
            continue
        product = editor.node("Mul", [source, weights], "bias_scale", ir.DataType.FLOAT, ir.Shape(bias_scale.shape))
        editor.before(parts[2], [product])
        parts[2].replace_input_with(1, product.outputs[0])
    drop_unused_initializers(editor.graph)


def share_initializers(graph: ir.Graph) -> None:
    """Keep one of the initializers that have the same type, shape and bytes."""
    first: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING or value.is_graph_output() or value.is_graph_input():
            continue
        key = (tensor.dtype, tensor.numpy().shape, tensor.tobytes())
        kept = first.setdefault(key, value)
        if kept is not value:
            value.replace_all_uses_with(kept)
    drop_unused_initializers(graph)


def shorten_names(proto: onnx.ModelProto) -> dict[str, str]:
    """Give every value but inputs and outputs the shortest free name, in use order, and drop the names of nodes.

    One map serves the graph and its subgraphs, so what was the same name stays the same name.

    Returns:
        Old name → new name, of every value.
    """
    kept = {info.name for info in (*proto.graph.input, *proto.graph.output)}
    free = (name for name in _short_names() if name not in kept)
    renamed = {name: name for name in (*kept, "")}
    _rename(proto.graph, renamed, free)
    return renamed


def _rename(graph: onnx.GraphProto, renamed: dict[str, str], free: Iterator[str]) -> None:
    def new(name: str) -> str:
        if name not in renamed:
            renamed[name] = next(free)
        return renamed[name]

    for info in (*graph.input, *graph.output, *graph.value_info):
        info.name = new(info.name)
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [new(name) for name in names]
        for inner in _subgraphs(node):
            _rename(inner, renamed, free)
    for initializer in graph.initializer:
        initializer.name = new(initializer.name)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _short_names() -> Iterator[str]:
    letters, length = string.ascii_letters, 1
    while True:
        for number in range(len(letters) ** length):
            name = ""
            for _ in range(length):
                number, digit = divmod(number, len(letters))
                name = letters[digit] + name
            yield name
        length += 1


def strip(proto: onnx.ModelProto) -> None:
    """Drop what no runtime reads: shapes of intermediate values, documentation, provenance."""
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version", "metadata_props"):
        proto.ClearField(field)
    _strip_graph(proto.graph)
    proto.graph.name = "g"  # the format asks for one
    used = {domain for domain, _ in operators(proto.graph)}
    for entry in [entry for entry in proto.opset_import if entry.domain not in used]:
        proto.opset_import.remove(entry)


def operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    """(domain, operator) of every node, subgraphs included; the default domain is the empty string."""
    found = set()
    for node in graph.node:
        found.add((node.domain if node.domain != "ai.onnx" else "", node.op_type))
        for inner in _subgraphs(node):
            found |= operators(inner)
    return found


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.ClearField("value_info")
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for info in (*graph.input, *graph.output, *graph.initializer):
        info.ClearField("doc_string")
        info.ClearField("metadata_props")
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
        for inner in _subgraphs(node):
            _strip_graph(inner)
