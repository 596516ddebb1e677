"""Float weights again, for a model whose weights came compressed (dynamic-range or float16 files, palettes)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.operators import constant
from haversack.runtimes.engines import Array


def unpack_weights(model: ir.Model) -> ir.Model:
    """Compute every DequantizeLinear, Cast to float32 and palette of constants, so that weights can be quantized anew.

    Args:
        model: Not changed; returned as it is where there is nothing to do.

    Returns:
        A model of the same values, in which each such result is an initializer under its own name.
    """
    if not any(unpacked(node) is not None for node in model.graph):
        return model
    copy = model.clone()
    graph = copy.graph
    editor = Editor(graph)
    for node in list(graph):
        array = unpacked(node)
        if array is None:
            continue
        old = node.outputs[0]
        new = editor.initializer(f"{old.name}_unpacked", array)
        old.replace_all_uses_with(new)
        name = str(old.name)
        read = [value for value in node.inputs if value is not None]
        graph.remove(node, safe=True)
        new.name = name
        while read:  # the nodes that computed a palette's indices
            value = read.pop()
            maker = value.producer()
            if maker is not None and not value.uses() and not value.is_graph_output():
                read += [each for each in maker.inputs if each is not None]
                graph.remove(maker, safe=True)
    drop_unused_initializers(graph)
    return copy


def unpacked_value(value: ir.Value | None) -> Array | None:
    """The float32 array of an initializer, or of what unpacks one; None for all else."""
    maker = None if value is None else value.producer()
    return constant(value) if maker is None else unpacked(maker)


def unpacked(node: ir.Node) -> Array | None:
    """The float32 result of `node`, where it unpacks a constant; None where it does something else."""
    array = constant(node.inputs[0]) if node.inputs else None
    result = node.outputs[0]
    if array is not None and node.op_type == "Gather" and array.ndim == 1 and not result.is_graph_output():
        indices = palette_indices(node.inputs[1])
        return None if indices is None or array.dtype != np.float32 else array[indices]
    if array is None or result.dtype != ir.DataType.FLOAT or result.is_graph_output():
        return None
    if node.op_type == "Cast":
        return array.astype(np.float32)
    if node.op_type != "DequantizeLinear":
        return None
    scale = constant(node.inputs[1])
    zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if scale is None or zero_point is None:
        return None
    if scale.ndim:
        axis = node.attributes.get("axis")
        along = (axis.as_int() if axis is not None else 1) % array.ndim
        shape = [-1 if i == along else 1 for i in range(array.ndim)]
        zero_point = np.broadcast_to(zero_point, scale.shape)
        block = node.attributes.get("block_size")
        if block is not None and block.as_int():
            blocks = np.arange(array.shape[along]) // block.as_int()
            scale, zero_point = scale.take(blocks, along), zero_point.take(blocks, along)
        else:
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return ((array.astype(np.int64) - zero_point.astype(np.int64)) * scale.astype(np.float32)).astype(np.float32)


def palette_indices(value: ir.Value | None) -> Array | None:
    """A palette's indices: a constant of small integers, widened and perhaps moved to its group's entries."""
    node = None if value is None else value.producer()
    if node is None:
        held = constant(value)
        return None if held is None else held.astype(np.int64)
    if node.op_type == "Cast":
        held = constant(node.inputs[0])
        return None if held is None else held.astype(np.int64)
    if node.op_type != "Add":
        return None
    first, second = (palette_indices(each) for each in node.inputs)
    return None if first is None or second is None else first + second
