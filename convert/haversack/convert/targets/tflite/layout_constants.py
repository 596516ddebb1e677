"""Constant operands: what counts as one, and how one is brought into another order offline.

An initializer is constant, and so is what Cast and DequantizeLinear make of one (float16 and quantized weights).
Their chain is copied with the initializer moved, so that no Transpose of a constant is left to run time.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import Placed, static_shape
from haversack.convert.targets.tflite.layout_perms import inverse, permuted
from haversack.runtimes.engines import Array

_DECODERS = ("Cast", "DequantizeLinear", "Identity")


def array_of(value: ir.Value | None) -> Array | None:
    """The array of an initializer (or Constant node), else None."""
    if value is None or value.is_graph_input() or value.const_value is None:
        return None
    array: Array = value.const_value.numpy()
    return array


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is an initializer, or decoded from one."""
    while value is not None and not value.is_graph_input():
        if value.const_value is not None:
            return True
        producer = value.producer()
        if producer is None or producer.op_type not in _DECODERS or producer.domain not in ("", "ai.onnx"):
            return False
        value = producer.inputs[0]
    return False


class Constants:
    """Moves constants of one graph, each once for each order.

    Args:
        graph: The graph that gets the moved initializers and the copied decoders.
        name: Gives a fresh value name from a wish.
    """

    def __init__(self, graph: ir.Graph, name: Names):
        self._graph = graph
        self._name = name
        self._made: dict[tuple[ir.Value, tuple[int, ...], tuple[int, ...]], ir.Value] = {}

    def moved(self, value: ir.Value, placed: Placed, before: ir.Node) -> ir.Value | None:
        """`value` in the order `placed`; decoders are copied in front of `before`. None: it cannot be done offline."""
        shape = static_shape(value) or ()
        if math.prod(shape) == 1 and len(shape) >= placed.keep:
            return value
        full = (1,) * (placed.rank - len(shape)) + shape
        stored = permuted(full, placed.perm)
        dropped = 0
        while dropped < placed.rank - placed.keep and stored[dropped] == 1:
            dropped += 1
        if stored[dropped:] == shape and _still(full, placed):
            return value
        return self._move(value, full, placed, dropped, before)

    def _move(
        self, value: ir.Value, full: tuple[int, ...], placed: Placed, dropped: int, before: ir.Node
    ) -> ir.Value | None:
        key = (value, placed.perm, (dropped, *full))
        if key in self._made:
            return self._made[key]
        stored = permuted(full, placed.perm)[dropped:]
        array = array_of(value)
        if array is not None:
            moved = array.reshape(full).transpose(placed.perm).reshape(stored)
            name = self._name(f"{value.name}_channels_last")
            tensor = ir.Tensor(moved, dtype=value.dtype, name=name)
            result = ir.Value(name=name, shape=ir.Shape(stored), type=value.type, const_value=tensor)
            self._graph.register_initializer(result)
        else:
            decoder = value.producer()
            assert decoder is not None
            attributes = dict(decoder.attributes)
            if decoder.op_type == "DequantizeLinear" and static_shape(decoder.inputs[1]) not in ((), (1,)):
                block = attributes.get("block_size")
                if block is not None and block.as_int():
                    return None
                axis = attributes["axis"].as_int() if "axis" in attributes else 1
                rank = len(static_shape(value) or ())
                place = inverse(placed.perm)[axis % rank + placed.rank - rank] - dropped
                attributes["axis"] = ir.AttrInt64("axis", place)
            data = decoder.inputs[0]
            assert data is not None
            moved_data = self._move(data, full, placed, dropped, before)
            if moved_data is None:
                return None
            name = self._name(f"{value.name}_channels_last")
            result = ir.Value(name=name, shape=ir.Shape(stored), type=value.type)
            copy = ir.Node(
                decoder.domain,
                decoder.op_type,
                [moved_data, *decoder.inputs[1:]],
                attributes,
                outputs=[result],
                name=self._name(f"{decoder.name}_channels_last"),
            )
            before.prepend(copy)
        self._made[key] = result
        return result


def _still(full: tuple[int, ...], placed: Placed) -> bool:
    """Whether the order leaves the bytes where they are."""
    shown = [axis for axis in placed.perm if full[axis] != 1]
    return shown == sorted(shown)


class Names:
    """Fresh names in one graph.

    Args:
        taken: Names in use.
    """

    def __init__(self, taken: set[str]):
        self._taken = taken

    def __call__(self, wish: str) -> str:
        """`wish`, or `wish` with the first number that makes it new."""
        name, count = wish, 2
        while name in self._taken:
            name, count = f"{wish}_{count}", count + 1
        self._taken.add(name)
        return name
