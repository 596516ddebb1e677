"""Mixed precision by hand: an int8 hub graph whose layers get other weights, one by one."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.operators import WEIGHTED, constant


def with_weights(model: ir.Model, forms: Mapping[str, str]) -> ir.Model:
    """Store the int8 weights of a graph otherwise.

    Args:
        model: In the int8 form of `haversack.convert.compress`; not changed.
        forms: By name of a layer, `*` for all others: `int8`, `int4`, `int4-block2` (two input channels share a
            scale), `palette<bits>` of int8 numbers, or `float` with float32 weights of the same numbers.

    Returns:
        A graph of the same form, whose biases have the scale that the new weights ask for.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    for node in list(copy.graph):
        maker = node.inputs[1].producer() if node.op_type in WEIGHTED and node.inputs[1] is not None else None
        if maker is None or maker.op_type != "DequantizeLinear" or constant(maker.inputs[0]) is None:
            continue
        integers, scale = constant(maker.inputs[0]), constant(maker.inputs[1])
        assert integers is not None
        assert scale is not None
        form = forms.get(str(node.name), forms.get("*", "int8"))
        name = f"{node.name}_weights"
        if form == "int4" or form.startswith("int4-block"):
            small = np.clip(np.rint(integers / 16.0), -7, 7).astype(ml_dtypes.int4)
            scale = (scale * 16).astype(np.float32)
            if form != "int4":
                _blocks(editor, maker, small, scale, int(form.removeprefix("int4-block")))
                _float_bias(editor, node)
                continue
            parts = (small, scale, np.zeros(scale.shape, ml_dtypes.int4))
            for position, (part, array) in enumerate(zip(("integers", "scale", "zeros"), parts, strict=True)):
                maker.replace_input_with(position, editor.initializer(f"{name}_{part}", array))
            _bias(editor, node, scale)
        elif form.startswith("palette"):
            count = 1 << int(form.removeprefix("palette"))
            table = np.rint(np.linspace(-127, 127, count)).astype(np.int8)
            nearest = np.abs(integers[..., None].astype(int) - table).argmin(-1)
            indices = editor.initializer(
                f"{name}_indices", nearest.astype(ml_dtypes.uint4 if count <= 16 else np.uint8)
            )
            int32 = ir.DataType.INT32
            cast = editor.node("Cast", [indices], f"{name}_int32", int32, ir.Shape(integers.shape), {"to": int(int32)})
            entries = [editor.initializer(f"{name}_palette", table), cast.outputs[0]]
            gather = editor.node("Gather", entries, f"{name}_gathered", ir.DataType.INT8, ir.Shape(integers.shape))
            editor.before(maker, [cast, gather])
            maker.replace_input_with(0, gather.outputs[0])
        elif form == "float":
            along = [1] * integers.ndim
            if scale.ndim:
                along[WEIGHTED[node.op_type]] = -1
            floats = (integers * scale.reshape(along)).astype(np.float32)
            node.replace_input_with(1, editor.initializer(f"{name}_float", floats))
            _float_bias(editor, node)
        else:
            assert form == "int8", form
    for node in reversed(list(copy.graph)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            copy.graph.remove(node, safe=True)
    drop_unused_initializers(copy.graph)
    return copy


def _bias(editor: Editor, node: ir.Node, weight_scale: np.ndarray) -> None:
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    bias = node.inputs[2].producer() if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if source is None or bias is None:
        return
    integers, old, into = constant(bias.inputs[0]), constant(bias.inputs[1]), constant(source.inputs[1])
    assert integers is not None
    assert old is not None
    assert into is not None
    scale = (into * weight_scale).astype(np.float32)
    made = np.rint(integers.astype(np.float64) * old / scale).astype(np.int32)
    bias.replace_input_with(0, editor.initializer(f"{node.name}_bias_integers", made))
    bias.replace_input_with(1, editor.initializer(f"{node.name}_bias_scale", scale))


def _float_bias(editor: Editor, node: ir.Node) -> None:
    bias = node.inputs[2].producer() if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if bias is not None:
        integers, scale = constant(bias.inputs[0]), constant(bias.inputs[1])
        assert integers is not None
        assert scale is not None
        floats = (integers * scale).astype(np.float32)
        node.replace_input_with(2, editor.initializer(f"{node.name}_bias_float", floats))


def _blocks(editor: Editor, maker: ir.Node, integers: np.ndarray, scale: np.ndarray, size: int) -> None:
    """Blocks along axis 1 of Conv's and Gemm's weights, each with a scale a little its own."""
    blocks = integers.shape[1] // size
    whole = np.broadcast_to(scale.reshape(-1, *[1] * (integers.ndim - 1)), (len(integers), 1, *integers.shape[2:]))
    factors = np.linspace(0.75, 1.25, blocks, dtype=np.float32).reshape(1, -1, *[1] * (integers.ndim - 2))
    laid = np.ascontiguousarray(whole * factors, np.float32)
    name = str(maker.name)
    inputs = [
        editor.initializer(f"{name}_integers", integers),
        editor.initializer(f"{name}_scale", laid),
        editor.initializer(f"{name}_zeros", np.zeros(laid.shape, integers.dtype)),
    ]
    old = maker.outputs[0]
    node = editor.node(
        "DequantizeLinear", inputs, f"{name}_blocks", ir.DataType.FLOAT, old.shape, {"axis": 1, "block_size": size}
    )
    editor.before(maker, [node])
    old.replace_all_uses_with(node.outputs[0])
