"""Bounds in one form: Relu, or Clip with constant scalars."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import initializer, nodes, replace, scalar, sole_reader

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)

Bounds = tuple[float, float]


def canonical_clip(model: ir.Model) -> bool:
    """Merge neighbouring bounds, and name the result by the field's names.

    Given:
        a = Relu(x)                    likewise Max(x, 0)
        y = Clip(a, -1, 6)             likewise Min(a, 6)
        b = Clip(u, 0)

    Result:
        y = Clip(x, 0, 6)
        v = Relu(u)

    For floating-point values and bounds that are constants.
    """
    changed = False
    for node in nodes(model, "Relu", "Clip", "Max", "Min"):
        bounds = _bounds(node)
        source = _data(node)
        if bounds is None or source is None:
            continue
        wanted = bounds
        before = source.producer()
        inner = _bounds(before) if before is not None and before.domain == "" else None
        if before is None or sole_reader(source) is not node or before.graph is not node.graph:
            inner = None
        if inner is not None and before is not None:
            # Clip(Clip(x, a, b), c, d) is Clip(x, e, f) with both of its ends passed through the outer one.
            wanted = (_clamp(inner[0], bounds), _clamp(inner[1], bounds))
            inner_data = _data(before)
            assert inner_data is not None
            source = inner_data
        if inner is None and _is_canonical(node, bounds):
            continue
        _write(node, source, wanted)
        changed = True
    return changed


def _clamp(value: float, bounds: Bounds) -> float:
    # ONNX's Clip is min(max(x, low), high): where the bounds are crossed, high wins.
    return min(max(value, bounds[0]), bounds[1])


def _data(node: ir.Node) -> ir.Value | None:
    if node.op_type in ("Max", "Min") and scalar(node.inputs[0]) is not None:
        return node.inputs[1]
    return node.inputs[0]


def _bounds(node: ir.Node) -> Bounds | None:
    """The interval that a node confines its data to; None for other nodes and for bounds that are computed."""
    if node.outputs[0].dtype not in _FLOATS:
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type == "Clip":
        low = _bound(node, 1, -math.inf)
        high = _bound(node, 2, math.inf)
        return (low, high) if low is not None and high is not None else None
    if node.op_type in ("Max", "Min") and len(node.inputs) == 2:
        limit = next((s for s in map(scalar, node.inputs) if s is not None), None)
        data = _data(node)
        if limit is None or math.isnan(limit) or data is None or data.shape is None:
            return None
        other = node.inputs[0] if data is node.inputs[1] else node.inputs[1]
        if other is None or other.shape is None or len(other.shape) > len(data.shape):
            return None
        return (limit, math.inf) if node.op_type == "Max" else (-math.inf, limit)
    return None


def _bound(node: ir.Node, index: int, default: float) -> float | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return default
    number = scalar(value)
    return None if number is None or math.isnan(number) else number


def _is_canonical(node: ir.Node, bounds: Bounds) -> bool:
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip" or bounds == (0.0, math.inf) or bounds == (-math.inf, math.inf):
        return False
    return all(value is None or value.shape is None or len(value.shape) == 0 for value in node.inputs[1:])


def _write(node: ir.Node, source: ir.Value, bounds: Bounds) -> None:
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    assert old.dtype is not None
    if bounds == (0.0, math.inf):
        replace(node, "Relu", [source])
    elif bounds == (-math.inf, math.inf):
        replace(node, "Identity", [source])
    else:
        dtype = old.dtype.numpy()
        low, high = (
            initializer(graph, f"{node.name}/{name}", np.array(bound, dtype)) if math.isfinite(bound) else None
            for name, bound in zip(("min", "max"), bounds, strict=True)
        )
        replace(node, "Clip", [source, low, high] if high is not None else [source, low])
