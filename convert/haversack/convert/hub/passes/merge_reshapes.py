"""Chains of operators that only give a tensor another shape."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, nodes

RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def merge_reshapes(model: ir.Model) -> bool:
    """Merge a chain of reshaping nodes into one Reshape, and write static shapes out.

    Given:                                            x is [N, 4, 1, 1]
        a = Transpose<perm=[0, 2, 3, 1]>(x)           moves axes of size 1 alone
        b = Squeeze(a, [1, 2])
        y = Reshape(b, [0, -1])

    Result:
        y = Reshape(x, [-1, 4])

    A single Reshape to a static shape gets that shape, without 0 and -1, as its constant. What cannot be said with
    one unknown dimension stays.
    """
    changed = False
    for node in nodes(model, *RESHAPING):
        source = node.inputs[0]
        if source is None:
            continue
        root, merged = source, 0
        while (before := root.producer()) is not None and before.domain == "" and _only_reshapes(before):
            assert before.inputs[0] is not None
            root, merged = before.inputs[0], merged + 1
            if root.graph is not node.graph:
                root, merged = source, 0
                break
        target = _target(node.outputs[0])
        if target is None or (not merged and not _is_loose(node, target)):
            continue
        _reshape(node, root, target)
        changed = True
    return changed


def _only_reshapes(node: ir.Node) -> bool:
    if node.op_type in RESHAPING:
        return True
    if node.op_type != "Transpose" or "perm" not in node.attributes:
        return False
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return False
    moved = [axis for axis in node.attributes["perm"].as_ints() if shape[axis] != 1]
    return moved == sorted(moved)


def _target(value: ir.Value) -> list[int] | None:
    """The shape to ask for, with -1 for one symbolic dimension; None where there are more, or a size of 0."""
    if value.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    return dims if dims.count(-1) <= 1 and 0 not in dims else None


def _is_loose(node: ir.Node, target: list[int]) -> bool:
    """Whether a lone Reshape asks for a known shape in other words: computed, or with 0 or -1 for what is static."""
    if node.op_type != "Reshape":
        return False
    asked = constant(node.inputs[1])
    return asked is None or (-1 not in target and list(asked) != target)


def _reshape(node: ir.Node, root: ir.Value, target: list[int]) -> None:
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    shape = initializer(graph, f"{node.name}/shape", np.array(target, np.int64))
    new = ir.node("Reshape", [root, shape], name=node.name)
    result = new.outputs[0]
    result.type, result.shape, name = old.type, old.shape, old.name
    graph.insert_before(node, new)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name
