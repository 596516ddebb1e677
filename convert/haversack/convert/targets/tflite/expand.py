"""Write out the weights that no TFLite tensor can hold: palettes, and blocks with a scale each.

    Given    w_indices → Cast → Gather(palette of int8) → DequantizeLinear → Conv       Gather(palette of float) → Conv
    Result   w of int8 with few distinct numbers → DequantizeLinear → Conv              w of float32 → Conv

    Given    w_quantized (int4) → DequantizeLinear(block_size=32) → Conv
    Result   w of float32 → Conv

What is saved is then saved by gzip or brotli alone, where a file travels compressed, and the notes say so.
"""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.operators import constant
from haversack.convert.compress.unpacking import palette_indices, unpacked
from haversack.runtimes.engines import Array


def expand(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """Expand palettes and blocks.

    Args:
        model: A compressed hub graph; not changed.

    Returns:
        The graph with initializers in their place (`model` itself where there are none), and notes.
    """
    if not any(_expanded(node) is not None for node in model.graph):
        return model, []
    copy = model.clone()
    graph = copy.graph
    editor = Editor(graph)
    palettes, blocks, held = 0, 0, 0
    for node in list(graph):
        array = _expanded(node)
        if array is None:
            continue
        palettes += node.op_type == "Gather"
        blocks += node.op_type != "Gather"
        held += array.nbytes
        old = node.outputs[0]
        name = str(old.name)
        old.name = editor.name(f"{name}_compressed")
        new = editor.initializer(f"{name}_expanded", array)
        old.replace_all_uses_with(new)
        waiting = [node]
        while waiting:  # the node, and those that computed a palette's indices for it alone
            dead = waiting.pop()
            if any(value.uses() for value in dead.outputs):
                continue
            makers = [value.producer() for value in dead.inputs if value is not None]
            graph.remove(dead, safe=True)
            waiting += [maker for maker in makers if maker is not None]
    drop_unused_initializers(graph)
    kinds = [f"{count} {what}" for count, what in ((palettes, "palettes"), (blocks, "weights in blocks")) if count]
    return copy, [
        f"{' and '.join(kinds)} are written out to {held:,} bytes, because TFLite has no such tensors: they are "
        "smaller only where the file travels compressed."
    ]


def _expanded(node: ir.Node) -> Array | None:
    """What the node makes of constants, if it is the last of a palette or dequantizes blocks."""
    result = node.outputs[0]
    if result.is_graph_output() or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gather":
        table = constant(node.inputs[0])
        maker = node.inputs[1].producer() if node.inputs[1] is not None else None
        if table is None or table.ndim != 1 or maker is None:
            return None
        indices = palette_indices(node.inputs[1])
        return None if indices is None else table[indices]
    block = node.attributes.get("block_size")
    return unpacked(node) if node.op_type == "DequantizeLinear" and block is not None and block.as_int() else None
