"""Chains of Transpose, and Transposes of stored weights."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, is_constant, nodes


def merge_transposes(model: ir.Model) -> bool:
    """Merge a Transpose into the Transpose or the weights before it.

    Given:
        a = Transpose<perm=p>(x)
        y = Transpose<perm=q>(a)
        w = DequantizeLinear<axis=k>(w_quantized, scale, zero_point)        or Cast(w_fp16)
        v = Transpose<perm=r>(w)

    Result:
        y = Transpose<perm=p[q]>(x)          `remove_no_ops` takes it away where it moves nothing
        v = DequantizeLinear<axis=r⁻¹[k]>(w_quantized transposed, scale, zero_point)

    Transposes of plain constants are `fold_constants`' business.
    """
    changed = False
    for node in nodes(model, "Transpose"):
        source = node.inputs[0]
        before = source.producer() if source is not None else None
        if "perm" not in node.attributes:
            changed |= _make_explicit(node)
        elif before is None or before.domain != "":
            continue
        elif before.op_type == "Transpose" and "perm" in before.attributes:
            inner, outer = before.attributes["perm"].as_ints(), node.attributes["perm"].as_ints()
            node.attributes["perm"] = ir.AttrInt64s("perm", [inner[axis] for axis in outer])
            node.replace_input_with(0, before.inputs[0])
            changed = True
        elif before.op_type in ("DequantizeLinear", "Cast") and is_constant(before.inputs[0]):
            changed |= _transpose_stored(node, before)
    return changed


def _make_explicit(node: ir.Node) -> bool:
    """Write out the default permutation, which reverses the axes."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return False
    node.attributes["perm"] = ir.AttrInt64s("perm", list(range(len(shape)))[::-1])
    return True


def _transpose_stored(node: ir.Node, form: ir.Node) -> bool:
    permutation = list(node.attributes["perm"].as_ints())
    stored = form.inputs[0]
    attributes = dict(form.attributes)
    rest = list(form.inputs[1:])
    assert stored is not None
    array = constant(stored)
    assert array is not None
    if form.op_type == "DequantizeLinear":
        if form.attributes.get_int("block_size", 0):
            return False
        scale = constant(rest[0])
        if scale is None:
            return False
        if scale.ndim == 1:
            axis = form.attributes.get_int("axis", 1) % array.ndim
            attributes["axis"] = ir.AttrInt64("axis", permutation.index(axis))
    assert node.graph is not None
    turned = initializer(node.graph, f"{stored.name}_transposed", array.transpose(permutation), stored.dtype)
    new = ir.node(form.op_type, [turned, *rest], name=node.name)
    new.attributes.update(attributes)
    old, result = node.outputs[0], new.outputs[0]
    result.type, result.shape, name = old.type, old.shape, old.name
    node.graph.insert_before(node, new)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    result.name = name
    return True
