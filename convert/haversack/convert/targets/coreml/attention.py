"""Attention as the one op that MIL has for it from iOS 18 on: softmax(q k' / sqrt(E) + mask) v.

Exporters spell it out, and the hub expands ONNX's own Attention: a product of queries and keys, scaled, masked, through
Softmax, times the values. Where nobody else reads what is between, the nodes become one, which is lowered to
`scaled_dot_product_attention`. On older systems they are lowered one by one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.shapes import static_shape
from haversack.convert.targets.coreml.builder import MAX_RANK, Builder, Value, Var

FIRST = 18
"""The lowest system whose opset has the op."""
DOMAIN = "haversack.coreml"
"""Of the node that stands for the pattern; such a node never leaves this package."""
ONE = 1e-6
"""A scale this close to 1 / sqrt(E), relatively, is that one: float32 holds it no better."""


@dataclass
class _Pattern:
    """One place where attention is spelled out.

    Attributes:
        query: Queries [..., L, E].
        key: What a transpose by `perm` makes keys [..., S, E] of.
        perm: That permutation.
        value: Values [..., S, EV].
        mask: Added to the scores; None where nothing is.
        scale: What the scores are multiplied by.
        nodes: The nodes, the last first.
    """

    query: ir.Value
    key: ir.Value
    perm: list[int]
    value: ir.Value
    mask: ir.Value | None
    scale: float
    nodes: list[ir.Node] = field(default_factory=list)


def joined(model: ir.Model, float32_nodes: Collection[str]) -> ir.Model:
    """`model` with attention in one node where it is spelled out; itself where it nowhere is.

    Args:
        model: A graph with static shapes; it is not changed.
        float32_nodes: Nodes that compute in another precision than the rest, and so are not joined with others.
    """
    if not any(_found(node, float32_nodes) for node in model.graph):
        return model
    model = model.clone()
    for last in list(model.graph):
        pattern = _found(last, float32_nodes)
        if pattern is None:
            continue
        old = last.outputs[0]
        factor = pattern.scale * math.sqrt(int(_shape(pattern.query)[-1]))
        attributes = [ir.AttrInt64s("perm", pattern.perm)]
        if abs(factor - 1) > ONE:
            attributes.append(ir.AttrFloat32("factor", factor))
        inputs = [pattern.query, pattern.key, pattern.value, *([pattern.mask] if pattern.mask is not None else [])]
        node = ir.Node(DOMAIN, "Attention", inputs, attributes, num_outputs=1, name=last.name)
        new, name = node.outputs[0], old.name
        new.shape, new.type = old.shape, old.type
        model.graph.insert_before(last, node)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        for each in pattern.nodes:
            if not any(value.uses() for value in each.outputs):  # a transpose of the keys may have other readers
                model.graph.remove(each, safe=True)
        new.name = name
    return model


def attention(
    b: Builder,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None = None,
    *,
    perm: Sequence[int],
    factor: float = 1.0,
) -> Var:
    """Lower the node; the op itself divides the scores by sqrt(E), so what is left of the scale is in `factor`."""
    scaled = b.var(query) if factor == 1.0 else b.op("mul", x=query, y=np.float32(factor))
    keys = b.transpose(b.var(key), perm)
    return b.op("scaled_dot_product_attention", query=scaled, key=keys, value=value, attn_mask=mask)


def _found(last: ir.Node, float32_nodes: Collection[str]) -> _Pattern | None:
    """The pattern that ends in this node."""
    if not _is(last, "MatMul") or last.inputs[0] is None or last.inputs[1] is None:
        return None
    weights, nodes = last.inputs[0], [last]
    chosen = _inner(weights, "Where")
    if chosen is not None and _is_false(chosen.inputs[0]) and chosen.inputs[2] is not None:
        weights, nodes = chosen.inputs[2], [last, chosen]  # ONNX's Attention asks which rows are masked: none
    softmax = _inner(weights, "Softmax")
    if softmax is None or softmax.attributes.get_int("axis", -1) not in (-1, len(_shape(weights)) - 1):
        return None
    nodes, scores, mask, scale = [*nodes, softmax], softmax.inputs[0], None, 1.0
    added = _inner(scores, "Add")
    if added is not None:
        sides = [(a, b) for a, b in (added.inputs, added.inputs[::-1]) if _product(a) is not None]
        if len(sides) != 1:
            return None
        (scores, mask), nodes = sides[0], [*nodes, added]
    product = _product(scores)
    if product is None:
        return None
    while scores is not None and scores.producer() is not product:
        node = scores.producer()
        assert node is not None
        scores, factor = _scaled(node)
        scale, nodes = scale * factor, [*nodes, node]
    query, keys = product.inputs
    nodes.append(product)
    if query is None or keys is None:
        return None
    multiplied = _inner(query, "Mul")
    if multiplied is not None and _scaled(multiplied)[0] is not None:
        query, factor = _scaled(multiplied)
        scale, nodes = scale * factor, [*nodes, multiplied]
    assert query is not None
    rank = len(_shape(keys))
    perm, transpose = [*range(rank - 2), rank - 1, rank - 2], keys.producer()
    if transpose is not None and _is(transpose, "Transpose") and transpose.inputs[0] is not None:
        own = list(transpose.attributes["perm"].as_ints()) if "perm" in transpose.attributes else [*range(rank)][::-1]
        keys, perm, nodes = transpose.inputs[0], [own[axis] for axis in perm], [*nodes, transpose]
    pattern = _Pattern(query, keys, perm, last.inputs[1], mask, scale, nodes)
    if any(str(node.name) in float32_nodes for node in nodes) or not _holds(pattern, _shape(product.outputs[0])):
        return None
    return pattern


def _holds(pattern: _Pattern, scores: tuple[int, ...]) -> bool:
    """Whether types and shapes are those that the op takes; it broadcasts nothing but the mask."""
    values = [pattern.query, pattern.key, pattern.value, *([pattern.mask] if pattern.mask is not None else [])]
    if any(value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16) for value in values):
        return False
    query, value = _shape(pattern.query), _shape(pattern.value)
    key = tuple(_shape(pattern.key)[axis] for axis in pattern.perm)
    if not 3 <= len(query) == len(key) == len(value) <= MAX_RANK or not query[:-2] == key[:-2] == value[:-2]:
        return False
    if pattern.mask is None:
        return True
    mask = _shape(pattern.mask)
    fits = len(mask) <= len(scores) and all(m in (1, s) for m, s in zip(mask[::-1], scores[::-1], strict=False))
    return fits and bool(mask) and mask[-1] == scores[-1]


def _product(scores: ir.Value | None) -> ir.Node | None:
    """The MatMul of queries and keys behind scores that are scaled any number of times."""
    while scores is not None:
        node = _inner(scores, "MatMul", "Mul", "Div")
        if node is None or node.op_type == "MatMul":
            return node
        scores = _scaled(node)[0]
    return None


def _scaled(node: ir.Node) -> tuple[ir.Value | None, float]:
    """What a Mul or Div by a constant of one element multiplies, and by how much; None for any other."""
    pairs = [(0, 1), (1, 0)] if node.op_type == "Mul" else [(0, 1)]
    for place, other in pairs:
        held, x = node.inputs[other], node.inputs[place]
        if held is not None and x is not None and held.const_value is not None and held.const_value.size == 1:
            number = float(held.const_value.numpy().reshape(-1)[0])
            if len(_shape(held)) <= len(_shape(x)) and number != 0 and math.isfinite(number):
                return x, 1 / number if node.op_type == "Div" else number
    return None, 1.0


def _inner(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node of one of these operators that a value comes from, where nobody else reads the value."""
    if value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    node = value.producer()
    return node if node is not None and _is(node, *kinds) else None


def _is_false(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and not value.const_value.numpy().any()


def _is(node: ir.Node, *kinds: str) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in kinds


def _shape(value: ir.Value) -> tuple[int, ...]:
    return static_shape(value) or ()
