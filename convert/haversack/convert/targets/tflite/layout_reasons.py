"""Why a Transpose remains: which two operators, neither of which can yield, disagree about a tensor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import Free, Slot
from haversack.convert.targets.tflite.layout_labels import Labels
from haversack.convert.targets.tflite.layout_rules import Pinned, Spatial, Transposes
from haversack.convert.targets.tflite.mincut import SINK, SOURCE

Step = tuple[ir.Node, Slot]


class Reasons:
    """Explains the tensors that a solved labelling transposes.

    Args:
        labels: The problem.
        sides: Its solution.
    """

    def __init__(self, labels: Labels, sides: Sequence[bool]):
        self._labels = labels
        self._sides = sides

    def of(self, value: ir.Value) -> str:
        """One sentence if `value` is made in one state and read in another, else empty."""
        labels, sides = self._labels, self._sides
        made = sides[labels.produced(value)]
        if all(sides[term] == made for term in labels.readers(value)):
            return ""
        maker = value.producer()
        if maker is None:
            writes = f"input {value.name} keeps its order"
        else:
            writes = self._pinned((maker, Slot(True, value.index() or 0)), made)
        for node, index in self._uses(value):
            if sides[labels.of(node, Slot(False, index))] != made:
                return f"{writes}; {self._pinned((node, Slot(False, index)), not made)}"
        if value in labels.outputs and sides[labels.outputs[value]] != made:
            return f"{writes}; output {value.name} keeps its order"
        return f"{writes}; a nested graph reads {value.name} in its logical order"

    def own(self, node: ir.Node, kind: Transposes) -> str:
        """Why a Transpose of the model itself moves bytes, if it does."""
        labels, slots = self._labels, (Slot(False, 0), Slot(True, 0))
        if all(labels.transpose_cost(node, kind, i, o) for i in (0, 1) for o in (0, 1)):
            return "the model's own Transpose, which no order of the tensors around it makes needless"
        read, written = (int(self._sides[labels.of(node, slot)]) for slot in slots)
        before, after = (
            self._pinned((node, slot), bool(state)) for slot, state in zip(slots, (read, written), strict=True)
        )
        if all(labels.transpose_cost(node, kind, read, o) for o in (0, 1)):  # whatever the order of its result
            return f"the model's own Transpose: {before}"
        if all(labels.transpose_cost(node, kind, i, written) for i in (0, 1)):
            return f"the model's own Transpose: {after}"
        return f"the model's own Transpose: {before}; {after}"

    def _uses(self, value: ir.Value) -> list[tuple[ir.Node, int]]:
        uses = [(use.node, use.idx) for use in value.uses() if use.node in self._labels.terms]
        return sorted(uses, key=lambda use: (self._labels.frames.position(use[0]), use[1]))

    def _pinned(self, start: Step, state: bool) -> str:
        """The nearest operator that forces `state`, found through operators in that state."""
        queue, seen, own = deque([start]), {start[0]}, list[ir.Node]()
        while queue:
            node, slot = queue.popleft()
            if isinstance(self._labels.frames.kinds[node], Transposes):
                own.append(node)
            term = self._labels.of(node, slot)
            if term in (SOURCE, SINK):
                return self._describe(node)
            for value in self._touched(node, term):
                if value in self._labels.inputs and self._sides[self._labels.inputs[value]] == state:
                    return f"input {value.name} keeps its order"
                if value in self._labels.outputs and self._sides[self._labels.outputs[value]] == state:
                    return f"output {value.name} keeps its order"
                for step in self._steps(value):
                    if step[0] not in seen and self._sides[self._labels.of(*step)] == state:
                        seen.add(step[0])
                        queue.append(step)
        if own:  # it moves the bytes, wherever that is cheapest, and nothing beyond it takes them otherwise
            return f"{own[0].name} (Transpose) is the model's own"
        return f"{start[0].name} ({start[0].op_type}) is cheaper so"

    def _touched(self, node: ir.Node, term: int) -> Iterator[ir.Value]:
        kind, labels = self._labels.frames.kinds[node], self._labels
        absorbed = False
        if isinstance(kind, Transposes):
            read, written = (int(self._sides[labels.of(node, Slot(output, 0))]) for output in (False, True))
            absorbed = not labels.transpose_cost(node, kind, read, written)
        for slot, own in labels.terms[node].items():
            value = slot.value(node)
            if (own == term or absorbed) and len(set(labels.frames.frame(value))) == 2:
                yield value

    def _steps(self, value: ir.Value) -> Iterator[Step]:
        maker = value.producer()
        if maker is not None and maker in self._labels.terms:
            yield maker, Slot(True, value.index() or 0)
        for node, index in self._uses(value):
            yield node, Slot(False, index)

    def _describe(self, node: ir.Node) -> str:
        kind = self._labels.frames.kinds[node]
        what = f"{node.name} ({node.op_type})"
        if isinstance(kind, Spatial):
            return f"{what} is channels-last"
        if isinstance(kind, Pinned):
            return f"{what} keeps the logical order: {kind.reason}"
        if isinstance(kind, Free):
            return f"{what} is possible in one order only"
        return what
