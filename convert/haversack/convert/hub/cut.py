"""The part of a graph that lies behind some nodes, as a graph of its own.

What is asked of one layer again and again (how does the output change if its weights are held so?) need not compute
what lies before it again: everything that the part reads from outside becomes an input of it, computed once.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def behind(model: ir.Model, nodes: Iterable[str]) -> tuple[ir.Model, tuple[str, ...]]:
    """Cut a graph in front of some nodes.

    Given x → A → a → B → b → D(a, b) → y and the node B, the result computes y = D(a, B(a)) of its one input a.

    Args:
        model: Not changed.
        nodes: Names of nodes of the main graph.

    Returns:
        A model that computes the same outputs, and the names of the values that it takes: graph inputs, or values that
        the whole model computes. Outputs that do not depend on the nodes are left out.

    Raises:
        KeyError: There is no node of such a name.
    """
    copy = model.clone()
    graph = copy.graph
    wanted = set(nodes)
    if unknown := wanted - {node.name for node in graph}:
        raise KeyError(sorted(unknown)[0])
    inside: set[ir.Node] = set()
    constant: set[ir.Value] = set(graph.initializers.values())
    for node in graph:  # in topological order
        read = _read(node)
        if node.name in wanted or any(value.producer() in inside for value in read):
            inside.add(node)
        elif all(value in constant for value in read):  # a DequantizeLinear of weights: goes along where it is read
            constant.update(node.outputs)
    crossing = {
        value: None
        for node in graph
        if node in inside
        for value in _read(node)
        if value not in constant and value.producer() not in inside
    }
    outputs = [value for value in graph.outputs if value.producer() in inside]
    inputs = []
    for value in crossing:
        if value in graph.inputs:
            inputs.append(value)
            continue
        entry = ir.Value(name=value.name, type=value.type, shape=value.shape)
        value.name = f"{value.name}/computed"
        value.replace_all_uses_with(entry)
        inputs.append(entry)
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    graph.inputs.clear()
    graph.inputs.extend(inputs)
    RemoveUnusedNodesPass()(copy)
    return copy, tuple(str(value.name) for value in inputs)


def _read(node: ir.Node) -> list[ir.Value]:
    """Every value that a node reads, those that its subgraphs read from outside included."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else list(attribute.as_graphs())
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for graph in graphs:
            own = {value for inner in graph.all_nodes() for value in inner.outputs} | set(graph.inputs)
            own |= set(graph.initializers.values())
            read = [value for inner in graph.all_nodes() for value in inner.inputs if value is not None]
            found += [value for value in (*read, *graph.outputs) if value not in own]
    return found
