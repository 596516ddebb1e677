"""Dense layers in one form."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import (
    absorb,
    constant,
    has_one_use,
    initializer,
    insert,
    is_blocked,
    is_weight,
    nodes,
)
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def canonical_gemm(model: ir.Model) -> bool:
    """Bring dense layers to Gemm<alpha=1, beta=1, transA=0, transB=1> with weights [out, in] and a bias [out].

    Given:
        a = MatMul(x, w)                             x of rank 2, w constant [in, out]
        y = Add(a, b)                                b constant, [out], [1, out] or one value
        z = Gemm<alpha, beta, transA, transB>(u, v, c)

    Result:
        y = Gemm<transB=1>(x, w transposed, b)
        z = Gemm<transB=1>(u, v * alpha, c * beta)                  v constant, c constant of one row
        z = Add(Mul(MatMul(u, v), alpha), Mul(c, beta))             otherwise, each part where it is needed
    """
    changed = False
    for node in nodes(model, "Add"):
        changed |= _from_matmul(node)
    for node in nodes(model, "Gemm"):
        changed |= _canonical(node)
    return changed


def _from_matmul(node: ir.Node) -> bool:
    for index in (0, 1):
        product, addend = node.inputs[index], node.inputs[1 - index]
        layer = product.producer() if product is not None else None
        if product is None or not is_weight(addend) or layer is None or layer.op_type != "MatMul" or layer.domain != "":
            continue
        x, weights = layer.inputs
        if x is None or x.shape is None or len(x.shape) != 2 or weights is None:
            continue
        if not _is_dense(weights, False):
            continue
        sizes = static_shape(weights)
        if sizes is None or len(sizes) != 2 or not has_one_use(product):
            continue
        out = sizes[1]
        if layer.graph is not node.graph or addend is None or product.dtype not in _FLOATS:
            continue
        bias, shape = constant(addend), static_shape(addend)
        if shape not in ((out,),) if bias is None else shape not in ((), (1,), (1, 1), (out,), (1, out)):
            continue
        assert node.graph is not None
        turned = _transposed(node, weights)
        row = addend if bias is None else initializer(node.graph, f"{layer.name}/bias", _row(bias, out))
        dense = insert(node, "Gemm", [x, turned, row], f"{layer.name}", like=product, transB=1)
        product.replace_all_uses_with(dense)
        node.graph.remove(layer, safe=True)
        absorb(node, dense)
        return True
    return False


def _is_dense(weights: ir.Value, transposed: bool) -> bool:
    return is_weight(weights) and (transposed or not is_blocked(weights))


def _row(bias: Array, out: int) -> Array:
    return np.array(np.broadcast_to(bias.reshape(-1), (out,)))


def _transposed(before: ir.Node, weights: ir.Value) -> ir.Value:
    """`weights` with their two axes exchanged: at once if plain, else by a Transpose that another pass merges."""
    array = constant(weights)
    if array is not None:
        assert before.graph is not None
        return initializer(before.graph, f"{weights.name}_transposed", array.T, weights.dtype)
    shape = ir.Shape(list(weights.shape)[::-1]) if weights.shape is not None else None
    turned = insert(before, "Transpose", [weights], f"{weights.name}_transposed", like=weights, perm=[1, 0])
    turned.shape = shape
    return turned


def _canonical(node: ir.Node) -> bool:
    alpha, beta = (node.attributes[n].as_float() if n in node.attributes else 1.0 for n in ("alpha", "beta"))
    trans_a, trans_b = (node.attributes.get_int(n, 0) for n in ("transA", "transB"))
    x, weights = node.inputs[:2]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    output = node.outputs[0]
    assert x is not None
    assert weights is not None
    sizes = static_shape(weights)
    if x.shape is None or sizes is None or x.dtype not in _FLOATS:
        return False
    dense = _is_dense(weights, bool(trans_b)) and (constant(weights) is not None or alpha == 1)
    out = sizes[0] if trans_b else sizes[1]
    held = constant(bias)
    fits = bias is None or (is_weight(bias) and bias.shape is not None and list(bias.shape) == [out])
    if dense and alpha == 1 and beta == 1 and not trans_a and trans_b and fits:
        written = [name for name in ("alpha", "beta", "transA") if name in node.attributes]
        for name in written:
            del node.attributes[name]
        return bool(written)
    if trans_a:
        x = insert(node, "Transpose", [x], f"{node.name}/transposed_input", like=x, perm=[1, 0])
        x.shape = ir.Shape(list(x.shape)[::-1]) if x.shape is not None else None
    if dense:
        product = _dense(node, x, weights, alpha, bool(trans_b))
        if held is not None and held.shape in ((), (1,), (1, 1), (out,), (1, out)):
            assert node.graph is not None
            row = initializer(node.graph, f"{node.name}/bias", (_row(held, out) * beta).astype(held.dtype))
            _input(product, row)
            bias = None
        elif fits and beta == 1 and bias is not None:
            _input(product, bias)
            bias = None
    else:
        right = weights
        if trans_b:
            right = insert(node, "Transpose", [weights], f"{node.name}/transposed_weights", like=weights, perm=[1, 0])
            right.shape = ir.Shape(sizes[::-1])
        product = insert(node, "MatMul", [x, right], f"{node.name}/product", like=output)
        product = _scaled(node, product, alpha, "alpha")
    if bias is not None:
        product = insert(node, "Add", [product, _scaled(node, bias, beta, "beta")], f"{node.name}/sum", like=output)
    _take_over(node, product)
    return True


def _dense(node: ir.Node, x: ir.Value, weights: ir.Value, alpha: float, transposed: bool) -> ir.Value:
    array = constant(weights)
    if array is not None and alpha != 1:
        assert node.graph is not None
        scaled = (array.astype(np.float64) * alpha).astype(array.dtype)
        weights = initializer(node.graph, f"{weights.name}_scaled", scaled)
    turned = weights if transposed else _transposed(node, weights)
    return insert(node, "Gemm", [x, turned], f"{node.name}/product", like=node.outputs[0], transB=1)


def _input(product: ir.Value, bias: ir.Value) -> None:
    gemm = product.producer()
    assert gemm is not None
    gemm.resize_inputs(3)
    gemm.replace_input_with(2, bias)


def _scaled(node: ir.Node, value: ir.Value, factor: float, name: str) -> ir.Value:
    if factor == 1:
        return value
    assert node.graph is not None
    assert node.outputs[0].dtype is not None
    by = initializer(node.graph, f"{node.name}/{name}", np.array(factor, node.outputs[0].dtype.numpy()))
    return insert(node, "Mul", [value, by], f"{node.name}/times_{name}", like=value)


def _take_over(node: ir.Node, value: ir.Value) -> None:
    """Let `value` stand for the output of `node`, under the node's and the output's names."""
    output, producer = node.outputs[0], value.producer()
    assert producer is not None
    assert node.graph is not None
    name, node_name = output.name, node.name
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    value.name, producer.name = name, node_name
