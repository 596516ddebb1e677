"""Small edits of a hub graph that every compression needs: fresh names, initializers, nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from haversack.runtimes.engines import Array


class Editor:
    """Adds values and nodes to a graph under names that are not taken.

    Args:
        graph: Edited in place.
    """

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self._taken: set[str] = set(graph.initializers)
        self._taken.update(value.name for value in graph.inputs if value.name)
        for node in graph.all_nodes():
            self._taken.add(node.name or "")
            self._taken.update(value.name for value in node.outputs if value.name)

    def name(self, wanted: str) -> str:
        """`wanted`, or `wanted_2`, `wanted_3` … where it is taken; taken from now on."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def initializer(self, name: str, array: Array) -> ir.Value:
        """A new initializer that holds `array`."""
        name = self.name(name)
        array = np.asarray(array)
        tensor = ir.Tensor(np.array(array, order="C"), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        output: str,
        dtype: ir.DataType,
        shape: ir.Shape | None,
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Node:
        """A new node with one output, not yet in the graph; it is named after its output."""
        value = ir.Value(name=self.name(output), type=ir.TensorType(dtype), shape=shape)
        made = [ir.AttrInt64(key, number) for key, number in (attributes or {}).items()]
        return ir.Node("", op, inputs, made, outputs=[value], name=self.name(f"{value.name}_{op}"))

    def before(self, anchor: ir.Node | None, nodes: Iterable[ir.Node]) -> None:
        """Insert `nodes` before `anchor`; at the very start where it is None."""
        nodes = list(nodes)
        first = anchor if anchor is not None else next(iter(self.graph), None)
        if first is None:
            self.graph.extend(nodes)
        else:
            self.graph.insert_before(first, nodes)

    def replace_node(self, node: ir.Node, nodes: Sequence[ir.Node]) -> None:
        """Put `nodes` in the place of `node`, whose only output the last one's takes over, name included."""
        old, new = node.outputs[0], nodes[-1].outputs[0]
        self.graph.insert_before(node, nodes)
        if old.is_graph_output():
            self.swap_output(old, new, f"{old.name}_float")
        else:
            old.name, new.name = new.name, old.name
        old.replace_all_uses_with(new)
        self.graph.remove(node, safe=True)

    def swap_output(self, old: ir.Value, new: ir.Value, renamed: str) -> None:
        """Make `new` the graph output that `old` was: it takes the name, and `old` is called `renamed`."""
        name = old.name
        old.name = self.name(renamed)
        new.name = name
        for i, value in enumerate(self.graph.outputs):
            if value is old:
                self.graph.outputs[i] = new


def replace_initializer(editor: Editor, value: ir.Value, node: ir.Node) -> None:
    """Let `node`'s output take the place and the name of the initializer `value`, right before its first reader."""
    graph = editor.graph
    name = str(value.name)
    users = {user for user, _ in readers(value)}
    value.replace_all_uses_with(node.outputs[0])
    del graph.initializers[name]
    node.outputs[0].name = name
    inside = all(user.graph is graph for user in users)
    editor.before(next((other for other in graph if other in users), None) if inside else None, [node])


def set_constant(editor: Editor, node: ir.Node, index: int, array: Array, name: str) -> None:
    """Let `node` read another constant at `index`: under the old one's name where nobody else reads that.

    Args:
        editor: Of the graph.
        node: Its input at `index` is an initializer, or left out.
        index: Of the input.
        array: The new constant.
        name: Where there was none, or where others go on reading it.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None and len(value.uses()) == 1 and not (value.is_graph_output() or value.is_graph_input()):
        tensor = ir.Tensor(np.array(array, order="C"), name=value.name)
        value.const_value, value.shape = tensor, ir.Shape(array.shape)
        return
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, editor.initializer(name, array))


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove the initializers that nothing reads any more."""
    for name in [
        name for name, value in graph.initializers.items() if not value.uses() and not value.is_graph_output()
    ]:
        del graph.initializers[name]


def readers(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Every (node, input index) that reads `value`, those in subgraphs too, in the order they were wired."""
    return [(use.node, use.idx) for use in value.uses()]
