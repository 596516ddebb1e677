"""Carries a solved labelling out: renames axes, moves constants, and inserts the Transposes that remain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import OUT, Change, Free, Placed, Slot, logical, static_shape
from haversack.convert.targets.tflite.layout_constants import Constants, Names, array_of, is_constant
from haversack.convert.targets.tflite.layout_frames import Frames
from haversack.convert.targets.tflite.layout_perms import Perm, compose, identity, inverse, permuted, same_bytes
from haversack.convert.targets.tflite.layout_rules import Spatial, Transposes

State = Callable[[ir.Node, Slot], int]


class Rewriter:
    """Rewrites one graph in place.

    Args:
        graph: The graph, on whose nodes and values `frames` was made.
        frames: The orders of each tensor.
        state: The solved state of each slot.
        domain: The domain that channels-last operators move to.
    """

    def __init__(self, graph: ir.Graph, frames: Frames, state: State, domain: str):
        self.graph = graph
        self.frames = frames
        self.state = state
        self.domain = domain
        self.copies: dict[ir.Value, dict[Perm, ir.Value]] = {}
        """Of each tensor, its copies by order; the first is how it is made."""
        self.transposes: list[tuple[ir.Value, ir.Value]] = []
        """The Transposes inserted: the tensor, and its new copy."""
        self.kept: list[tuple[ir.Node, ir.Value]] = []
        """The graph's own Transposes that still move bytes, and the tensor each one reads."""
        names = {value.name for node in graph for value in node.outputs if value.name}
        names |= {value.name for value in (*graph.inputs, *graph.initializers.values()) if value.name}
        names |= {node.name for node in graph if node.name}
        self._name = Names(names)
        self._gone: list[ir.Node] = []
        self._stored: dict[ir.Value, tuple[int, ...]] = {}  # set at the end: rules read the logical shapes till then
        self._constants = Constants(graph, self._name)
        nodes = list(graph)
        self._first = nodes[0] if nodes else None

    def run(self, ends: Mapping[ir.Value, int], captured: Iterable[ir.Value]) -> None:
        """Rewrite every node, then the graph's inputs, outputs and captures.

        Args:
            ends: The state of each graph input and output.
            captured: Tensors that nested graphs read, in logical order.
        """
        for value in self.graph.inputs:
            self._made(value, self.frames.frame(value)[ends[value]])
        for node in list(self.graph):
            kind = self.frames.kinds[node]
            if isinstance(kind, Transposes):
                self._transpose(node, kind)
            elif isinstance(kind, Free):
                self._free(node, kind)
            else:
                self._pinned(node, isinstance(kind, Spatial))
        for value in captured:
            copy = self.read(value, identity(len(self._shape(value))))
            for use in list(value.uses()):
                if use.node.graph is not self.graph and copy is not value:
                    use.node.replace_input_with(use.idx, copy)
        outputs = list(self.graph.outputs)
        copies = [self.read(value, self.frames.frame(value)[ends[value]]) for value in outputs]
        for value, shape in self._stored.items():
            value.shape = ir.Shape(shape)
        for index, (value, copy) in enumerate(zip(outputs, copies, strict=True)):
            self._end(index, value, copy)

        self.graph.remove(self._gone, safe=True)

    def read(self, value: ir.Value, perm: Perm) -> ir.Value:
        """The copy of `value` in the order `perm`; made right after the tensor itself where it does not exist."""
        copies = self.copies.setdefault(value, {identity(len(perm)): value})
        if perm in copies:
            return copies[perm]
        shape = self._shape(value)
        alike = (item for item in copies.items() if same_bytes(shape, item[0], perm))
        order, source = next(alike, next(iter(copies.items())))
        suffix = "channels_first" if perm == identity(len(perm)) else "channels_last"
        result = ir.Value(
            name=self._name(f"{value.name}_{suffix}"), shape=ir.Shape(permuted(shape, perm)), type=source.type
        )
        if same_bytes(shape, order, perm):
            self._insert(source, self._reshape_node(source, permuted(shape, perm), result))
        else:
            self._insert(source, self._transpose_node(source, compose(inverse(order), perm), result))
            self.transposes.append((value, result))
        copies[perm] = result
        return result

    def _shape(self, value: ir.Value) -> tuple[int, ...]:
        return static_shape(value) or ()

    def _made(self, value: ir.Value, perm: Perm) -> None:
        """Say that `value` itself now stands in `perm`."""
        self.copies[value] = {perm: value}
        if perm != identity(len(perm)):
            self._stored[value] = permuted(self._shape(value), perm)

    def _perms(self, node: ir.Node, slots: tuple[Slot, ...]) -> dict[Slot, Perm]:
        return {slot: self.frames.frame(slot.value(node))[self.state(node, slot)] for slot in slots}

    def _pinned(self, node: ir.Node, spatial: bool) -> None:
        """Operators that read and write what their state says, without a change."""
        originals = list(node.inputs)
        for index, value in enumerate(originals):
            if value is not None and value.name and not is_constant(value):
                copy = self.read(value, self.frames.frame(value)[self.state(node, Slot(False, index))])
                if copy is not value:
                    node.replace_input_with(index, copy)
        for index, value in enumerate(node.outputs):
            self._made(value, self.frames.frame(value)[self.state(node, Slot(True, index))])
        if spatial:
            node.domain = self.domain

    def _free(self, node: ir.Node, kind: Free) -> None:
        wanted = self._perms(node, kind.slots)
        if logical(wanted):
            self._pinned(node, False)
            return
        if kind.reshapes:
            self._reshape(node, wanted)
            return
        exact = kind.agree(wanted)
        assert exact is not None, "labels take legal states only"
        change = Change() if logical(exact) else kind.change(exact)
        assert change is not None, "labels take legal states only"
        originals = list(node.inputs)
        for index, value in enumerate(originals):
            if value is None or not value.name:
                continue
            slot = Slot(False, index)
            if slot in exact:
                copy = self.read(value, exact[slot])
            elif is_constant(value):
                copy = value
            else:
                copy = self.read(value, identity(len(self._shape(value))))
            if index in change.reshaped:
                copy = self._reshaped(copy, change.reshaped[index])
            elif index in change.placed:
                copy = self._placed(value, change.placed[index], node)
            if copy is not value:
                node.replace_input_with(index, copy)
        for index, array in change.inputs.items():
            self._set_input(node, index, array)
        for name, number in change.attributes.items():
            node.attributes[name] = ir.AttrInt64(name, number)
        for index, value in enumerate(node.outputs):
            slot = Slot(True, index)
            self._made(value, exact[slot] if slot in exact else identity(len(self._shape(value))))

    def _reshape(self, node: ir.Node, perms: Mapping[Slot, Perm]) -> None:
        """Any pure reshape becomes a Reshape to the shape that its output has in memory."""
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        copy = self.read(source, perms.get(Slot(False, 0), identity(len(self._shape(source)))))
        order = perms.get(OUT, identity(len(self._shape(result))))
        shape = permuted(self._shape(result), order)
        node.op_type = "Reshape"
        node.attributes.clear()
        node.replace_input_with(0, copy)
        node.resize_inputs(2)
        self._set_input(node, 1, np.array(shape, np.int64))
        self._made(result, order)

    def _transpose(self, node: ir.Node, kind: Transposes) -> None:
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        before = self.frames.frame(source)[self.state(node, Slot(False, 0))]
        order = self.frames.frame(result)[self.state(node, OUT)]
        after = compose(kind.perm, order)  # of the source, like `before`
        shape = self._shape(source)
        copy = self.read(source, before)
        if before == after:
            self.copies[result] = {order: copy}
            self._gone.append(node)
            return
        node.replace_input_with(0, copy)
        if same_bytes(shape, before, after):
            node.op_type = "Reshape"
            node.attributes.clear()
            node.resize_inputs(2)
            self._set_input(node, 1, np.array(permuted(shape, after), np.int64))
        else:
            node.attributes["perm"] = ir.AttrInt64s("perm", compose(inverse(before), after))
            self.kept.append((node, source))
        self._made(result, order)

    def _end(self, index: int, value: ir.Value, copy: ir.Value) -> None:
        """Make `copy` the graph output number `index` under the name of the hub's output `value`."""
        if copy is value:
            return
        name, taken = value.name, copy.is_graph_input() or copy.is_graph_output() or is_constant(copy)
        assert name is not None
        if copy in self.graph.outputs or taken:
            alias = ir.Value(name=name, shape=copy.shape, type=copy.type)
            node = ir.Node("", "Identity", [copy], outputs=[alias], name=self._name(f"{name}_identity"))
            self.graph.append(node)
            copy = alias
        value.name = self._name(f"{name}_before")
        copy.name = name
        self.graph.outputs[index] = copy

    def _placed(self, value: ir.Value, placed: Placed, node: ir.Node) -> ir.Value:
        moved = self._constants.moved(value, placed, node)
        if moved is not None:
            return moved
        shape = self._shape(value)
        full = self._reshaped(value, (1,) * (placed.rank - len(shape)) + shape)
        stored = permuted((1,) * (placed.rank - len(shape)) + shape, placed.perm)
        result = ir.Value(name=self._name(f"{value.name}_channels_last"), shape=ir.Shape(stored), type=value.type)
        self._insert(full, self._transpose_node(full, placed.perm, result))
        self.transposes.append((value, result))
        return result

    def _reshaped(self, source: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        if self._stored.get(source, static_shape(source)) == shape:
            return source
        result = ir.Value(name=self._name(f"{source.name}_reshaped"), shape=ir.Shape(shape), type=source.type)
        self._insert(source, self._reshape_node(source, shape, result))
        return result

    def _set_input(self, node: ir.Node, index: int, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
        old = node.inputs[index] if index < len(node.inputs) else None
        known = array_of(old)
        if known is not None and known.shape == array.shape and (known == array).all():
            return
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, self._integers(f"{node.name}_input_{index}", array))

    def _integers(self, wish: str, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> ir.Value:
        name = self._name(wish)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.INT64),
            const_value=ir.Tensor(array, name=name),
        )
        self.graph.register_initializer(value)
        return value

    def _reshape_node(self, source: ir.Value, shape: tuple[int, ...], result: ir.Value) -> ir.Node:
        target = self._integers(f"{result.name}_shape", np.array(shape, np.int64))
        return ir.Node("", "Reshape", [source, target], outputs=[result], name=self._name(f"{result.name}_node"))

    def _transpose_node(self, source: ir.Value, perm: Perm, result: ir.Value) -> ir.Node:
        attributes = {"perm": ir.AttrInt64s("perm", perm)}
        return ir.Node("", "Transpose", [source], attributes, outputs=[result], name=self._name(f"{result.name}_node"))

    def _insert(self, source: ir.Value, node: ir.Node) -> None:
        """Put `node` right behind the one that makes `source`."""
        producer = source.producer()
        if producer is not None:
            producer.append(node)
        elif self._first is not None and self._first.graph is not None:
            self._first.prepend(node)
        else:
            self.graph.append(node)
