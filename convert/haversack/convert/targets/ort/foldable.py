"""Rewrites that let onnxruntime do at load what it would otherwise do on every run, all exact.

- Float weights: DequantizeLinear on a constant is never folded by onnxruntime (it waits to be fused into an integer
  kernel), so a weights-only model would dequantize on every run, six times the float latency. Cast → Mul computes the
  same products and is folded at load.
- Convolutions of `int8-dynamic`: ConvInteger runs 15 times slower than a float convolution, so they become float
  convolutions on int8 weights. Dense layers stay MatMulInteger, which fuses and is as fast as float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import constant

FLOAT = ir.DataType.FLOAT


def dequantize_by_product(editor: Editor) -> int:
    """Turn each DequantizeLinear of constant int8 weights that a float operator reads into Cast → Mul, in place.

    Returns:
        How many were rewritten.
    """
    count = 0
    for node in list(editor.graph):
        if node.op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
            continue
        array, scale = constant(node.inputs[0]), constant(node.inputs[1])
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
        block = node.attributes.get("block_size")
        if array is None or scale is None or zero_point is None or zero_point.any() or (block and block.as_int()):
            continue
        if scale.ndim:
            axis = node.attributes.get("axis")
            along = (axis.as_int() if axis is not None else 1) % array.ndim
            scale = scale.reshape([-1 if i == along else 1 for i in range(array.ndim)])
        product = _product(editor, node, node.inputs[0], scale)
        editor.replace_node(node, product)
        count += 1
    return count


def _product(editor: Editor, at: ir.Node, integers: ir.Value | None, scale: np.ndarray) -> list[ir.Node]:
    assert integers is not None
    factor = editor.initializer(f"{at.name}_scale", scale)
    cast = editor.node("Cast", [integers], f"{integers.name}_float", FLOAT, integers.shape, {"to": int(FLOAT)})
    product = editor.node("Mul", [cast.outputs[0], factor], f"{integers.name}_product", FLOAT, integers.shape)
    return [cast, product]


def float_convolutions(editor: Editor) -> list[str]:
    """Turn each ConvInteger of the `int8-dynamic` hub form into a float Conv on int8 weights, in place.

    Given DynamicQuantizeLinear(x) → ConvInteger(xq, w, xz) → Cast → Mul(xs × w_scale), the result is
    Conv(x, Cast(w) × w_scale).

    Returns:
        The names of the rewritten nodes.
    """
    done = []
    for node in list(editor.graph):
        if node.op_type != "ConvInteger" or len(node.outputs[0].consumers()) != 1:
            continue
        cast = node.outputs[0].consumers()[0]
        scaled = cast.outputs[0].consumers()[0]
        combined = scaled.inputs[1].producer() if scaled.inputs[1] is not None else None
        source = node.inputs[0]
        dynamic = source.producer() if source is not None else None
        weights, scale = node.inputs[1], constant(combined.inputs[1]) if combined is not None else None
        assert cast.op_type == "Cast"
        assert dynamic is not None
        assert combined is not None
        assert scale is not None
        assert weights is not None
        weight_scale = scale.reshape([-1] + [1] * (len(weights.shape or ()) - 1)) if scale.ndim else scale
        product = _product(editor, node, weights, weight_scale)
        float_conv = editor.node(
            "Conv", [dynamic.inputs[0], product[1].outputs[0]], "float", FLOAT, scaled.outputs[0].shape
        )
        for attribute in node.attributes.values():
            float_conv.attributes.add(attribute)
        float_conv.name = node.name
        editor.replace_node(scaled, [*product, float_conv])
        for dead in (cast, node, combined, dynamic):
            if not any(value.uses() for value in dead.outputs):
                editor.graph.remove(dead, safe=True)
        done.append(str(float_conv.name))
    return done
