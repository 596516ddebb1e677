"""The map back to the hub: which variables of the package hold which values of the hub graph.

A float program has one layer a hub node, also where the hub restated it. In a quantized one a layer goes from int8 to
int8: it takes in the dequantized inputs, the op, a Relu or Clip after it and the quantization of its result, so that
both sides hold the same integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from haversack.convert.hub.restate import INTERNAL
from haversack.convert.targets import Layer, Tap
from haversack.convert.targets.coreml.builder import Value
from haversack.convert.targets.coreml.lower import Step, origin

_FUSED = ("Relu", "Clip")
_WEIGHTED = ("conv", "conv_transpose", "linear", "matmul")


@dataclass
class _Open:
    """A layer that later nodes may still join."""

    name: str
    op: str
    inputs: list[Value]
    outputs: list[Value]
    joined: list[Step] = field(default_factory=list)


def layers(graph: ir.Graph, steps: Sequence[Step], saved: frozenset[str]) -> tuple[Layer, ...]:
    """Group the lowered nodes into layers.

    Args:
        graph: The hub graph.
        steps: Its nodes as they were lowered.
        saved: Names of the variables that the saved program holds.
    """
    readers = Counter(value.name for step in steps for value in step.inputs if value is not None)
    readers.update(value.name or "" for value in graph.outputs)
    quantized = any(step.node.op_type == "QuantizeLinear" for step in steps)
    integers: dict[str, Value] = {}
    producer: dict[str, _Open] = {}
    found: list[_Open] = []
    restated: dict[str, _Open] = {}
    for step in steps:
        if str(step.node.name).endswith(INTERNAL):  # one layer, whatever it was restated as
            layer = restated.get(origin(step.node)) or _Open(origin(step.node), "", [], [])
            if layer.name not in restated:
                restated[layer.name] = layer
                found.append(layer)
            layer.op = step.kinds[-1] if step.kinds else layer.op
            layer.inputs += [integers.get(v.name, v) for v in step.inputs if v is not None and _activation(v)]
            layer.outputs += step.outputs
            continue
        if not step.kinds:
            continue
        inputs = [value for value in step.inputs if value is not None and _activation(value)]
        first = inputs[0] if inputs else None
        if step.node.op_type == "DequantizeLinear":
            if first is None:
                continue
            integers[step.outputs[0].name] = first
            if step.outputs[0].name not in _names(graph.outputs):
                continue
        joins = step.node.op_type in ("QuantizeLinear", *_FUSED) and quantized and first is not None
        if joins and first is not None and first.name in producer and readers[first.name] == 1:
            layer = producer[first.name]
            layer.outputs = [value for value in layer.outputs if value is not first] + list(step.outputs)
        else:
            taken = inputs if step.node.op_type == "DequantizeLinear" else [integers.get(v.name, v) for v in inputs]
            main = next((kind for kind in step.kinds if kind in _WEIGHTED), step.kinds[-1])
            layer = _Open(str(step.node.name), main, taken, list(step.outputs))
            found.append(layer)
        if step.node.op_type != "DequantizeLinear":
            producer.update({value.name: layer for value in step.outputs})
    return tuple(
        Layer(layer.name, layer.op, _taps(layer.inputs, saved), _taps(layer.outputs, saved))
        for layer in found
        if _taps(layer.outputs, saved)
    )


def _activation(value: Value) -> bool:
    return value.array is None and value.var is not None


def _names(values: Sequence[ir.Value]) -> set[str | None]:
    return {value.name for value in values}


def _taps(values: Sequence[Value], saved: frozenset[str]) -> tuple[Tap, ...]:
    unique = {value.name: value for value in values if value.var is not None and value.name}
    return tuple(
        Tap(name, value.var.name)
        for name, value in unique.items()
        if value.var.name in saved and not name.endswith(INTERNAL)
    )
