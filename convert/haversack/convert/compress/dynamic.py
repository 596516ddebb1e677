"""The recipe `int8-dynamic`: int8 weights, activations quantized anew for each input, no calibration.

Given `y = Gemm(x, w, b)`, the result is

    xq, xs, xz = DynamicQuantizeLinear(x)       uint8, one scale and zero point for the whole tensor
    y_integers = MatMulInteger(xq, w_quantized, xz)
    y_scale    = Mul(xs, w_scale)
    y          = Add(Mul(Cast(y_integers), y_scale), b)

and the same with ConvInteger for Conv. Readers of one `x` share its DynamicQuantizeLinear.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import operators, weights
from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.recipes import Recipe
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

FLOAT = ir.DataType.FLOAT

INTEGER_OP = {"Conv": "ConvInteger", "Gemm": "MatMulInteger", "MatMul": "MatMulInteger"}


def compress_dynamic(model: ir.Model, recipe: Recipe) -> tuple[ir.Model, list[str]]:
    """Rewrite Conv, Gemm and MatMul with constant weights in a copy of `model`.

    `auto` means per-channel: it is never the less accurate one here.

    Returns:
        The compressed hub graph, and notes.

    Raises:
        UsageError: No operator can be compressed this way, or there are NaN or infinite weights.
    """
    copy = model.clone()
    nodes = [node for node in copy.graph if node.op_type in INTEGER_OP and operators.kind(node) == "weighted"]
    if not nodes:
        raise UsageError("int8-dynamic: the model has no Conv, Gemm or MatMul with constant weights; use int8-weights")
    rewriter = _Rewriter(Editor(copy.graph), per_channel=recipe.weights != "per-tensor")
    for node in nodes:
        rewriter.rewrite(node)
    drop_unused_initializers(copy.graph)
    return copy, []


class _Rewriter:
    def __init__(self, editor: Editor, *, per_channel: bool):
        self.editor = editor
        self.per_channel = per_channel
        self._quantized: dict[ir.Value, ir.Node] = {}

    def rewrite(self, node: ir.Node) -> None:
        """Replace one Conv, Gemm or MatMul."""
        source, value = node.inputs[0], node.inputs[1]
        bias = operators.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        array = operators.constant(value)
        assert source is not None
        assert value is not None
        assert array is not None
        output = node.outputs[0]
        name = str(output.name)
        axis = operators.WEIGHTED[node.op_type] if self.per_channel else None
        made = weights.quantize(str(value.name), array, axis)
        integers = made.quantized.T if node.op_type == "Gemm" else made.quantized
        dynamic = self._dynamic(source, node)
        quantized, scale, zero_point = dynamic.outputs
        stored = self.editor.initializer(f"{value.name}_quantized", integers)
        product = self.editor.node(
            INTEGER_OP[node.op_type],
            [quantized, stored, zero_point],
            f"{name}_integers",
            ir.DataType.INT32,
            output.shape,
        )
        if node.op_type == "Conv":
            for attribute in node.attributes.values():
                product.attributes.add(attribute)
        cast = self.editor.node("Cast", product.outputs, f"{name}_cast", FLOAT, output.shape, {"to": int(FLOAT)})
        weight_scale = self.editor.initializer(f"{value.name}_scale", _broadcast(made.scale, node, array.ndim))
        combined = self.editor.node("Mul", [scale, weight_scale], f"{name}_scale", FLOAT, weight_scale.shape)
        scaled = self.editor.node("Mul", [*cast.outputs, *combined.outputs], f"{name}_scaled", FLOAT, output.shape)
        nodes = [product, cast, combined, scaled]
        if bias is not None:
            addend = self.editor.initializer(f"{name}_bias", _broadcast(bias, node, array.ndim))
            nodes.append(self.editor.node("Add", [*scaled.outputs, addend], f"{name}_biased", FLOAT, output.shape))
        self.editor.replace_node(node, nodes)
        product.name = node.name

    def _dynamic(self, source: ir.Value, reader: ir.Node) -> ir.Node:
        if source not in self._quantized:
            names = [self.editor.name(f"{source.name}_{part}") for part in ("dynamic", "dynamic_scale", "dynamic_zero")]
            types = (ir.DataType.UINT8, FLOAT, ir.DataType.UINT8)
            shapes = (source.shape, ir.Shape([]), ir.Shape([]))
            values = [
                ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
                for name, dtype, shape in zip(names, types, shapes, strict=True)
            ]
            node = ir.Node(
                "", "DynamicQuantizeLinear", [source], outputs=values, name=self.editor.name(f"{names[0]}_quantize")
            )
            self.editor.before(reader, [node])
            self._quantized[source] = node
        return self._quantized[source]


def _broadcast(vector: Array, node: ir.Node, rank: int) -> Array:
    """A scalar as it is; one number a channel in the shape that meets the output's channel axis."""
    if vector.ndim == 0 or node.op_type != "Conv":
        return np.asarray(vector.reshape(-1) if vector.ndim else vector, np.float32)
    return np.asarray(vector, np.float32).reshape([-1] + [1] * (rank - 2))
