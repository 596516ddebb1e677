"""Shapes that are known, as constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, nodes
from haversack.runtimes.engines import Array


def fold_shapes(model: ir.Model) -> bool:
    """Replace Shape and Size, and what is taken out of a Shape, by what is known of them.

    Given:
        s = Shape(x)                x is [N, 3, 8]
        a = Gather(s, [1, 2])
        y = Expand(v, a)

    Result:
        y = Expand(v, a)            a is the initializer [3, 8]
    """
    changed = False
    for node in nodes(model, "Shape", "Size", "Gather", "Slice"):
        known = _KNOWN[node.op_type](node)
        output = node.outputs[0]
        if known is None or output.is_graph_output() or not output.uses():
            continue
        assert node.graph is not None
        name = output.name or "shape"
        output.name = None
        output.replace_all_uses_with(initializer(node.graph, name, known))
        node.graph.remove(node, safe=True)
        changed = True
    return changed


def _shape(node: ir.Node) -> Array | None:
    dims = _dims(node)
    return np.array(dims, np.int64) if dims is not None and all(isinstance(dim, int) for dim in dims) else None


def _size(node: ir.Node) -> Array | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return np.array(np.prod(shape.numpy(), dtype=np.int64)) if shape is not None and shape.is_static() else None


def _gather(node: ir.Node) -> Array | None:
    dims = _dims(node.inputs[0].producer() if node.inputs[0] is not None else None)
    indices = constant(node.inputs[1])
    if dims is None or indices is None:
        return None
    picked = [dims[int(index)] if -len(dims) <= index < len(dims) else None for index in indices.reshape(-1)]
    if not all(isinstance(dim, int) for dim in picked):
        return None
    return np.array(picked, np.int64).reshape(indices.shape)


def _slice(node: ir.Node) -> Array | None:
    dims = _dims(node.inputs[0].producer() if node.inputs[0] is not None else None)
    starts, ends = constant(node.inputs[1]), constant(node.inputs[2])
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1, np.int64)
    if dims is None or starts is None or ends is None or steps is None or starts.size != 1:
        return None
    start, end, step = (int(each.reshape(())) for each in (starts, ends, steps))
    if step < 1:
        return None
    picked = dims[start:end:step]
    return np.array(picked, np.int64) if all(isinstance(dim, int) for dim in picked) else None


def _dims(node: ir.Node | None) -> list[int | ir.SymbolicDim] | None:
    """What a Shape node gives, with the symbolic sizes still in it."""
    if node is None or node.op_type != "Shape" or node.domain != "" or node.inputs[0] is None:
        return None
    shape = node.inputs[0].shape
    if shape is None:
        return None
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return list(shape.dims)[start:end]


_KNOWN = {"Shape": _shape, "Size": _size, "Gather": _gather, "Slice": _slice}
