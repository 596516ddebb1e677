"""What each part of a compression costs alone, at the output, on calibration data.

The compressed graph says what was done: which integers stand for a layer's weights, which scale its activations have.
Each is put into the float graph alone (the weights of one layer; the input and output of one layer; all tensors that
share one scale), and the outputs are compared with the float graph's own. So it is the compression itself that is
looked at, whatever recipe or plan made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import operators, qdq
from haversack.convert.compress.calibrate import Calibration, Progress
from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.groups import Group, Quantization, Slot, quantization
from haversack.convert.compress.histogram import Histogram
from haversack.convert.compress.scale import Scale
from haversack.convert.compress.unpacking import unpacked_value
from haversack.convert.diagnosis import Harm
from haversack.convert.doctor.harm import Bench
from haversack.runtimes.engines import Array

SAMPLES = 64
"""Calibration samples that harms are measured on, evenly spread; a quarter of them for models of a million weights."""

LARGE = 1_000_000


@dataclass(frozen=True)
class Held:
    """A layer's weights as the compressed graph holds them.

    Attributes:
        node: Of the float graph.
        index: Of the input that they are.
        float_: As they were.
        made: As they are now, float32.
        channels: How many scales they have; 1 for one a tensor; 0 where they are no integers.
        dtype: Of what holds them.
        bias: The layer's bias as it is now; None where it has none, or weights elsewhere.
    """

    node: ir.Node
    index: int
    float_: Array
    made: Array
    channels: int
    dtype: str
    bias: Array | None = None

    @property
    def words(self) -> str:
        """`int8, per-tensor`."""
        if not self.channels:
            return self.dtype
        return f"{self.dtype}, {'per-tensor' if self.channels == 1 else 'per-channel'}"


@dataclass
class LayerLook:
    """One layer, looked at alone."""

    node: ir.Node
    held: Held
    output: str
    weights: Harm
    activations: Harm | None = None


@dataclass
class GroupLook:
    """The tensors that share one scale, looked at alone.

    Attributes:
        group: Of the float graph.
        names: Its activations.
        scale: As the compressed graph has it.
        harm: All of them rounded.
        clipping: All of them clipped and not rounded; None where nothing is outside.
        clipped: Share of values outside the scale's range, of the worst tensor.
        clipped_at: That tensor.
    """

    group: Group
    names: tuple[str, ...]
    scale: Scale
    harm: Harm
    clipping: Harm | None = None
    clipped: float = 0.0
    clipped_at: str = ""


@dataclass
class Examination:
    """Everything that was measured.

    Attributes:
        model: The float hub graph, its weights unpacked.
        compressed: What was made of it.
        bench: The float graph with samples.
        harm: Of the compressed graph as a whole.
        plan: Which nodes and tensors of the float graph int8 touches.
        layers: In graph order.
        groups: In graph order.
    """

    model: ir.Model
    compressed: ir.Model
    bench: Bench
    harm: Harm
    plan: Quantization
    layers: list[LayerLook] = field(default_factory=list)
    groups: list[GroupLook] = field(default_factory=list)

    def group_of(self, name: str) -> GroupLook | None:
        """The group of a tensor."""
        return next((each for each in self.groups if name in each.names), None)


def samples_for(model: ir.Model) -> int:
    """How many samples a model of this size is looked at on."""
    weights = sum(v.const_value.size for v in model.graph.initializers.values() if v.const_value is not None)
    return SAMPLES // 4 if weights > LARGE else SAMPLES


def examine(
    model: ir.Model,
    compressed: ir.Model,
    bench: Bench,
    seen: Calibration | None,
    progress: Progress,
    floats: Sequence[str] = (),
) -> Examination:
    """Measure every part.

    Args:
        model: The float hub graph, its weights unpacked.
        compressed: What was made of it, nodes under their names.
        bench: The float graph with samples.
        seen: A histogram of each activation; None where activations stay float.
        progress: Told how far it is.
        floats: Names of nodes that the compressed graph keeps in floats.
    """
    plan = quantization(model.graph, floats)
    found = Examination(model, compressed, bench, bench.harm(compressed), plan)
    scales = scales_of(compressed)
    held = list(held_weights(model, compressed))
    groups = [(group, names) for group in plan.groups if (names := _names(group, scales))]
    total, done = 2 * len(held) + len(groups), 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        progress(done / max(total, 1), f"measuring {what}, {done} of {total}")

    for each in held:
        name = str(each.node.name)
        step(f"the weights of {name}")
        harm = bench.harm(_with_weights(model, each))
        if each.bias is not None:  # moved to make up for the weights, and for what activations add: the better counts
            harm = min(harm, bench.harm(_with_weights(model, each, bias=True)), key=lambda found: found.loss)
        look = LayerLook(each.node, each, _output(each.node, plan), harm)
        step(f"the activations of {name}")
        around = [str(v.name) for v in (each.node.inputs[0],) if v is not None] + [look.output]
        if any(each in scales for each in around):
            look.activations = bench.harm(_rounded(model, {n: scales[n] for n in around if n in scales}, {}))
        found.layers.append(look)
    for group, names in groups:
        scale = scales[names[0]]
        step(f"the range of {names[0]}")
        edges = {key: scale for key, target in plan.requantized.items() if target is group}
        look_ = GroupLook(group, names, scale, bench.harm(_rounded(model, dict.fromkeys(names, scale), edges)))
        _clip(look_, model, bench, seen)
        found.groups.append(look_)
    return found


def scales_of(compressed: ir.Model) -> dict[str, Scale]:
    """The scale of each activation, by its name in the float graph."""
    found = {}
    for node in compressed.graph:
        if node.op_type != "QuantizeLinear" or not str(node.outputs[0].name).endswith("_quantized"):
            continue
        scale, zero_point = operators.constant(node.inputs[1]), operators.constant(node.inputs[2])
        if scale is None or zero_point is None or scale.size != 1:
            continue
        bits = 16 if zero_point.dtype.itemsize == 2 else 8
        name = str(node.outputs[0].name).removesuffix("_quantized")
        found[name] = Scale(float(scale.reshape(())), int(zero_point.reshape(())), bits)
    return found


def held_weights(model: ir.Model, compressed: ir.Model) -> Iterator[Held]:
    """The weights that are held otherwise than in the float graph, layer by layer."""
    now = {str(node.name): node for node in compressed.graph}
    for node in model.graph:
        other = now.get(str(node.name))
        if other is None or len(other.inputs) < len(node.inputs):
            continue
        for index, value in enumerate(node.inputs):
            array = operators.constant(value)
            held = other.inputs[index]
            if array is None or held is None or array.dtype != np.float32 or array.size < operators.SMALLEST:
                continue
            made, maker = unpacked_value(held), held.producer()
            if made is None or maker is None or made.shape != array.shape:
                continue
            inner = operators.constant(maker.inputs[0])
            scale = operators.constant(maker.inputs[1]) if maker.op_type == "DequantizeLinear" else None
            channels, dtype = 0 if scale is None else scale.size, "" if inner is None else str(inner.dtype)
            bias = None
            if index == 1 and operators.kind(node) == "weighted" and len(other.inputs) > 2:
                bias = unpacked_value(other.inputs[2])
            yield Held(node, index, array, made, channels, dtype, bias)


def rounded_tensors(model: ir.Model, scales: dict[str, Scale]) -> ir.Model:
    """A copy of a float graph in which some tensors are rounded to their scales."""
    return _rounded(model, scales, {})


def fused_output(node: ir.Node, plan: Quantization) -> ir.Value:
    """What a layer gives, after the activation that is fused into it."""
    value = node.outputs[0]
    return value.consumers()[0].outputs[0] if value in plan.inner else value


def _output(node: ir.Node, plan: Quantization) -> str:
    return str(fused_output(node, plan).name)


def _names(group: Group, scales: dict[str, Scale]) -> tuple[str, ...]:
    return tuple(str(m.name) for m in group.members if not isinstance(m, Slot) and str(m.name) in scales)


def _with_weights(model: ir.Model, held: Held, *, bias: bool = False) -> ir.Model:
    copy = model.clone()
    editor = Editor(copy.graph)
    node = next(node for node in copy.graph if node.name == held.node.name)
    node.replace_input_with(held.index, editor.initializer(f"{node.name}_held", held.made))
    if bias and held.bias is not None:
        node.resize_inputs(3)
        node.replace_input_with(2, editor.initializer(f"{node.name}_held_bias", held.bias))
    drop_unused_initializers(copy.graph)
    return copy


def _rounded(model: ir.Model, scales: dict[str, Scale], edges: dict[tuple[ir.Node, int], Scale]) -> ir.Model:
    """Round tensors for all their readers, and some edges (node, input index) alone."""
    copy = model.clone()
    editor = Editor(copy.graph)
    by_name = {str(value.name): value for node in copy.graph for value in node.outputs}
    by_name |= {str(value.name): value for value in copy.graph.inputs}
    nodes = {str(node.name): node for node in copy.graph}
    for (node, index), scale in edges.items():
        reader = nodes[str(node.name)]
        value = reader.inputs[index]
        assert value is not None
        made = qdq.pair(editor, value, scale, f"{value.name}_re")
        editor.before(reader, made)
        reader.replace_input_with(index, made[-1].outputs[0])
    for name, scale in scales.items():
        qdq.round_trip(editor, by_name[name], scale)
    return copy


def _clip(look: GroupLook, model: ir.Model, bench: Bench, seen: Calibration | None) -> None:
    """How much of a group lies outside its scale's range, and what clipping alone costs."""
    if seen is None or look.group.fixed is not None:
        return
    for name in look.names:
        histogram = seen.histograms.get(name)
        share = 0.0 if histogram is None else outside(histogram, look.scale)
        if share > look.clipped:
            look.clipped, look.clipped_at = share, name
    if not look.clipped:
        return
    copy = model.clone()
    editor = Editor(copy.graph)
    bounds = [
        editor.initializer(f"{look.names[0]}_{end}", np.asarray(v, np.float32))
        for end, v in (("lowest", look.scale.lowest), ("highest", look.scale.highest))
    ]
    by_name = {str(value.name): value for node in copy.graph for value in node.outputs}
    by_name |= {str(value.name): value for value in copy.graph.inputs}
    for name in look.names:
        _insert(
            editor,
            by_name[name],
            lambda value: editor.node(
                "Clip", [value, *bounds], f"{value.name}_dequantized", ir.DataType.FLOAT, value.shape
            ),
        )
    look.clipping = bench.harm(copy)


def _insert(editor: Editor, value: ir.Value, make: Callable[[ir.Value], ir.Node]) -> None:
    """Put a node between a value and all its readers, a graph output among them."""
    uses = [(use.node, use.idx) for use in value.uses()]
    node = make(value)
    for reader, index in uses:
        reader.replace_input_with(index, node.outputs[0])
    producer = value.producer()
    if value.is_graph_output():
        editor.swap_output(value, node.outputs[0], f"{value.name}_float")
    if producer is None:
        editor.before(None, [node])
    else:
        editor.graph.insert_after(producer, [node])


def outside(histogram: Histogram, scale: Scale) -> float:
    """Share of the values beyond the range of a scale by more than half a step, to the resolution of the bins."""
    if not histogram.seen:
        return 0.0
    centres = histogram.centres()
    half = scale.scale / 2
    beyond = (centres < scale.lowest - half) | (centres > scale.highest + half)
    return float(histogram.counts[beyond].sum() / histogram.seen)
