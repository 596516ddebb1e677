"""The layout assignment as a minimum cut: a state (0 channels-first, 1 channels-last) for every operator.

`layout` states the objective. Here it becomes a network: a node on the source's side is in state 1, on the sink's in
state 0, so an operator that must be channels-last *is* the source, and one that must not is the sink.

- A tensor of weight w, produced in state p and read in states c₁ … cₙ, costs w once if some cᵢ differs from p: a copy
  in the other state is all there is. With two auxiliary nodes: `a` is 1 as soon as some cᵢ is (edges cᵢ → a of
  infinite capacity), and w·[a = 1, p = 0] is the edge a → p; `b` is 0 as soon as some cᵢ is, and w·[p = 1, b = 0] is
  the edge p → b.
- A Transpose reads its input in a state i and writes its output in a state o, at the cost C[i, o] of leading from one
  memory order to the other. C = C₀₀ + (C₁₀ - C₀₀)·i + (C₁₁ - C₁₀)·o + (C₀₁ + C₁₀ - C₀₀ - C₁₁)·[i = 0, o = 1]: two
  edges to the terminals, and the edge o → i. Where that edge's capacity would be negative the Transpose is *crossed*:
  its two sides would rather be in different states (a convolution reads what another wrote, turned). No network says
  that, so these few are branched on: with i fixed, C is a matter of o alone; until then C₀₀ is taken for as much less
  as makes the capacity 0, which bounds from below what the branch can cost.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from haversack.convert.targets.tflite.layout_blocks import Free, Slot, logical, static_shape
from haversack.convert.targets.tflite.layout_constants import is_constant
from haversack.convert.targets.tflite.layout_frames import Frames
from haversack.convert.targets.tflite.layout_perms import Perm, channels_last, compose, same_bytes
from haversack.convert.targets.tflite.layout_rules import Spatial, Transposes
from haversack.convert.targets.tflite.mincut import INFINITE, SINK, SOURCE, Network

WORK = 200_000
"""Nodes in all the networks that are cut before the best labelling so far has to do: some two seconds."""


def size(value: ir.Value) -> int:
    """Bytes that `value` holds in memory (4-bit types packed)."""
    bits = value.dtype.bitwidth if value.dtype is not None else 32
    return math.ceil(math.prod(static_shape(value) or (0,)) * bits / 8)


@dataclass(frozen=True)
class Weights:
    """Bytes first, then the number of Transposes, then that of Reshapes, in one integer.

    Attributes:
        base: More than there are tensors in the graph.
    """

    base: int

    def transpose(self, value: ir.Value) -> int:
        """The weight of moving `value` into another order."""
        return (size(value) * self.base + 1) * self.base

    def between(self, value: ir.Value, one: Perm, other: Perm) -> int:
        """The weight of leading `value` from one order to another: a Reshape where only axes of size 1 move."""
        if one == other:
            return 0
        return 1 if same_bytes(static_shape(value) or (), one, other) else self.transpose(value)


class Labels:
    """The problem of one graph; each slot of each node has a term: `SOURCE`, `SINK` or a variable of the network.

    Attributes:
        frames: The orders to choose from.
        terms: By node; slots that are missing have tensors with one order only.
        ends: The term of each graph output and, where a nested graph captures one, of the captured tensor.
        weights: Of what is paid.
    """

    def __init__(self, graph: ir.Graph, frames: Frames, free_ends: bool):
        self.graph = graph
        self.frames = frames
        self.network = Network()
        self.free_ends = free_ends
        self.weights = Weights(2 * sum(len(node.outputs) for node in graph) + len(graph.inputs) + 2)
        self.terms: dict[ir.Node, dict[Slot, int]] = {}
        self._crossed: list[tuple[int, int, list[list[int]]]] = []
        for node in graph:
            self.terms[node] = self._of(node)
        self.inputs = {value: self._end(value) for value in graph.inputs}
        self.outputs = {value: self._end(value) for value in graph.outputs}
        inner = (value for value in frames.frames if any(use.node not in frames.kinds for use in value.uses()))
        self.captured = dict.fromkeys(sorted(inner, key=lambda value: value.name or ""))
        for value in frames.frames:
            self._pay(value)
        for node, kind in frames.kinds.items():
            if isinstance(kind, Transposes):
                self._pay_transpose(node, kind)

    def solve(self) -> tuple[int, list[bool]]:
        """The weight of the best labelling (up to a constant), and which variables are in state 1.

        It is the minimum, unless a large graph has so many crossed Transposes that `WORK` does not suffice to prove it.
        """
        best: tuple[int, list[bool]] | None = None
        branches: list[dict[int, int]] = [{}]  # the state that a crossed Transpose is read in, by its number
        for _ in range(8 + WORK // self.network.size):
            if not branches:
                break
            fixed = branches.pop()
            bound, sides = self._cut(fixed)
            if best is not None and bound >= best[0]:
                continue
            low = [n for n, (i, o, _) in enumerate(self._crossed) if n not in fixed and not (sides[i] or sides[o])]
            gaps = [c[0][0] + c[1][1] - c[0][1] - c[1][0] for _, _, c in (self._crossed[n] for n in low)]
            if best is None or bound + sum(gaps) < best[0]:
                best = bound + sum(gaps), sides
            if low:
                branches += [{**fixed, low[0]: 1}, {**fixed, low[0]: 0}]
        assert best is not None
        return best

    def _cut(self, fixed: Mapping[int, int]) -> tuple[int, list[bool]]:
        """The least cut where the crossed Transposes in `fixed` are read in that state and others cost too little."""
        network, total = copy.deepcopy(self.network) if self._crossed else self.network, 0
        for number, (read, written, ((c00, c01), (c10, c11))) in enumerate(self._crossed):
            if number not in fixed:
                start, slopes = c01 + c10 - c11, [(read, c11 - c01), (written, c11 - c10)]
            elif fixed[number]:
                network.edge(SOURCE, read, INFINITE)
                start, slopes = c10, [(written, c11 - c10)]
            else:
                network.edge(read, SINK, INFINITE)
                start, slopes = c00, [(written, c01 - c00)]
            total += start + sum(network.unary(term, weight) for term, weight in slopes)
        weight, sides = network.cut()
        return total + weight, sides

    def of(self, node: ir.Node, slot: Slot) -> int:
        """The term of a slot: the tensor's logical state where the node does not say."""
        return self.terms[node].get(slot, self._logical(slot.value(node)))

    def produced(self, value: ir.Value) -> int:
        """The term of the state in which `value` is first made."""
        producer = value.producer()
        if producer is None:
            return self.inputs.get(value, self._logical(value))
        return self.of(producer, Slot(True, value.index() or 0))

    def readers(self, value: ir.Value) -> list[int]:
        """The distinct terms of its readers, in graph order."""
        terms = []
        for node, index in sorted(
            ((use.node, use.idx) for use in value.uses() if use.node in self.frames.kinds),
            key=lambda use: (self.frames.position(use[0]), use[1]),
        ):
            terms.append(self.of(node, Slot(False, index)))
        if value in self.outputs:
            terms.append(self.outputs[value])
        if value in self.captured:
            terms.append(self._logical(value))
        return list(dict.fromkeys(terms))

    def _logical(self, value: ir.Value) -> int:
        return SOURCE if self.frames.logical_state(value) else SINK

    def _end(self, value: ir.Value) -> int:
        frame = self.frames.frame(value)
        if self.free_ends and 3 <= len(frame[0]) <= 5 and frame[1] == channels_last(len(frame[0])):
            return self.network.node()  # channels-last, unless that costs more
        return self._logical(value)

    def _of(self, node: ir.Node) -> dict[Slot, int]:
        kind = self.frames.kinds[node]
        if isinstance(kind, Spatial):
            return {Slot(False, 0): SOURCE, Slot(True, 0): SOURCE}
        if isinstance(kind, Transposes):
            terms = {}
            for slot in (Slot(False, 0), Slot(True, 0)):
                first, last = self.frames.frame(slot.value(node))
                if first != last:
                    terms[slot] = self.network.node()
            return terms
        if isinstance(kind, Free):
            label = self._label(kind)
            if label is not None:
                return dict.fromkeys(kind.slots, label)
        return {}

    def _label(self, kind: Free) -> int | None:
        """A variable where both states are legal, a terminal where one is, None where all is read logically."""
        if all(slot.value(kind.node) not in self.frames.frames for slot in kind.slots):
            return None
        legal, preferred = [], []
        for state in (0, 1):
            perms = kind.agree(self.frames_in(kind, state))
            if perms is None or not (logical(perms) or kind.reshapes or kind.change(perms) is not None):
                continue
            legal.append(state)
            if kind.prefers is None or kind.prefers(perms):
                preferred.append(state)
        states = preferred or legal
        if len(states) == 2:
            return self.network.node()
        return None if not states else (SINK, SOURCE)[states[0]]

    def frames_in(self, kind: Free, state: int) -> dict[Slot, Perm]:
        """The order of each slot of a free node in `state`."""
        return {slot: self.frames.frame(slot.value(kind.node))[state] for slot in kind.slots}

    def _pay(self, value: ir.Value) -> None:
        weight = self.weights.between(value, *self.frames.frame(value))
        if not weight or is_constant(value):
            return
        made, readers = self.produced(value), self.readers(value)
        if len(readers) == 1:
            self.network.edge(made, readers[0], weight, weight)
        elif readers:
            some_last, some_first = self.network.node(), self.network.node()
            self.network.edge(some_last, made, weight)
            self.network.edge(made, some_first, weight)
            for term in readers:
                self.network.edge(term, some_last, INFINITE)
                self.network.edge(some_first, term, INFINITE)

    def _pay_transpose(self, node: ir.Node, kind: Transposes) -> None:
        read, written = self.of(node, Slot(False, 0)), self.of(node, Slot(True, 0))
        states_in, states_out = [{SOURCE: (1, 1), SINK: (0, 0)}.get(term, (0, 1)) for term in (read, written)]
        cost = [[self.transpose_cost(node, kind, i, o) for o in states_out] for i in states_in]
        apart = cost[0][1] + cost[1][0] - cost[0][0] - cost[1][1]
        if apart < 0:
            self._crossed.append((read, written, cost))
            return
        self.network.unary(read, cost[1][0] - cost[0][0])
        self.network.unary(written, cost[1][1] - cost[1][0])
        self.network.edge(written, read, apart)

    def transpose_cost(self, node: ir.Node, kind: Transposes, read: int, written: int) -> int:
        """The weight of a Transpose whose input is read, and whose output is written, in these states."""
        source, result = Slot(False, 0).value(node), Slot(True, 0).value(node)
        before = self.frames.frame(source)[read]
        after = compose(kind.perm, self.frames.frame(result)[written])
        return self.weights.between(source, before, after)
