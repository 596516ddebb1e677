"""Rewrites that let onnxruntime do at load what it would otherwise do on every run, all exact.

- Float weights: DequantizeLinear on a constant is never folded by onnxruntime (it waits to be fused into an integer
  kernel), so a weights-only model would dequantize on every run, six times the float latency. Cast → Mul computes the
  same products and is folded at load; blocks are an axis of their own in between.
- int4 weights of integer kernels: those want int8. A DequantizeLinear of int4 is fused into none (five times the
  latency); Cast(int4 → int8) in front of one of int8 is folded at load, before kernels are fused.
- Convolutions of `int8-dynamic`: ConvInteger runs 15 times slower than a float convolution, so they become float
  convolutions on int8 weights. Dense layers stay MatMulInteger, which fuses and is as fast as float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import WEIGHTED, constant
from haversack.runtimes.engines import Array

FLOAT = ir.DataType.FLOAT
INT8 = ir.DataType.INT8


def fold_weights(editor: Editor) -> int:
    """Turn each DequantizeLinear of constant weights into what onnxruntime folds or fuses, in place.

    Returns:
        How many were rewritten.
    """
    count = 0
    for node in list(editor.graph):
        array = constant(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        scale = constant(node.inputs[1]) if array is not None else None
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
        if array is None or scale is None or zero_point is None or node.outputs[0].is_graph_output():
            continue
        if _feeds_integer_kernels(node) and not _block(node):
            if node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.INT4:
                _widen(editor, node, zero_point)
                count += 1
        elif not zero_point.any() and _is_weights(node):
            editor.replace_node(node, _product(editor, node, node.inputs[0], *_spread(node, array.shape, scale)))
            count += 1
    return count


def keep_float(editor: Editor) -> list[str]:
    """Keep onnxruntime from quantizing float layers that stand between a DequantizeLinear and a QuantizeLinear.

    It takes their float weights for forgotten ones and makes them int8, one scale a tensor (its WeightBiasQuantization,
    since 1.21), whatever that does to the values. It does not where anything but a Relu or Clip follows, so

        Given    DequantizeLinear → Conv(float weights) → Relu → QuantizeLinear
        Result   DequantizeLinear → Conv → LeakyRelu(alpha=0) → QuantizeLinear

    and alpha=1, which changes nothing, where no Relu follows. Either is computed inside the convolution.

    Returns:
        The names of the layers that were kept.
    """
    kept = []
    for node in list(editor.graph):
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or not _integer(node):
            continue
        weights = node.inputs[1].producer() if node.inputs[1] is not None else None
        if weights is not None and weights.op_type == "DequantizeLinear" and not _block(weights):
            continue
        result = node.outputs[0]
        after = result.consumers()[0] if len(result.consumers()) == 1 else None
        relu = after if after is not None and after.op_type == "Relu" else None
        made = editor.node("LeakyRelu", [result], f"{result.name}_kept", FLOAT, result.shape)
        made.attributes.add(ir.AttrFloat32("alpha", 0.0 if relu is not None else 1.0))
        old = result if relu is None else relu.outputs[0]
        for user, index in [(use.node, use.idx) for use in old.uses()]:
            if user is not made:
                user.replace_input_with(index, made.outputs[0])
        if relu is None:
            editor.graph.insert_after(node, [made])
        else:
            editor.graph.insert_after(relu, [made])
            editor.graph.remove(relu, safe=True)
        kept.append(str(node.name))
    return kept


def _is_weights(node: ir.Node) -> bool:
    """Whether no integer kernel could be meant: other constants of an int8 graph wait to be fused."""
    integer = any(each.op_type == "QuantizeLinear" for each in node.graph or ())
    return not integer or all(use.node.op_type in WEIGHTED and use.idx > 0 for use in node.outputs[0].uses())


def _feeds_integer_kernels(node: ir.Node) -> bool:
    """Whether every reader is a layer between a DequantizeLinear and a QuantizeLinear."""
    return all(use.node.op_type in WEIGHTED and use.idx > 0 and _integer(use.node) for use in node.outputs[0].uses())


def _integer(layer: ir.Node) -> bool:
    source = layer.inputs[0].producer() if layer.inputs[0] is not None else None
    readers = layer.outputs[0].consumers()
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        readers = readers[0].outputs[0].consumers()
    quantized = bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)
    return source is not None and source.op_type == "DequantizeLinear" and quantized


def _block(node: ir.Node) -> int:
    block = node.attributes.get("block_size")
    return 0 if block is None else block.as_int()


def _widen(editor: Editor, node: ir.Node, zero_point: Array) -> None:
    value = node.inputs[0]
    assert value is not None
    cast = editor.node("Cast", [value], f"{value.name}_int8", INT8, value.shape, {"to": int(INT8)})
    editor.before(node, [cast])
    node.replace_input_with(0, cast.outputs[0])
    if len(node.inputs) > 2:
        node.replace_input_with(2, editor.initializer(f"{value.name}_zeros", zero_point.astype(np.int8)))


def _spread(node: ir.Node, shape: tuple[int, ...], scale: Array) -> tuple[Array, tuple[int, ...] | None]:
    """The scale so that it broadcasts to the integers, and the shape with blocks as an axis where there are some."""
    if not scale.ndim:
        return scale, None
    axis = node.attributes.get("axis")
    along = (axis.as_int() if axis is not None else 1) % len(shape)
    block = _block(node)
    if not block:
        return scale.reshape([-1 if i == along else 1 for i in range(len(shape))]), None
    for other in range(len(shape)):  # a scale that is repeated along an axis is said once
        if other != along and np.array_equal(scale, np.broadcast_to(scale.take([0], other), scale.shape)):
            scale = scale.take([0], other)
    blocked = (*shape[:along], scale.shape[along], block, *shape[along + 1 :])
    return np.expand_dims(scale, along + 1), blocked


def _product(
    editor: Editor, at: ir.Node, integers: ir.Value | None, scale: Array, blocked: tuple[int, ...] | None = None
) -> list[ir.Node]:
    assert integers is not None
    factor = editor.initializer(f"{at.name}_scale", scale)
    cast = editor.node("Cast", [integers], f"{integers.name}_float", FLOAT, integers.shape, {"to": int(FLOAT)})
    if blocked is None:
        return [cast, editor.node("Mul", [cast.outputs[0], factor], f"{integers.name}_product", FLOAT, integers.shape)]
    assert integers.shape is not None
    sizes = [editor.initializer(f"{at.name}_sizes", np.array(each)) for each in (blocked, integers.shape.numpy())]
    shape = ir.Shape(blocked)
    split = editor.node("Reshape", [cast.outputs[0], sizes[0]], f"{integers.name}_blocks", FLOAT, shape)
    product = editor.node("Mul", [split.outputs[0], factor], f"{integers.name}_product", FLOAT, shape)
    whole = editor.node("Reshape", [product.outputs[0], sizes[1]], f"{integers.name}_whole", FLOAT, integers.shape)
    return [cast, split, product, whole]


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
