"""How the axes of a free operator's operands correspond, and what an order of one operand means for the others.

A free operator is described by *blocks*, in logical order. A block holds, for each operand (*slot*), the axes that
stand for the same thing and therefore stay together: one axis of each operand of an Add; none of the output of a
reduction that drops the axis; `(g, c)` on one side and one channel axis on the other side of a Reshape. Any order of
the blocks is then an order of every operand, and the operator computes the same values in it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_perms import Perm, identity, same_bytes
from haversack.runtimes.engines import Array


class Slot(NamedTuple):
    """One operand of a node: its input or output number `number`."""

    output: bool
    number: int

    def value(self, node: ir.Node) -> ir.Value:
        """The value that `node` has in this slot."""
        value = node.outputs[self.number] if self.output else node.inputs[self.number]
        assert value is not None
        return value


OUT = Slot(True, 0)
Block = Mapping[Slot, tuple[int, ...]]


class Placed(NamedTuple):
    """How a constant operand is brought to the new order, offline.

    Its shape is filled with leading 1s to `rank`, transposed by `perm`, and freed of leading 1s down to `keep` axes.
    """

    rank: int
    perm: Perm
    keep: int


@dataclass(frozen=True)
class Change:
    """What a node needs when its operands are not in logical order.

    Attributes:
        attributes: New values of attributes.
        inputs: New constants, by input number.
        placed: Constant operands to move, by input number.
        reshaped: Shapes to which activations of lower rank are reshaped before they are read, by input number.
    """

    attributes: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[int, Array] = field(default_factory=dict)
    placed: Mapping[int, Placed] = field(default_factory=dict)
    reshaped: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


Perms = Mapping[Slot, Perm]


@dataclass(frozen=True)
class Free:
    """A node that may run in more than one order.

    Attributes:
        node: The node.
        blocks: How its operands' axes correspond. Activations in no block are read and written in logical order.
        change: What must change when the operands stand in the orders given (never called for all-logical orders);
            None where the operator cannot run so.
        prefers: Orders for which TFLite has a kernel, where it has one only for some.
        reshapes: The node is a pure reshape: it reads and writes whatever has the same bytes.
    """

    node: ir.Node
    blocks: tuple[Block, ...]
    change: Callable[[Perms], Change | None] = lambda _: Change()
    prefers: Callable[[Perms], bool] | None = None
    reshapes: bool = False

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that stand in some block, in a fixed order."""
        return tuple(dict.fromkeys(slot for block in self.blocks for slot in block))

    @functools.cached_property
    def shapes(self) -> dict[Slot, tuple[int, ...]]:
        """The logical shape of each slot."""
        return {slot: static_shape(slot.value(self.node)) or () for slot in self.slots}

    def spread(self, known: Slot, perm: Perm) -> dict[Slot, Perm] | None:
        """The orders of all slots when `known` stands in `perm`; None where that is impossible or not determined."""
        order = self._order(known, perm)
        if order is None:
            return None
        return {slot: self._perm(slot, order) for slot in self.slots}

    def agree(self, perms: Perms) -> dict[Slot, Perm] | None:
        """Exact orders, the same bytes as `perms`, in which all operands correspond; None where there are none."""
        biggest = sorted(perms, key=lambda slot: -math.prod(self.shapes[slot]))
        for reference in biggest:
            exact = self.spread(reference, perms[reference])
            if exact is not None:
                break
        else:
            return None
        for slot, perm in perms.items():
            if not same_bytes(self.shapes[slot], perm, exact[slot]):
                return None
        return exact

    def _perm(self, slot: Slot, order: Sequence[int]) -> Perm:
        return tuple(axis for block in order for axis in self.blocks[block].get(slot, ()))

    def _order(self, slot: Slot, perm: Perm) -> list[int] | None:
        """The order of blocks that puts `slot` in the order `perm`."""
        shape = self.shapes[slot]
        home: dict[int, tuple[int, int]] = {}  # axis → its block, its place among those of the block that show
        sizes: dict[int, int] = {}
        for number, block in enumerate(self.blocks):
            axes = block.get(slot, ())
            shown = [axis for axis in axes if shape[axis] != 1] or axes[:1]
            sizes[number] = len(shown)
            home.update({axis: (number, place) for place, axis in enumerate(shown)})
        order: list[int] = []
        expected = 0  # the next place within the last block
        for axis in perm:
            if axis not in home:
                continue
            number, place = home[axis]
            if place == 0 and (not order or expected == sizes[order[-1]]):
                order.append(number)
                expected = 1
            elif order and order[-1] == number and place == expected:
                expected += 1
            else:
                return None
        for number, block in enumerate(self.blocks):
            if sizes[number]:
                continue
            if any(self._extent(other, axes) != 1 for other, axes in block.items()):
                return None
            order.insert(order.index(number - 1) + 1 if number else 0, number)
        return order

    def _extent(self, slot: Slot, axes: tuple[int, ...]) -> int:
        shape = self.shapes[slot]
        return math.prod(shape[axis] for axis in axes)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The value's shape if every dimension is known and none is 0, else None."""
    if value is None or value.shape is None:
        return None
    dims = []
    for dim in value.shape:
        if not isinstance(dim, int) or dim <= 0:
            return None
        dims.append(dim)
    return tuple(dims)


def logical(perms: Perms) -> bool:
    """Whether all orders are the logical one."""
    return all(perm == identity(len(perm)) for perm in perms.values())
