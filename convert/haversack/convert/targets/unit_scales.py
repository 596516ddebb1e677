"""Move scales from activations into the weights around them, so that a file says fewer numbers.

Between two weighted layers nothing says in which unit an activation is measured: with a factor c > 0,

    Given    x (scale s) → Conv(weights of scale w, bias of scale s·w) → y (scale t)
    Result   x (scale s·a) → Conv(weights of scale w·b/a, bias of scale s·w·b) → y (scale t·b)

computes the same integers, because kernels see s·w/t alone (positive homogeneity; the rescaling of cross-layer
equalisation, Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, with one
factor a tensor). Chosen so that s·a is 1, the scales of a bias *are* those of its weights and are written once, as are
all activations' scales: a per-channel int8 file loses four bytes an output channel, which no compressor finds.

The multiplier is rounded to float32 anew, by 6e-8 of itself, so an integer on the edge of rounding may move by one.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor, drop_unused_initializers
from haversack.convert.compress.groups import UnionFind
from haversack.convert.compress.operators import EQUAL, WEIGHTED, constant, data_inputs

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

HOMOGENEOUS = frozenset({*EQUAL, "Add", "GlobalAveragePool", "Identity", "LeakyRelu", "ReduceMean", "ReduceSum", "Relu",
                         "Sub"})  # fmt: skip
"""Operators whose result is in the unit of their data, which is that of all data inputs."""

FIXED = "fixed"
"""Joined with whatever keeps its unit: inputs, outputs, floats, operators with a unit of their own."""


def unit_scales(model: ir.Model) -> ir.Model:
    """Give activations the scale 1 wherever that changes no integer.

    Args:
        model: A hub graph; not changed.

    Returns:
        A graph of the same integers under the same names with other scales, or `model` where there is nothing to do.
    """
    nodes = list(model.graph.all_nodes())
    if len(nodes) > len(model.graph) or not any(node.op_type == QUANTIZE for node in nodes):
        return model  # a subgraph may read any value
    copy = model.clone()
    units = _units(copy.graph)
    factors = _factors(copy.graph, units)
    if not factors:
        return model
    _rescale(copy.graph, units, factors)
    return copy


def _weighted(node: ir.Node) -> bool:
    """Whether the unit of the node's result can be changed by the scale of its weights."""
    if node.op_type not in WEIGHTED or node.domain not in ("", "ai.onnx"):
        return False
    if any(node.attributes[name].as_float() != 1 for name in ("alpha", "beta") if name in node.attributes):
        return False
    operands = [value for value in node.inputs[1:] if value is not None]
    return bool(operands) and all(_own_scale(value) for value in operands)


def _own_scale(value: ir.Value) -> bool:
    """Whether `value` is a constant that a DequantizeLinear with a constant scale computes for one reader alone."""
    maker = value.producer()
    if maker is None or maker.op_type != DEQUANTIZE or value.is_graph_output() or len(value.uses()) != 1:
        return False
    return constant(maker.inputs[1]) is not None and _depends_on_constants(maker)


def _depends_on_constants(node: ir.Node) -> bool:
    waiting, seen = [value for value in node.inputs if value is not None], set[ir.Value]()
    while waiting:
        value = waiting.pop()
        if value in seen or constant(value) is not None:
            continue
        seen.add(value)
        maker = value.producer()
        if maker is None:
            return False
        waiting += [each for each in maker.inputs if each is not None]
    return True


def _units(graph: ir.Graph) -> UnionFind:
    """Which values share a unit."""
    units = UnionFind()
    units.find(FIXED)
    for value in (*graph.inputs, *graph.outputs):
        units.union([FIXED, value])
    for node in graph:
        results = [value for value in node.outputs if value.name]
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            first = node.inputs[0]
            if constant(first) is None or len(results[0].uses()) == 1:
                units.union([first, *results])
            else:  # several readers in different units
                units.union([FIXED, *results])
            if constant(node.inputs[1]) is None:
                units.union([FIXED, first])
        elif _weighted(node):
            units.find(node.inputs[0])
            units.find(results[0])
        elif node.op_type in HOMOGENEOUS and node.domain in ("", "ai.onnx"):
            data = [node.inputs[i] for i in data_inputs(node)]
            plain = any(value is not None and constant(value) is not None for value in data)
            units.union([*([FIXED] if plain else []), *data, *results])
        else:
            units.union([FIXED, *(value for value in node.inputs if value is not None), *results])
    return units


def _factors(graph: ir.Graph, units: UnionFind) -> dict[object, float]:
    """By unit, what its scales are multiplied by: the one that most numbers are saved by becomes 1."""
    saved: dict[object, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for node in graph:
        scale = constant(node.inputs[1]) if node.op_type == DEQUANTIZE else None
        if scale is None or scale.ndim or _depends_on_constants(node):
            continue
        unit = units.find(node.inputs[0])
        for user in node.outputs[0].consumers():
            bias = user.inputs[2] if _weighted(user) and len(user.inputs) > 2 else None
            maker = None if bias is None else bias.producer()
            numbers = constant(maker.inputs[1]) if maker is not None else None
            saved[unit][float(scale)] += 1 + (0 if numbers is None else 4 * int(numbers.size))
    saved.pop(units.find(FIXED), None)
    return {unit: 1 / max(scales, key=lambda scale: scales[scale]) for unit, scales in saved.items()}


def _rescale(graph: ir.Graph, units: UnionFind, factors: dict[object, float]) -> None:
    editor = Editor(graph)
    made: dict[tuple[ir.Value, float], ir.Value] = {}

    def change(node: ir.Node, factor: float) -> None:
        old = node.inputs[1]
        scale = constant(old)
        if old is None or scale is None or factor == 1:
            return
        if (old, factor) not in made:
            changed = (scale.astype(np.float64) * factor).astype(np.float32)
            made[old, factor] = editor.initializer(str(old.name), changed)
        node.replace_input_with(1, made[old, factor])

    weighted = [node for node in graph if _weighted(node)]
    for node in graph:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            change(node, factors.get(units.find(node.inputs[0]), 1.0))
    for node in weighted:
        into = factors.get(units.find(node.inputs[0]), 1.0)
        out = factors.get(units.find(node.outputs[0]), 1.0)
        makers = [None if value is None else value.producer() for value in node.inputs[:3]]
        for maker, factor in zip(makers[1:], (out / into, out), strict=False):
            if maker is not None:
                change(maker, factor)
        _match_bias(editor, makers)
    drop_unused_initializers(graph)


def _match_bias(editor: Editor, makers: list[ir.Node | None]) -> None:
    """The scale of a bias is that of the input times that of the weights, rounded once, as in the hub."""
    if len(makers) < 3 or any(maker is None or maker.op_type != DEQUANTIZE for maker in makers):
        return
    source, weights, bias = (constant(maker.inputs[1]) for maker in makers if maker is not None)
    if source is None or weights is None or bias is None or source.ndim or weights.shape != bias.shape:
        return
    product = (source * weights).astype(np.float32)
    last = makers[2]
    if last is not None and np.allclose(product, bias, rtol=1e-6, atol=0):
        last.replace_input_with(1, editor.initializer(str(last.inputs[1].name), product))  # type: ignore[union-attr]


__all__ = ["unit_scales"]
