"""The two orders that each tensor may stand in, found by spreading from the spatial operators.

Every tensor near a spatial operator gets a *frame*: a pair of orders, one for each state. State 0 is channels-first
and state 1 channels-last; what that means for a tensor follows from its neighbours. The data of a Conv has the frame
`(logical, (0, 2, 3, 1))`. Free operators carry a frame over to all their operands. Beyond a Transpose by `(0, 2, 3,
1)` the same two memory orders are called `((0, 3, 1, 2), logical)`: the tensor is channels-last by definition, and a
Transpose between equal states moves nothing. In every frame at least one of the two is the logical order, so that an
operator that insists on it can always be served. A tensor that no frame reaches stands in its logical order.

Frames are given first come first served, in graph order: from spatial operators, through free ones, then through
Transposes, and last through tensors whose two orders are the same bytes. Where two frames meet that do not fit, the
operator between them keeps the logical order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import Free, Slot, static_shape
from haversack.convert.targets.tflite.layout_constants import is_constant
from haversack.convert.targets.tflite.layout_perms import (
    Perm,
    channels_last,
    compose,
    identity,
    inverse,
    same_bytes,
)
from haversack.convert.targets.tflite.layout_rules import Pinned, Spatial, Transposes, classify

Frame = tuple[Perm, Perm]
Kind = Spatial | Transposes | Free | Pinned


class Frames:
    """The frame of each tensor and the layout rule of each node of a graph.

    Attributes:
        kinds: What layout allows each node, in graph order.
        frames: The frames found. Use `frame` for any tensor.
    """

    def __init__(self, graph: ir.Graph):
        self.kinds: dict[ir.Node, Kind] = {node: classify(node) for node in graph}
        self.frames: dict[ir.Value, Frame] = {}
        self._nodes = list(graph)
        self._position = {node: number for number, node in enumerate(self._nodes)}
        self._moving: deque[ir.Value] = deque()
        self._still: deque[ir.Value] = deque()
        self._transposes: list[int] = []
        self._settled: set[ir.Node] = set()  # free nodes all of whose operands have a frame: n of them are met n times
        for node, kind in self.kinds.items():
            if isinstance(kind, Spatial):
                for slot in (Slot(False, 0), Slot(True, 0)):
                    value = slot.value(node)
                    rank = len(static_shape(value) or ())
                    self._give(value, (identity(rank), channels_last(rank)))
        while self._spread():
            pass

    def frame(self, value: ir.Value) -> Frame:
        """The two orders of `value`: equal where it stands in its logical order whatever happens."""
        if value in self.frames:
            return self.frames[value]
        rank = 0 if value.shape is None else len(value.shape)
        return identity(rank), identity(rank)

    def position(self, node: ir.Node) -> int:
        """The place of `node` in graph order."""
        return self._position[node]

    def logical_state(self, value: ir.Value) -> int:
        """The state in which `value` stands in its logical order (0 where both are)."""
        first, _ = self.frame(value)
        return 0 if first == identity(len(first)) else 1

    def _give(self, value: ir.Value, frame: Frame) -> None:
        if value in self.frames or is_constant(value) or identity(len(frame[0])) not in frame:
            return
        self.frames[value] = frame
        if frame[0] == frame[1]:
            return
        still = same_bytes(static_shape(value) or (), *frame)
        (self._still if still else self._moving).append(value)
        for node in self._neighbours(value):
            if isinstance(self.kinds[node], Transposes):
                heapq.heappush(self._transposes, self._position[node])

    def _neighbours(self, value: ir.Value) -> Iterator[ir.Node]:
        producer = value.producer()
        if producer in self.kinds:
            yield producer
        readers = {use.node for use in value.uses() if use.node in self.kinds}
        yield from sorted(readers, key=self._position.__getitem__)

    def _spread(self) -> bool:
        """Take one step of the most urgent kind; False when nothing is left to do."""
        if self._moving:
            self._through_free(self._moving.popleft())
        elif self._transposes:
            self._through_transpose(self._nodes[heapq.heappop(self._transposes)])
        elif self._still:
            self._through_free(self._still.popleft())
        else:
            return False
        return True

    def _through_free(self, value: ir.Value) -> None:
        frame = self.frames[value]
        for node in self._neighbours(value):
            kind = self.kinds[node]
            if not isinstance(kind, Free) or node in self._settled:
                continue
            for slot in kind.slots:
                if slot.value(node) is not value:
                    continue
                first, last = kind.spread(slot, frame[0]), kind.spread(slot, frame[1])
                if first is None or last is None:
                    continue
                for other in kind.slots:
                    self._give(other.value(node), (first[other], last[other]))
                if all(other.value(node) in self.frames for other in kind.slots):
                    self._settled.add(node)
                    break

    def _through_transpose(self, node: ir.Node) -> None:
        kind = self.kinds[node]
        source, result = node.inputs[0], node.outputs[0]
        assert isinstance(kind, Transposes)
        assert source is not None
        if source in self.frames:
            known, other, perm = self.frames[source], result, inverse(kind.perm)
        else:
            known, other, perm = self.frames[result], source, kind.perm
        if known[0] == known[1]:
            return
        # In this frame the Transpose moves nothing, whichever state both sides are in.
        first, last = compose(perm, known[0]), compose(perm, known[1])
        logical = identity(len(perm))
        if logical in (first, last):
            self._give(other, (first, last))
        elif known[0] == logical:
            # Any other Transpose of channels-first data: absorbed where both sides are channels-last.
            self._give(other, (logical, last))
