"""A hub graph run on all calibration batches at once, stopping after chosen nodes.

Methods that go layer by layer need, at each layer, its inputs as the layers before it now compute them. Running the
graph anew for each would cost the square of its length; here every node runs once a batch, in stretches from one stop
to the next, and only the values that later nodes read are held in between. What is held may be replaced, and weights
of nodes that did not run yet may be changed: the rest of the graph then sees that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from haversack.convert.compress.calibrate import Reservoir
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

BATCHES = 128
"""So many calibration batches are run at most."""

HELD_BYTES = 1 << 29
"""Fewer batches are run where the largest frontier would take more than this."""


class Stepwise:
    """A hub graph that is run step by step.

    Args:
        model: In topological order; weights may be changed between steps.
        batches: One array a graph input each; at least one.

    Raises:
        DataError: There is not one batch.
    """

    def __init__(self, model: ir.Model, batches: Sequence[Mapping[str, Array]]):
        if not batches:
            raise DataError("there is not one batch of calibration data")
        self.model = model
        self._nodes = list(model.graph)
        self._place = _places(self._nodes)
        self._last = {value: self._last_use(value) for node in self._nodes for value in node.outputs}
        self._last |= {value: self._last_use(value) for value in model.graph.inputs}
        self._next = 0
        self._held: list[dict[str, Array]] = [
            {str(value.name): feeds[str(value.name)] for value in model.graph.inputs} for feeds in batches
        ]

    def until(self, node: ir.Node, also: Iterable[ir.Value | None] = ()) -> None:
        """Run everything up to `node`, itself included, that did not run yet.

        Args:
            node: Of the graph itself, not of a subgraph.
            also: Values to hold besides those that later nodes read: `node`'s outputs always are.
        """
        end = self._place[node] + 1
        wanted = {*node.outputs, *(value for value in also if value is not None)}
        self._run(end, wanted)

    def rest(self) -> None:
        """Run what is left; graph outputs are held from when they are computed on."""
        self._run(len(self._nodes), set())

    def values(self, value: ir.Value) -> list[Array]:
        """What a held value is, batch by batch.

        Raises:
            KeyError: It is not held: it was not computed yet, or nobody needs it any more.
        """
        return [held[str(value.name)] for held in self._held]

    def replace(self, value: ir.Value, change: Callable[[Array], Array]) -> None:
        """Change a held value in every batch, for those that read it later."""
        for held in self._held:
            held[str(value.name)] = change(held[str(value.name)])

    def _run(self, end: int, wanted: set[ir.Value]) -> None:
        from haversack.convert.hub.evaluate import Evaluator

        stretch = self._nodes[self._next : end]
        made = {value for node in stretch for value in node.outputs if value.name}
        kept = [value for value in made if value in wanted or self._last[value] >= end]
        if kept:
            kept.sort(key=lambda value: str(value.name))
            given = list(self._held[0])
            part = ir.convenience.extract(self.model.graph, given, [str(value.name) for value in kept])
            evaluator = Evaluator(ir.Model(part, ir_version=self.model.ir_version))
            for held in self._held:
                held |= evaluator.run({name: held[name] for name in evaluator.inputs})
        self._next = max(self._next, end)
        stale = {str(v.name) for v, last in self._last.items() if last < self._next and v not in wanted}
        for held in self._held:
            for name in stale & held.keys():
                del held[name]

    def _last_use(self, value: ir.Value) -> int:
        """The place of the last node that reads `value`, in a subgraph or itself; graph outputs are always needed."""
        if value.is_graph_output():
            return len(self._nodes)
        return max((self._place[use.node] for use in value.uses()), default=-1)


def _places(nodes: Sequence[ir.Node]) -> dict[ir.Node, int]:
    """The place of each node, and of those in its subgraphs."""
    found: dict[ir.Node, int] = {}
    for place, node in enumerate(nodes):
        found[node] = place
        for attribute in node.attributes.values():
            if attribute.type is ir.AttributeType.GRAPH:
                found.update(dict.fromkeys(RecursiveGraphIterator(attribute.as_graph()), place))
    return found


def sample(data: Iterable[Mapping[str, Array]], model: ir.Model) -> list[Mapping[str, Array]]:
    """Batches from all over `data`: `BATCHES`, or as many as can be held with what `model` computes from them.

    Raises:
        DataError: There is not one.
    """
    widest = max((_bytes(value) for node in model.graph for value in node.outputs), default=0)
    reservoir = Reservoir(max(1, min(BATCHES, HELD_BYTES // max(4 * widest, 1))))
    for feeds in data:
        reservoir.offer(feeds)
    if not reservoir.taken:
        raise DataError("there is not one batch of calibration data")
    return reservoir.taken


def _bytes(value: ir.Value) -> int:
    if value.shape is None or not value.shape.is_static():
        return 0
    size = 4
    for length in value.shape.numpy():
        size *= int(length)
    return size
