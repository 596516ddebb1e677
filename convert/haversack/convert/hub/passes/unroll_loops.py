"""Short loops, written out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from haversack.convert.hub.passes.inline_branches import replace
from haversack.convert.hub.passes.rewriting import constant, initializer, insert, nodes
from haversack.convert.hub.subgraphs import always_true, inline

MOST_NODES = 64
"""A loop is written out if that makes at most so many nodes: about 10 KB of TFLite operators. A WHILE and its two
subgraphs take about 2 KB, hide what is inside from layout and folding, and keep XNNPACK from taking it in one piece."""

MOST_TRIPS = 32
"""And if it runs at most so often: the bound for recurrent layers (`targets/tflite/ops/recurrence.py`)."""


def unroll_loops(model: ir.Model) -> bool:
    """Write out a Loop that runs a few times, whatever its values are.

    Given:
        y, ys = Loop<body(i, c, s): t = Mul(s, s), row t>(2, true, x)

    Result:
        t1 = Mul(x, x)
        y = Mul(t1, t1)
        ys = Concat<axis=0>(Unsqueeze(t1, [0]), Unsqueeze(y, [0]))

    The trip count must be a constant, and nothing may end the loop early.
    """
    changed = False
    for node in nodes(model, "Loop"):
        trips, start = constant(node.inputs[0]), constant(node.inputs[1]) if node.inputs[1] is not None else np.True_
        body = node.attributes["body"].as_graph()
        if trips is None or start is None or not start.all() or not always_true(body, 0, 1):
            continue
        count = int(trips.reshape(-1)[0])
        size = sum(1 for _ in RecursiveGraphIterator(body))
        if 0 < count <= MOST_TRIPS and count * size <= MOST_NODES:
            _unroll(node, body, count)
            changed = True
    return changed


def _unroll(node: ir.Node, body: ir.Graph, count: int) -> None:
    graph = node.graph
    assert graph is not None
    states: list[ir.Value | None] = list(node.inputs[2:])
    size = len(states)
    rows: list[list[ir.Value]] = [[] for _ in body.outputs[1 + size :]]
    going = initializer(graph, f"{node.name}/going", np.array(True))
    for trip in range(count):
        number = initializer(graph, f"{node.name}/{trip}", np.array(trip, np.int64))
        copy = body.clone(allow_outer_scope_values=True)
        _, *results = inline(copy, [number, going, *states], node, f"{node.name}/{trip}")
        states = [*results[:size]]
        for collected, row in zip(rows, results[size:], strict=True):
            collected.append(row)
    joined = []
    for place, collected in enumerate(rows):
        first = initializer(graph, f"{node.name}/axis", np.array([0]))
        parts = [insert(node, "Unsqueeze", [row, first], f"{row.name}/row_{place}", row) for row in collected]
        for part in parts:
            part.shape = None
        whole = insert(node, "Concat", parts, f"{node.name}/rows_{place}", node.outputs[size + place], axis=0)
        joined.append(whole)
    replace(node, [*(state for state in states if state is not None), *joined])
