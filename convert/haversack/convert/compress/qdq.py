"""Insert QuantizeLinear and DequantizeLinear: the int8 hub form, given a scale for every group.

`compress/__init__.py` documents the form. Only nodes and initializers are added and rewired here; every decision
(which nodes, which groups, which numbers) was made before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from haversack.convert.compress import operators, weights
from haversack.convert.compress.editing import Editor, drop_unused_initializers, readers
from haversack.convert.compress.groups import Group, Quantization, Slot
from haversack.convert.compress.scale import Scale

FLOAT = ir.DataType.FLOAT

INTEGERS = {8: (ir.DataType.INT8, np.int8), 16: (ir.DataType.INT16, np.int16)}
"""The types of an activation of so many bits."""

ScaleOf = Callable[[Group], Scale]


@dataclass(frozen=True)
class Rounded:
    """Integers that were chosen for a layer beforehand.

    Attributes:
        weights: With their scale.
        four: Whether they lie in [-7, 7] and are held in four bits.
    """

    weights: weights.Weights
    four: bool = False


@dataclass
class _Inserter:
    editor: Editor
    plan: Quantization
    scale_of: ScaleOf
    per_channel: Mapping[str, bool]
    rounded: Mapping[str, Rounded]

    def __post_init__(self) -> None:
        self._parameters: dict[Scale, tuple[ir.Value, ir.Value]] = {}
        self._constants: dict[tuple[ir.Value, Scale], ir.Value] = {}

    def parameters(self, scale: Scale, name: str) -> tuple[ir.Value, ir.Value]:
        """The scale and zero-point initializers; one pair for each distinct scale."""
        if scale not in self._parameters:
            self._parameters[scale] = (
                self.editor.initializer(f"{name}_scale", np.asarray(scale.scale, np.float32)),
                self.editor.initializer(f"{name}_zero_point", np.asarray(scale.zero_point, INTEGERS[scale.bits][1])),
            )
        return self._parameters[scale]

    def pair(self, value: ir.Value, scale: Scale, name: str, suffix: str) -> list[ir.Node]:
        parameters = self.parameters(scale, name)
        quantize = self.editor.node(
            "QuantizeLinear",
            [value, *parameters],
            f"{name}{suffix}quantized",
            INTEGERS[scale.bits][0],
            value.shape,
        )
        dequantize = self.editor.node(
            "DequantizeLinear", [quantize.outputs[0], *parameters], f"{name}{suffix}dequantized", FLOAT, value.shape
        )
        return [quantize, dequantize]

    def activation(self, value: ir.Value) -> None:
        """Quantize `value` after whatever computes it, and rewire its readers."""
        producer = value.producer()
        everywhere = producer is None or producer in self.plan.nodes
        uses = [
            (node, i) for node, i in readers(value) if everywhere or (node in self.plan.nodes and _is_data(node, i))
        ]
        name = str(value.name)
        nodes = self.pair(value, self.scale_of(self.plan.of[value]), name, "_")
        dequantized = nodes[1].outputs[0]
        for node, index in uses:
            node.replace_input_with(index, dequantized)
        if everywhere and producer is not None and value.is_graph_output():
            self.editor.swap_output(value, dequantized, f"{name}_float")
        if producer is None:
            self.editor.before(None, nodes)
        else:
            self.editor.graph.insert_after(producer, nodes)

    def requantize(self, node: ir.Node, index: int, group: Group) -> None:
        """Give one reader of a prescribed-scale value the scale of its own group."""
        value = node.inputs[index]
        assert value is not None
        base = str(value.name).removesuffix("_dequantized")
        nodes = self.pair(value, self.scale_of(group), base, "_re")
        self.editor.before(node, nodes)
        node.replace_input_with(index, nodes[1].outputs[0])

    def operand(self, slot: Slot) -> None:
        """Replace a constant operand by int8 and a DequantizeLinear."""
        value = slot.node.inputs[slot.index]
        array = operators.constant(value)
        assert value is not None
        assert array is not None
        scale = self.scale_of(self.plan.of[slot])
        if (value, scale) not in self._constants:
            quantized = self.editor.initializer(f"{value.name}_quantized", scale.quantize(array))
            dequantize = self.editor.node(
                "DequantizeLinear",
                [quantized, *self.parameters(scale, str(value.name))],
                f"{value.name}_dequantized",
                FLOAT,
                value.shape,
            )
            self.editor.before(None, [dequantize])
            self._constants[value, scale] = dequantize.outputs[0]
        slot.node.replace_input_with(slot.index, self._constants[value, scale])

    def weighted(self, node: ir.Node) -> None:
        """Replace a node's weights and bias by integers."""
        value, source = node.inputs[1], node.inputs[0]
        assert value is not None
        assert source is not None
        array = operators.constant(value)
        bias_value = node.inputs[2] if len(node.inputs) > 2 else None
        bias = operators.constant(bias_value)
        assert array is not None
        if bias is not None:
            bias = bias.reshape(-1)
        output = node.outputs[0]
        if output in self.plan.inner:
            output = output.consumers()[0].outputs[0]
        input_scale = self.scale_of(self.plan.of[source]).scale
        axis = channel_axis(node) if self.per_channel[str(node.name)] else None
        floor = weights.scale_floor(bias, input_scale, self.scale_of(self.plan.of[output]).scale)
        given = self.rounded.get(str(node.name))
        if given is not None:
            made = weights.raised(given.weights, floor)
            integers = made.quantized.astype(ml_dtypes.int4) if given.four else made.quantized
        else:
            made = weights.quantize(str(value.name), array, axis, floor)
            integers = made.quantized
        inputs = [
            self.editor.initializer(f"{value.name}_quantized", integers),
            self.editor.initializer(f"{value.name}_scale", made.scale),
            self.editor.initializer(f"{value.name}_zero_point", np.zeros(made.scale.shape, integers.dtype)),
        ]
        axes = {} if made.axis is None else {"axis": made.axis}
        nodes = [self.editor.node("DequantizeLinear", inputs, f"{value.name}_dequantized", FLOAT, value.shape, axes)]
        node.replace_input_with(1, nodes[0].outputs[0])
        if bias is not None and bias_value is not None:
            bias_integers, scale = weights.quantize_bias(bias, input_scale, made)
            inputs = [
                self.editor.initializer(f"{bias_value.name}_quantized", bias_integers),
                self.editor.initializer(f"{bias_value.name}_scale", scale),
            ]
            axes = {"axis": 0} if scale.ndim else {}
            shape = ir.Shape(bias.shape)
            nodes.append(
                self.editor.node("DequantizeLinear", inputs, f"{bias_value.name}_dequantized", FLOAT, shape, axes)
            )
            node.replace_input_with(2, nodes[1].outputs[0])
        self.editor.before(node, nodes)


