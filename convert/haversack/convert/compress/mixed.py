"""A planned model: each layer in the precision that its plan says.

Under integer arithmetic the hub form is int8's (`compress/__init__.py`), in which

- a layer's integers may be coarser than int8 has room for, or int4: `w_quantized` (INT4) → DequantizeLinear;
- a layer that the plan keeps in floats reads dequantized values, and its weights are held as the recipe of that name
  holds them.

Under float arithmetic every layer's weights are held in their own form of `forms.py`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress import operators, qdq
from haversack.convert.compress.calibrate import Calibration, Progress, calibrate
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.float16 import store_float16
from haversack.convert.compress.groups import Group, quantization
from haversack.convert.compress.low_bits import limit, rounded, steps
from haversack.convert.compress.methods import apply
from haversack.convert.compress.methods.reconstruct import Wanted, channel_axis
from haversack.convert.compress.methods.stepwise import sample
from haversack.convert.compress.plan import INTEGER, LayerPlan, Plan
from haversack.convert.compress.qdq import Rounded
from haversack.convert.compress.range_of import scale_of_group
from haversack.convert.compress.recipes import STORAGES, Storage
from haversack.convert.compress.scale import Scale
from haversack.convert.compress.second_order import Solver, layer_of
from haversack.convert.compress.storage import Known, Seen, layout, observe, store
from haversack.convert.compress.unpacking import unpack_weights
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

EQUALIZE = "equalize"

Batches = Sequence[Mapping[str, Array]]

Data = Callable[[], Iterable[Mapping[str, Array]]]
"""Gives batches of one sample, from the start at each call."""


@dataclass(frozen=True)
class Observed:
    """What calibration data says of a model; every plan of it draws on the same.

    Attributes:
        activations: A histogram of each value that may be quantized; None without data.
        weights: How much errors in weights matter.
        batches: Some of the data, for what goes layer by layer.
        equalized: Whether it was the equalised model that was looked at.
    """

    activations: Calibration | None = None
    weights: Seen = field(default_factory=Seen)
    batches: Batches = ()
    equalized: bool = False


def observe_model(
    model: ir.Model, data: Data | None, progress: Progress | None = None, *, equalized: bool = False
) -> Observed:
    """Run the float hub graph on calibration data.

    Args:
        model: With static shapes; not changed.
        data: Calibration data; None where there is none, which leaves float arithmetic.
        progress: Told how far it is.
        equalized: Look at the equalised model, for plans that equalise.
    """
    if data is None:
        return Observed(equalized=equalized)
    source = _rescaled(unpack_weights(model), equalized)
    plan = quantization(source.graph)
    members = [each for group in plan.groups for each in group.members if isinstance(each, ir.Value)]
    names = list(dict.fromkeys(str(value.name) for value in (*members, *plan.inner)))

    def first(fraction: float, phrase: str) -> None:
        if progress is not None:
            progress(0.5 * fraction, phrase)

    def second(fraction: float, phrase: str) -> None:
        if progress is not None:
            progress(0.5 + 0.5 * fraction, phrase)

    seen = calibrate(source, names, data(), first)
    weights = observe(source, data(), second)
    return Observed(Calibration(seen.histograms), weights, tuple(sample(seen.kept, source)), equalized)


def _rescaled(model: ir.Model, equalized: bool) -> ir.Model:
    return apply.before(model, (EQUALIZE,))[0] if equalized else model


def planned_layers(model: ir.Model) -> dict[str, ir.Node]:
    """The layers that a plan may name: those with weights worth compressing, by the node's name, in graph order."""
    found: dict[str, ir.Node] = {}
    for value in operators.weight_values(model.graph):
        if layout(value) is not None:
            for use in value.uses():
                found.setdefault(str(use.node.name), use.node)
    return {str(node.name): node for node in model.graph if str(node.name) in found}


