"""Which tensors have to share one scale, found by union-find over the graph.

Given, for instance, x → MaxPool → y, and Concat(y, z) → c, the four values x, y, z and c form one group: integer
kernels copy and compare, they do not rescale. A value with a prescribed scale (a softmax's output) joins a group
only where nothing else feeds it; otherwise the reader gets a requantized copy and the group keeps its own range.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from haversack.convert.compress import operators
from haversack.convert.compress.masks import masked
from haversack.convert.compress.scale import FIXED, Scale


class UnionFind:
    """Disjoint sets of anything hashable, in the order in which members were first seen."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def find(self, member: Hashable) -> Hashable:
        """The representative of `member`'s set, which starts as itself alone."""
        root = self._parent.setdefault(member, member)
        while root != self._parent[root]:
            root = self._parent[root]
        while member != root:
            self._parent[member], member = root, self._parent[member]
        return root

    def union(self, members: Iterable[Hashable]) -> None:
        """Join the sets of all `members`."""
        roots = [self.find(member) for member in members]
        for root in roots[1:]:
            self._parent[self.find(root)] = self.find(roots[0])

    def sets(self) -> list[list[Hashable]]:
        """The disjoint sets, each in insertion order."""
        found: dict[Hashable, list[Hashable]] = {}
        for member in self._parent:
            found.setdefault(self.find(member), []).append(member)
        return list(found.values())


@dataclass(frozen=True)
class Slot:
    """A constant operand: the initializer may be shared, its scale belongs to this one use."""

    node: ir.Node
    index: int


Member = ir.Value | Slot


@dataclass
class Group:
    """Tensors that share one scale.

    Attributes:
        members: Activations, and constant operands.
        fixed: The prescribed scale, where there is one.
    """

    members: list[Member]
    fixed: Scale | None = None


@dataclass
class Quantization:
    """What int8 quantization touches, before any number is known.

    Attributes:
        nodes: The nodes that run in int8, with their kind, in graph order.
        inner: Values between an operator and the activation fused into it: they are never quantized.
        groups: Every quantized value and constant operand is in exactly one.
        requantized: (node, input index) → the group that the node reads a prescribed-scale value at.
        of: The group of each member.
    """

    nodes: dict[ir.Node, str]
    inner: set[ir.Value]
    groups: list[Group] = field(default_factory=list)
    requantized: dict[tuple[ir.Node, int], Group] = field(default_factory=dict)
    of: dict[Member, Group] = field(default_factory=dict)


def quantization(graph: ir.Graph, floats: Collection[str] = ()) -> Quantization:
    """Decide which nodes of `graph` run in int8 and group their tensors by scale.

    Shape operators between float ones stay float: quantizing them alone would cost accuracy and save nothing.

    Args:
        graph: A float hub graph.
        floats: Names of nodes that are to stay float.
    """
    hidden = masked(graph)
    nodes = {
        node: kind
        for node in graph
        if node.name not in floats and node not in hidden and (kind := operators.kind(node)) is not None
    }
    nodes = _without_idle(nodes)
    inner = {
        node.outputs[0] for node in nodes if (fused := operators.fused_activation(node)) is not None and fused in nodes
    }
    plan = Quantization(nodes, inner)
    sets = UnionFind()
    detached: list[tuple[ir.Node, int]] = []  # (equal node, input) pairs that read a value of prescribed scale
    for node, kind in nodes.items():
        inputs = [(i, _member(node, i)) for i in operators.data_inputs(node)]
        outputs = [value for value in operators.data_outputs(node) if value not in inner] if kind != "reader" else []
        for _, member in inputs:
            if member not in inner:
                sets.find(member)
        for value in outputs:
            sets.find(value)
        if kind == "equal":
            detached += [(node, i) for i, member in inputs if _prescribed(member, nodes)]
            sets.union([*(member for _, member in inputs if not _prescribed(member, nodes)), *outputs])
    for members in sets.sets():
        group = Group([member for member in members if isinstance(member, (ir.Value, Slot))])
        plan.groups.append(group)
        plan.of.update(dict.fromkeys(group.members, group))
    _settle(plan, detached)
    return plan


def _member(node: ir.Node, index: int) -> Member:
    value = node.inputs[index]
    assert value is not None
    return value if operators.constant(value) is None else Slot(node, index)


def _prescribed(member: Member, nodes: dict[ir.Node, str]) -> Scale | None:
    producer = member.producer() if isinstance(member, ir.Value) else None
    return FIXED[producer.op_type] if producer is not None and nodes.get(producer) == "fixed" else None


def _settle(plan: Quantization, detached: list[tuple[ir.Node, int]]) -> None:
    """Give prescribed scales to their groups, and to those that only they feed; requantize for the others."""
    for group in plan.groups:
        for member in group.members:
            group.fixed = _prescribed(member, plan.nodes) or group.fixed
    feeding: dict[int, list[tuple[ir.Node, int]]] = {}
    for node, index in detached:
        feeding.setdefault(id(plan.of[node.outputs[0]]), []).append((node, index))
    waiting = True
    while waiting:  # a shape operator may pass a prescribed scale on to the next
        waiting = False
        for group in plan.groups:
            edges = feeding.get(id(group), [])
            if group.fixed is not None or not edges or not _only_moved(group, plan):
                continue
            scales = {plan.of[node.inputs[index]].fixed for node, index in edges}  # type: ignore[index]
            if len(scales) == 1:
                group.fixed, waiting = scales.pop(), True
    for node, index in detached:
        target, source = plan.of[node.outputs[0]], plan.of[node.inputs[index]]  # type: ignore[index]
        if target.fixed != source.fixed:
            plan.requantized[node, index] = target


def _only_moved(group: Group, plan: Quantization) -> bool:
    """Whether every member comes out of an equal-scale operator, so that nothing new enters the group."""
    return all(isinstance(m, ir.Value) and plan.nodes.get(m.producer()) == "equal" for m in group.members)  # type: ignore[arg-type]


def _without_idle(nodes: dict[ir.Node, str]) -> dict[ir.Node, str]:
    """Drop connected stretches of equal-scale nodes that no computing int8 node feeds or reads."""
    sets = UnionFind()
    for node, kind in nodes.items():
        if kind == "equal":
            values = [node.inputs[i] for i in operators.data_inputs(node)]
            sets.union([node, *(v for v in values if operators.constant(v) is None), *node.outputs])
    busy: set[Hashable] = set()
    for node, kind in nodes.items():
        if kind != "equal":
            values = [node.inputs[i] for i in operators.data_inputs(node)]
            busy.update(sets.find(value) for value in (*values, *node.outputs) if value is not None)
    return {node: kind for node, kind in nodes.items() if kind != "equal" or sets.find(node) in busy}
