"""The map back: which part of the hub graph each node of the artifact computes.

It is read off the graph while its values still carry the hub's names, after every rewrite and before the renaming. A
QuantizeLinear, a DequantizeLinear and a fused ReLU belong to the node beside them, as in onnxruntime's own kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import onnx_ir as ir

from haversack.convert.compress.operators import FUSED_INTO, constant
from haversack.convert.targets import Layer, Tap
from haversack.convert.targets.ort.unsigned import OFFSET

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def layers(graph: ir.Graph, unsigned: Set[str], edges: Mapping[str, str]) -> list[Layer]:
    """List the layers of a graph that is about to be written.

    Args:
        graph: In the hub's names.
        unsigned: Integer tensors that were re-encoded as uint8.
        edges: Graph inputs and outputs that hold integers (`io_dtype` int8) → the hub's value that they hold.
    """
    constants = _constants(graph)
    fused = {user for node in graph if (user := _fused(node)) is not None}
    found = []
    for node in graph:
        if node in fused or all(value in constants for value in node.outputs) or _beside(node, constants):
            continue
        last = _fused(node) or node
        sources = [_source(value) for value in node.inputs if value is not None and value not in constants]
        results = [result for value in last.outputs for result in _results(value)]
        taps = [[_tap(value, unsigned, edges) for value in values] for values in (sources, results)]
        found.append(Layer(str(node.name), node.op_type, tuple(taps[0]), tuple(taps[1])))
    return found


def rename(found: list[Layer], renamed: Mapping[str, str]) -> tuple[Layer, ...]:
    """The same layers with the artifact's names in their taps; taps on values that are gone are dropped."""

    def taps(old: tuple[Tap, ...]) -> tuple[Tap, ...]:
        return tuple(
            Tap(tap.value, renamed[str(tap.tensor)], offset=tap.offset) for tap in old if str(tap.tensor) in renamed
        )

    return tuple(Layer(layer.name, layer.op, taps(layer.inputs), taps(layer.outputs)) for layer in found)


def _constants(graph: ir.Graph) -> set[ir.Value]:
    """Every value that depends on initializers alone."""
    found: set[ir.Value] = set(graph.initializers.values())
    for node in graph:
        if all(value is None or value in found for value in node.inputs) and node.inputs:
            found.update(node.outputs)
    return found


def _fused(node: ir.Node) -> ir.Node | None:
    """The activation between `node` and its QuantizeLinear."""
    users = node.outputs[0].consumers() if node.op_type in FUSED_INTO and len(node.outputs) == 1 else ()
    if len(users) != 1 or users[0].op_type not in ("Relu", "Clip") or node.outputs[0].is_graph_output():
        return None
    return users[0] if any(each.op_type == QUANTIZE for each in users[0].outputs[0].consumers()) else None


def _beside(node: ir.Node, constants: set[ir.Value]) -> bool:
    """Whether this QuantizeLinear or DequantizeLinear belongs to a neighbour, not to itself."""
    if node.op_type == QUANTIZE:
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        return producer is not None and producer.op_type != DEQUANTIZE
    if node.op_type == DEQUANTIZE:
        value = node.outputs[0]
        return not value.is_graph_output() or node.inputs[0] in constants
    return False


def _source(value: ir.Value) -> ir.Value:
    """What a layer reads: integers where a DequantizeLinear stands in front."""
    producer = value.producer()
    if producer is None or producer.op_type != DEQUANTIZE or producer.inputs[0] is None:
        return value
    return producer.inputs[0] if constant(producer.inputs[0]) is None else value


def _results(value: ir.Value) -> list[ir.Value]:
    """What a layer gives: integers where a QuantizeLinear stands behind, the float value where anything else reads."""
    users = value.consumers()
    found = [user.outputs[0] for user in users if user.op_type == QUANTIZE]
    if value.is_graph_output() or any(user.op_type != QUANTIZE for user in users):
        found.append(value)
    return found


def _tap(value: ir.Value, unsigned: Set[str], edges: Mapping[str, str]) -> Tap:
    name = str(value.name)
    return Tap(edges.get(name, name), name, offset=OFFSET if name in unsigned else 0)