def apply_plan(
    model: ir.Model, plan: Plan, observed: Observed
) -> tuple[ir.Model, list[str], Callable[[ir.Model], ir.Model]]:
    """Compress a copy of `model` as a plan says.

    Args:
        model: The float hub graph.
        plan: What each layer is to be.
        observed: What calibration data says of the model.

    Returns:
        The compressed hub graph, notes, and what compresses the same model at other sizes alike.

    Raises:
        UsageError: The plan names a layer that the model does not have, wants integers without calibration data, or
            the model is quantized already.
    """
    source = _source(model, plan)
    _check(plan, planned_layers(source))
    if observed.equalized != (EQUALIZE in plan.methods):
        raise ValueError("what was observed is the model with another equalisation than the plan's")
    if plan.arithmetic not in ("int8", "int16"):
        return _float(source, plan, observed), [], functools.partial(_float_again, plan, observed)
    if observed.activations is None:
        raise UsageError(f"{plan.name}: {plan.arithmetic} needs calibration data (--calibration DATA)")
    floats = frozenset(name for name in planned_layers(source) if not plan.of(name).integer)
    prepared = apply.round_weights(
        _held(source, plan, observed), _wanted(source, plan, observed), plan.methods, observed.batches,
        four=frozenset(name for name in planned_layers(source) if plan.of(name).weights == "int4"),
    )  # fmt: skip
    quantized = _integer(prepared, plan, floats, observed.activations)
    made, shifts = apply.after(source, quantized, plan.methods, observed.batches)
    return made, prepared.notes, functools.partial(_integer_again, plan, observed, prepared, floats, shifts)


def _source(model: ir.Model, plan: Plan) -> ir.Model:
    """The float graph that a plan is about."""
    source = unpack_weights(model)
    if any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in source.graph.all_nodes()):
        raise UsageError(f"{plan.name}: this model is already quantized; convert it with fp32, which keeps it as it is")
    return _rescaled(source, EQUALIZE in plan.methods)


def _float_again(plan: Plan, observed: Observed, model: ir.Model) -> ir.Model:
    """Compress the same model at other sizes."""
    return _float(_source(model, plan), plan, observed)


def _integer_again(
    plan: Plan,
    observed: Observed,
    prepared: apply.Prepared,
    floats: Collection[str],
    shifts: Mapping[str, Array],
    model: ir.Model,
) -> ir.Model:
    """Compress the same model at other sizes, with the numbers that were chosen.

    Raises:
        ValueError: At these sizes the model has values that calibration did not see.
    """
    assert observed.activations is not None
    same = apply.again(_held(_source(model, plan), plan, observed), prepared)
    try:
        quantized = _integer(dataclasses.replace(prepared, model=same), plan, floats, observed.activations)
    except KeyError as error:
        raise ValueError(f"calibration saw no {error} at the default size") from None
    return apply.shift_again(quantized, shifts)


def _check(plan: Plan, layers: Mapping[str, ir.Node]) -> None:
    unknown = [name for name in plan.layers if name not in layers]
    if unknown:
        raise UsageError(
            f"{plan.name}: the model has no layer {', '.join(map(repr, unknown))}; it has {', '.join(layers)}"
        )
    if plan.arithmetic in ("int8", "int16"):
        return
    integer = next((name for name in layers if plan.of(name).weights in INTEGER), None)
    if integer is not None:
        kept = plan.of(integer).weights
        raise UsageError(
            f"{plan.name}: layer {integer} has {kept}, which is for arithmetic in integers; "
            f"under {plan.arithmetic} write {kept}-weights"
        )


def _float(model: ir.Model, plan: Plan, observed: Observed) -> ir.Model:
    """Every layer's weights in their own form."""
    copy = model.clone()
    editor = Editor(copy.graph)
    for name in planned_layers(model):
        _hold(editor, _node(copy.graph, name), plan.of(name), observed.weights)
    return copy


def _held(model: ir.Model, plan: Plan, observed: Observed) -> ir.Model:
    """Under integer arithmetic, the weights of the layers that stay float in their own form."""
    copy = model.clone()
    editor = Editor(copy.graph)
    for name in planned_layers(model):
        if not plan.of(name).integer:
            _hold(editor, _node(copy.graph, name), plan.of(name), observed.weights)
    return copy


def _wanted(model: ir.Model, plan: Plan, observed: Observed) -> dict[str, Wanted]:
    """How the weights of integer layers are to be rounded."""
    found = {}
    for name, node in planned_layers(model).items():
        layer = plan.of(name)
        value = node.inputs[1] if len(node.inputs) > 1 else None
        array = operators.constant(value)
        if not layer.integer or operators.kind(node) != "weighted" or value is None or array is None:
            continue
        axis = channel_axis(node) if layer.granularity == "per-channel" else None
        step = steps(str(value.name), array, layer, axis, observed.weights.importance.get(str(value.name)))
        found[name] = Wanted(limit(layer), axis is not None, step)
    return found


