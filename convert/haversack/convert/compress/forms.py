"""The hub forms of stored weights: how a compressed initializer is said in plain ONNX.

Each function replaces one float32 initializer `w` by smaller ones and the nodes that compute `w`, under its own name,
from them. onnxruntime executes every form, so it means the same weights to each target and to verification.

| form    | initializers and nodes                                                                              |
|---------|-----------------------------------------------------------------------------------------------------|
| integer | `w_quantized` (int8 or int4) → DequantizeLinear(`w_scale`, `w_zero_point` of zeros) → `w`.          |
|         | Scales: a scalar; [channels] with `axis`; or, with `block_size`, of w's shape but for the blocks    |
|         | along `axis`, the input channels: one scale a block and output channel, repeated over kernel taps.  |
| palette | `w_indices` (uint4 below 5 bits, else uint8; of w's shape) → Cast(int32) → Gather(`w_palette`) → `w`.|
|         | Groups of output channels: an Add of `w_first` (int32, [.., channels, ..]) behind the Cast moves    |
|         | each channel's indices to its group's 2^bits entries of `w_palette` [groups · 2^bits].              |
| sparse  | plain float32 zeros; in a form above, indices of the palette's 0, or integers 0. Targets find them. |
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, replace_initializer
from haversack.runtimes.engines import Array


def integer(
    editor: Editor, value: ir.Value, integers: Array, scale: Array, axis: int | None = None, block: int | None = None
) -> None:
    """Store `value` as integers.

    Args:
        editor: Of the graph.
        value: A float32 initializer.
        integers: int8 or ml_dtypes.int4, of its shape.
        scale: float32 as the table above says.
        axis: Of the channels, or of the blocks.
        block: Their size.
    """
    inputs = [
        editor.initializer(f"{value.name}_quantized", integers),
        editor.initializer(f"{value.name}_scale", scale),
        editor.initializer(f"{value.name}_zero_point", np.zeros(scale.shape, integers.dtype)),
    ]
    attributes = {} if axis is None else {"axis": axis}
    if block is not None:
        attributes["block_size"] = block
    node = editor.node(
        "DequantizeLinear", inputs, f"{value.name}_dequantized", ir.DataType.FLOAT, value.shape, attributes
    )
    replace_initializer(editor, value, node)


def palette(editor: Editor, value: ir.Value, indices: Array, entries: Array, axis: int = 0) -> None:
    """Store `value` as indices into one palette, or into one for each group of channels.

    Args:
        editor: Of the graph.
        value: A float32 initializer.
        indices: uint8 of its shape, each below the number of entries.
        entries: float32 [groups, entries], the number of entries a power of two of at most 256.
        axis: Of the output channels, whose number the groups divide.
    """
    groups, count = entries.shape
    stored = indices.astype(ml_dtypes.uint4) if count <= 16 else indices
    held = editor.initializer(f"{value.name}_indices", stored)
    integers = ir.DataType.INT32
    nodes = [editor.node("Cast", [held], f"{value.name}_indices_int32", integers, value.shape, {"to": int(integers)})]
    if groups > 1:
        channels = indices.shape[axis]
        first = np.repeat(np.arange(groups, dtype=np.int32) * count, channels // groups)
        shape = [-1 if i == axis % indices.ndim else 1 for i in range(indices.ndim)]
        offset = editor.initializer(f"{value.name}_first", first.reshape(shape))
        summands = [nodes[0].outputs[0], offset]
        nodes.append(editor.node("Add", summands, f"{value.name}_entries", integers, value.shape))
    table = editor.initializer(f"{value.name}_palette", entries.reshape(-1))
    inputs = [table, nodes[-1].outputs[0]]
    gather = editor.node("Gather", inputs, f"{value.name}_from_palette", ir.DataType.FLOAT, value.shape)
    replace_initializer(editor, value, gather)
    editor.before(gather, nodes)
