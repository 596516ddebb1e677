"""The few moves that every rewrite is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from haversack.runtimes.engines import Array

WEIGHT_FORMS = frozenset({"DequantizeLinear", "Cast"})
"""Operators that turn a stored weight into the values that are computed with."""

VIEWED_BYTES = 1 << 20
"""From this size on an initializer may be a view of another, in another order."""


def nodes(model: ir.Model, *ops: str) -> Iterator[ir.Node]:
    """The nodes of the default domain with an operator among `ops` (all operators where none is given).

    Subgraphs are included. A node that a rewrite removed in the meantime is left out, one it added too.
    """
    wanted = frozenset(ops)
    for graph in list(model.graphs()):
        for node in list(graph):
            if node.graph is graph and node.domain == "" and (not wanted or node.op_type in wanted):
                yield node


def constant(value: ir.Value | None) -> Array | None:
    """What an initializer holds, None for anything that is computed or fed. Do not write to it."""
    if not is_constant(value):
        return None
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether `value` is an initializer that the user cannot feed."""
    return (
        value is not None
        and value.is_initializer()
        and value.const_value is not None
        and not value.is_graph_input()
        and value.const_value.dtype is not ir.DataType.STRING
    )


def is_weight(value: ir.Value | None) -> bool:
    """Whether `value` is a constant, or a stored weight behind a DequantizeLinear or a Cast from float16.

    A Transpose of one counts too: `merge_transposes` moves it into what is stored.
    """
    if is_constant(value):
        return True
    producer = value.producer() if value is not None else None
    if producer is None or producer.domain != "":
        return False
    if producer.op_type == "Transpose":
        return is_weight(producer.inputs[0]) and not is_blocked(producer.inputs[0])
    return producer.op_type in WEIGHT_FORMS and all(each is None or is_constant(each) for each in producer.inputs)


def is_blocked(value: ir.Value | None) -> bool:
    """Whether `value` is a weight quantized in blocks along an axis, which ties it to its axis order."""
    producer = value.producer() if value is not None else None
    return (
        producer is not None
        and producer.op_type == "DequantizeLinear"
        and producer.attributes.get_int("block_size", 0) != 0
    )


def scalar(value: ir.Value | None) -> float | None:
    """The number in an initializer of one element, None for anything else."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def initializer(graph: ir.Graph, name: str, array: Array, dtype: ir.DataType | None = None) -> ir.Value:
    """Add an initializer under a free name like `name`.

    Args:
        graph: Where its first reader is.
        name: What it should be called.
        array: What it holds.
        dtype: Its element type where that is not the array's own.
    """
    free = name
    count = 1
    while free in graph.initializers:
        count += 1
        free = f"{name}_{count}"
    # A view would keep the array alive that it is a part of; of a large weight it saves a copy, and what writes the
    # elements puts them in order.
    if array.nbytes < VIEWED_BYTES or 0 in array.strides:
        array = np.ascontiguousarray(array).reshape(array.shape)
    tensor = ir.Tensor(array, dtype=dtype, name=free)
    value = ir.Value(name=free, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def insert(
    before: ir.Node, op: str, inputs: Sequence[ir.Value | None], name: str, like: ir.Value, **attributes: object
) -> ir.Value:
    """Insert a node and give its output.

    Args:
        before: The node it is inserted before.
        op: Its operator.
        inputs: Its inputs.
        name: The node's name and its output's.
        like: A value of the element type, and where the caller does not change it the shape, that it computes.
        **attributes: Its attributes.
    """
    node = ir.node(op, inputs, attributes=attributes or None, name=name)
    node.outputs[0].name = name
    node.outputs[0].type = like.type
    node.outputs[0].shape = like.shape.copy() if like.shape is not None else None
    assert before.graph is not None
    before.graph.insert_before(before, node)
    return node.outputs[0]


def replace(node: ir.Node, op: str, inputs: Sequence[ir.Value | None], **attributes: object) -> None:
    """Put another operator in the place of a node with one output, under its names and with its type and shape."""
    old, graph = node.outputs[0], node.graph
    assert graph is not None
    new = ir.node(op, inputs, attributes=attributes or None, name=node.name)
    result = new.outputs[0]
    result.type, result.shape, name = old.type, old.shape, old.name
    graph.insert_before(node, new)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = name


def sole_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, if there is just one, it reads it once, and the value is no graph output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses)).node


def has_one_use(value: ir.Value) -> bool:
    """Whether just one input of one node reads `value` and it is no graph output."""
    return sole_reader(value) is not None


def absorb(node: ir.Node, into: ir.Value) -> None:
    """Remove `node`, whose one output `into` computes from now on, under the name of that output.

    `into` must be computed in the same graph and have been read by `node` alone, so that its old name means nothing
    any more.
    """
    old = node.outputs[0]
    name = old.name
    into.type = old.type or into.type
    into.shape = old.shape if old.shape is not None else into.shape
    old.replace_all_uses_with(into, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    into.name = name


def bypass(node: ir.Node) -> bool:
    """Let the readers of a node's first output read its first input instead, and remove the node.

    A graph output keeps its name. Where its new producer could not carry that name (a graph input, an initializer,
    another output, a value of an enclosing graph), the node stays as an Identity.

    Returns:
        Whether anything changed.
    """
    source, result = node.inputs[0], node.outputs[0]
    graph = node.graph
    assert source is not None
    assert graph is not None
    if result.is_graph_output():
        if source.is_graph_output() or source.producer() is None or source.graph is not graph:
            changed = node.op_type != "Identity"
            if changed:
                replace(node, "Identity", [source])
            return changed
        absorb(node, source)
        return True
    if source.shape is None or not source.shape.is_static():
        source.shape = result.shape if result.shape is not None else source.shape
    if source.type is None:
        source.type = result.type
    result.replace_all_uses_with(source)
    graph.remove(node, safe=True)
    return True