def _integer(prepared: apply.Prepared, plan: Plan, floats: Collection[str], seen: Calibration) -> ir.Model:
    """Insert QuantizeLinear and DequantizeLinear around the layers that compute in integers."""
    copy = prepared.model.clone()
    touched = quantization(copy.graph, floats)
    bits = 16 if plan.arithmetic == "int16" else 8
    scales: dict[int, Scale] = {}

    def scale_of(group: Group) -> Scale:
        if id(group) not in scales:
            scales[id(group)] = scale_of_group(group, seen, plan.ranges, bits)
        return scales[id(group)]

    for group in touched.groups:  # before the graph changes under the constants
        scale_of(group)
    nodes = [str(node.name) for node, kind in touched.nodes.items() if kind == "weighted"]
    per_channel = {name: plan.of(name).granularity == "per-channel" for name in nodes}
    qdq.insert(copy.graph, touched, scale_of, per_channel, prepared.integers)
    return copy


def round_layer(editor: Editor, node: ir.Node, layer: LayerPlan, seen: Seen) -> Rounded:
    """The integers of one layer's weights; its bias in the graph is moved to make up for their error."""
    value = node.inputs[1]
    assert value is not None
    array = operators.constant(value)
    assert array is not None
    known = known_of(value, seen)
    made = rounded(str(value.name), array, layer, qdq.channel_axis(node), known.importance, known.solver)
    if known.solver is not None:
        known.solver.apply(editor)
    return made


def known_of(value: ir.Value, seen: Seen) -> Known:
    """What calibration data says of one initializer."""
    name, layer = str(value.name), layer_of(value)
    solver = Solver(layer, seen.moments[name]) if layer is not None and name in seen.moments else None
    return Known(seen.importance.get(name), solver)


def _hold(editor: Editor, node: ir.Node, layer: LayerPlan, seen: Seen) -> None:
    """Hold the weights of a float layer as the plan says; all of them, where it has several."""
    values = {value for value in node.inputs if value is not None and value in operators.weight_values(editor.graph)}
    for value in sorted(values, key=lambda value: str(value.name)):
        axes = layout(value)
        if axes is None or layer.weights == "float32":
            continue
        if layer.weights == "float16":
            store_float16(editor, value)
        else:
            form = Storage(8) if layer.weights == "int8-weights" else STORAGES[layer.weights]
            store(editor, value, axes, form, known_of(value, seen))


def _node(graph: ir.Graph, name: str) -> ir.Node:
    return next(node for node in graph if node.name == name)


def held_weights(model: ir.Model, name: str, layer: LayerPlan, observed: Observed) -> tuple[ir.Model, Rounded | None]:
    """A copy of a float model in which one layer has the weights, and the bias, that a plan gives it.

    All arithmetic is float: what the layer's weights alone do to the output.

    Args:
        model: The float hub graph; not changed.
        name: Of the layer's node.
        layer: How it is held.
        observed: What calibration data says of the model.

    Returns:
        The copy, and the integers where the plan has integers.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    node = _node(copy.graph, name)
    if not layer.integer:
        _hold(editor, node, layer, observed.weights)
        return copy, None
    value = node.inputs[1]
    assert value is not None
    made = round_layer(editor, node, layer, observed.weights)
    value.const_value = ir.Tensor(np.ascontiguousarray(made.weights.dequantize()), name=value.name)
    return copy, made


def quantized_around(model: ir.Model, name: str, plan: Plan, seen: Calibration) -> ir.Model:
    """A copy of a float model in which the values that one layer reads and gives are rounded as under integers.

    Its weights stay float: what integer activations around this layer alone do to the output.

    Args:
        model: The float hub graph; not changed.
        name: Of the layer's node.
        plan: Whose arithmetic and ranges are meant.
        seen: A histogram of each activation.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    node = _node(copy.graph, name)
    touched = quantization(copy.graph)
    output = node.outputs[0]
    if output in touched.inner:
        output = output.consumers()[0].outputs[0]
    bits = 16 if plan.arithmetic == "int16" else 8
    scales = {
        value: scale_of_group(touched.of[value], seen, plan.ranges, bits)
        for value in (node.inputs[0], output)
        if value is not None and value in touched.of
    }
    for value, scale in scales.items():
        qdq.round_trip(editor, value, scale)
    return copy


__all__ = ["Observed", "apply_plan", "held_weights", "known_of", "observe_model", "planned_layers"]