def _is_data(node: ir.Node, index: int) -> bool:
    return index in operators.data_inputs(node)


def channel_axis(node: ir.Node) -> int | None:
    """The output-channel axis of a node's weights; None where one scale has to serve them all.

    The weights of a grouped ConvTranspose, [in, out / group, ...], repeat an output channel in every group.
    """
    group = node.attributes.get("group")
    if node.op_type == "ConvTranspose" and group is not None and group.as_int() != 1:
        return None
    return operators.WEIGHTED[node.op_type]


def round_trip(editor: Editor, value: ir.Value, scale: Scale) -> None:
    """Quantize and dequantize one value for all its readers, and nothing else in its graph."""
    inserter = _Inserter(editor, Quantization({}, set()), lambda _: scale, {}, {})
    uses = readers(value)
    nodes = inserter.pair(value, scale, str(value.name), "_")
    dequantized = nodes[1].outputs[0]
    for node, index in uses:
        node.replace_input_with(index, dequantized)
    producer = value.producer()
    if value.is_graph_output():
        editor.swap_output(value, dequantized, f"{value.name}_float")
    if producer is None:
        editor.before(None, nodes)
    else:
        editor.graph.insert_after(producer, nodes)


def insert(
    graph: ir.Graph,
    plan: Quantization,
    scale_of: ScaleOf,
    per_channel: Mapping[str, bool],
    rounded: Mapping[str, Rounded] | None = None,
) -> None:
    """Rewrite `graph` into the int8 hub form.

    Args:
        graph: Edited in place.
        plan: Made from this very graph.
        scale_of: The scale of each group.
        per_channel: By node name, for every weighted node: one weight scale a channel, or one for all.
        rounded: By node name, weights that were rounded already; where a scale is too small for the layer's bias or
            multiplier it is raised.
    """
    inserter = _Inserter(Editor(graph), plan, scale_of, per_channel, rounded or {})
    for node, kind in plan.nodes.items():
        if kind == "weighted":
            inserter.weighted(node)
    requantized = list(plan.requantized.items())
    slots = [member for group in plan.groups for member in group.members if isinstance(member, Slot)]
    for slot in slots:
        inserter.operand(slot)
    for group in plan.groups:
        for member in group.members:
            if isinstance(member, ir.Value):
                inserter.activation(member)
    for (node, index), group in requantized:
        inserter.requantize(node, index, group)
    drop_unused_initializers(graph)
