"""Slabs that are taken out of a Transpose."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, insert, nodes
from haversack.convert.hub.shapes import static_shape


def select_before_transpose(model: ir.Model) -> bool:
    """Take slabs out of a tensor before a Transpose that only brings them to the front.

    Given:                                                 x is [12, 1, 3, 64]
        a = Transpose<perm=[2, 0, 1, 3]>(x)
        q = Gather<axis=0>(a, 0)
        k = Gather<axis=0>(a, 1)

    Result:
        q = Gather<axis=2>(x, 0)
        k = Gather<axis=2>(x, 1)

    Done only if every reader of the Transpose is a Gather of one constant index, and what is left of the Transpose
    moves nothing but axes of size 1: PyTorch's multi-head attention unpacks its joint projection so.
    """
    changed = False
    for node in nodes(model, "Transpose"):
        shape, value = static_shape(node.inputs[0]), node.outputs[0]
        if shape is None or "perm" not in node.attributes or value.is_graph_output() or not value.uses():
            continue
        permutation = list(node.attributes["perm"].as_ints())
        axes = [_selected(use.node, len(permutation)) for use in value.uses() if use.idx == 0]
        if len(axes) == len(value.uses()) and all(
            axis is not None and _rests(permutation, shape, axis) for axis in axes
        ):
            for use in list(value.uses()):
                _select(node, use.node, permutation)
            changed = True
    return changed


def _selected(node: ir.Node, rank: int) -> int | None:
    """The axis that a Gather of one constant index takes away."""
    if node.op_type != "Gather" or node.domain != "":
        return None
    index = constant(node.inputs[1])
    return node.attributes.get_int("axis", 0) % rank if index is not None and index.shape == () else None


def _rests(permutation: Sequence[int], shape: Sequence[int], axis: int) -> bool:
    """Whether the other axes, those of size 1 left out, keep their order."""
    others = [source for place, source in enumerate(permutation) if place != axis and shape[source] != 1]
    return others == sorted(others)


def _select(transpose: ir.Node, gather: ir.Node, permutation: Sequence[int]) -> None:
    axis = gather.attributes.get_int("axis", 0) % len(permutation)
    taken = permutation[axis]
    order = [source - (source > taken) for source in permutation if source != taken]
    old, shape = gather.outputs[0], static_shape(transpose.inputs[0])
    assert gather.graph is not None
    assert shape is not None
    slab = insert(gather, "Gather", [transpose.inputs[0], gather.inputs[1]], f"{gather.name}/slab", old, axis=taken)
    slab.shape = ir.Shape([size for place, size in enumerate(shape) if place != taken])
    result = insert(gather, "Transpose", [slab], f"{gather.name}/transposed", old, perm=order)
    name = old.name
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    gather.graph.remove(gather, safe=True)
    result.name = name
