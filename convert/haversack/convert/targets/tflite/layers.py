"""The map from artifact operators to hub values, with which verification runs each layer alone.

A layer is the operators between tensors that the hub knows: one operator as a rule, several where a node took several
(a PAD and its convolution). It is named after the node of the operator that computes its result.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from haversack.convert.report import Transposed
from haversack.convert.targets import Layer, Tap
from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor
from haversack.convert.targets.tflite.lower import Lowered, Place


def layers(graph: Graph, places: Mapping[int, Place], index: Mapping[int, int]) -> tuple[Layer, ...]:
    """List the layers in execution order.

    Args:
        graph: The graph as written.
        places: `id(tensor)` to where the hub has the same values.
        index: `id(tensor)` to the tensor's index in the file.
    """
    producers = graph.producers()

    def taps(tensors: list[Tensor]) -> tuple[Tap, ...]:
        rows = {id(t): Tap(places[id(t)][0], index[id(t)], places[id(t)][1]) for t in tensors if id(t) in places}
        return tuple(rows.values())

    def known_inputs(operator: Operator) -> list[Tensor]:
        found: list[Tensor] = []
        waiting, seen = operator.activations[::-1], set[int]()
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if id(tensor) in places or id(tensor) not in producers:
                found.append(tensor)
            else:
                waiting += producers[id(tensor)].activations[::-1]
        return found

    listed = []
    for operator in graph.operators:
        outputs = taps(operator.outputs)
        if outputs:
            listed.append(Layer(operator.node, operator.code, taps(known_inputs(operator)), outputs))
    return tuple(listed)


def transposes(lowered: Lowered) -> tuple[Transposed, ...]:
    """Every transpose in the file: what layout left, and those inside of what one node was lowered to."""
    found = []
    for graph in lowered.graph.graphs():
        for operator in graph.operators:
            if operator.code == "TRANSPOSE":
                result = operator.outputs[0]
                reason = f"{operator.node}: its kernel computes in another order than the model's"
                inside = Transposed(operator.node, result.size * np.dtype(result.dtype).itemsize, reason)
                found.append(lowered.transposed.get(id(result), inside))
    return tuple(found)
