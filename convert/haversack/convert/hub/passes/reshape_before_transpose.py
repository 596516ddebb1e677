"""Axes of size 1 that come or go after a Transpose, and a batch of matrices that is split after it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import initializer, insert, nodes, sole_reader
from haversack.convert.hub.shapes import static_shape

_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze")


def reshape_before_transpose(model: ir.Model) -> bool:
    """Add and drop axes of size 1 before a Transpose instead of after it.

    Given:
        a = Transpose<perm=[0, 2, 1]>(x)               x is [4, 17, 16]
        y = Reshape(a, [1, 4, 16, 17])

    Result:
        a = Reshape(x, [1, 4, 17, 16])
        y = Transpose<perm=[0, 1, 3, 2]>(a)

    So may the first axis be split, where it stays the first. A Reshape meets the Reshapes before it and merges with
    them, a Transpose the Transposes and the products behind it. Exporters of PyTorch put a Reshape between the two
    Transposes of an attention's keys.
    """
    changed = False
    for node in nodes(model, *_RESHAPING):
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None or before.op_type != "Transpose" or before.domain != "" or "perm" not in before.attributes:
            continue
        source, target = static_shape(before.inputs[0]), static_shape(node.outputs[0])
        if source is None or target is None or len(source) == len(target):
            continue
        if sole_reader(before.outputs[0]) is not node or before.graph is not node.graph:
            continue
        if before.attributes["perm"].as_ints()[0] == 0 and (lead := _leading(source[0], target)) is not None:
            kept = list(target[:lead])  # the first axis stays the first: its parts move with it
        else:
            lead, kept = 0, []
        moved = [axis for axis in before.attributes["perm"].as_ints()[1 if kept else 0 :] if source[axis] != 1]
        if [source[axis] for axis in moved] != [size for size in target[lead:] if size != 1]:
            continue
        if moved == sorted(moved):  # `merge_reshapes` makes one Reshape of both
            continue
        _swap(before, node, moved, target, lead)
        changed = True
    return changed


def _leading(size: int, target: tuple[int, ...]) -> int | None:
    """How many axes of `target`, more than one, a first axis of `size` is split into; None if not."""
    product = 1
    for place, part in enumerate(target):
        product *= part
        if product == size and place and size > 1:
            return place + 1
    return None


def _swap(before: ir.Node, node: ir.Node, moved: list[int], target: tuple[int, ...], lead: int) -> None:
    """Put the Reshape first.

    Args:
        before: The Transpose.
        node: The Reshape.
        moved: The axes that the Transpose gives in turn, without those of size 1 and, if that is split, the first.
        target: The shape of the result.
        lead: How many axes of the result are parts of the Transpose's first.
    """
    ranks = {axis: rank for rank, axis in enumerate(sorted(moved))}
    places = [place for place, size in enumerate(target) if size != 1 and place >= lead]
    permutation = list(range(len(target)))
    for place, axis in zip(places, moved, strict=True):
        permutation[place] = places[ranks[axis]]
    shape = [0] * len(target)
    for place, axis in enumerate(permutation):
        shape[axis] = target[place]
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    sizes = initializer(graph, f"{node.name}/shape", np.array(shape, np.int64))
    first = insert(node, "Reshape", [before.inputs[0], sizes], f"{node.name}/reshaped", old)
    first.shape = ir.Shape(shape)
    second = insert(node, "Transpose", [first], f"{node.name}/transposed", old, perm=permutation)
    name = old.name
    old.replace_all_uses_with(second, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    graph.remove(before, safe=True)
    second.name = name
