"""Reshapes whose shape is computed from a symbolic shape."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, nodes

Dims = list[int | str]
"""Sizes, known or symbolic by name."""

_DEPTH = 16
"""Shape arithmetic is not deeper than this in what exporters write."""


def resolve_reshapes(model: ir.Model) -> bool:
    """Give a Reshape that keeps a symbolic dimension a constant shape.

    Given:                                     x is [N, 3, 8, 8]
        s = Shape(x)
        n = Gather(s, [0])
        t = Concat(n, [-1])
        y = Reshape(x, t)

    Result:
        y = Reshape(x, [-1, 192])

    Dimensions are followed through Shape, Gather, Slice, Squeeze, Unsqueeze, Cast and Concat.
    """
    changed = False
    for node in nodes(model, "Reshape"):
        source = node.inputs[0]
        if source is None or source.shape is None or constant(node.inputs[1]) is not None:
            continue
        asked = _dims(node.inputs[1], _DEPTH)
        given = _named(source.shape)
        if asked is None or given is None or node.attributes.get_int("allowzero", 0) != 0:
            continue
        resolved = _resolve(asked, given)
        if resolved is None:
            continue
        node.outputs[0].shape = ir.Shape(resolved)
        assert node.graph is not None
        target = np.array([-1 if isinstance(dim, str) else dim for dim in resolved], np.int64)
        node.replace_input_with(1, initializer(node.graph, f"{node.name}/shape", target))
        changed = True
    return changed


def _resolve(asked: Dims, given: Dims) -> Dims | None:
    """The output's dimensions with 0 and -1 resolved; None unless exactly one of them is symbolic."""
    dims: Dims = [given[axis] if dim == 0 and axis < len(given) else dim for axis, dim in enumerate(asked)]
    symbols = sorted(dim for dim in dims if isinstance(dim, str))
    if symbols != sorted(dim for dim in given if isinstance(dim, str)) or len(symbols) != 1 or 0 in dims:
        return None
    total = math.prod(dim for dim in given if isinstance(dim, int))
    known = math.prod(dim for dim in dims if isinstance(dim, int) and dim != -1)
    if dims.count(-1) == 1 and known and total % known == 0:
        return [total // known if dim == -1 else dim for dim in dims]
    return dims if dims.count(-1) == 0 and known == total else None


def _dims(value: ir.Value | None, depth: int) -> Dims | None:
    """What an integer tensor of rank 0 or 1 holds, as a list."""
    held = constant(value)
    if held is not None:
        return [int(number) for number in held.reshape(-1)] if held.ndim <= 1 and held.size <= 64 else None
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or not depth:
        return None
    if node.op_type == "Shape":
        dims = _named(node.inputs[0].shape) if node.inputs[0] is not None and node.inputs[0].shape is not None else None
        end = len(dims) if dims is not None else 0
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", end)
        return dims[start:end] if dims is not None else None
    if node.op_type == "Concat":
        parts = [_dims(part, depth - 1) for part in node.inputs]
        return None if any(part is None for part in parts) else [dim for part in parts if part for dim in part]
    if node.op_type not in ("Squeeze", "Unsqueeze", "Cast", "Gather", "Slice"):
        return None
    dims = _dims(node.inputs[0], depth - 1)
    if dims is None or node.op_type in ("Squeeze", "Unsqueeze", "Cast"):
        return dims
    return _gathered(node, dims) if node.op_type == "Gather" else _sliced(node, dims)


def _gathered(node: ir.Node, dims: Dims) -> Dims | None:
    indices = constant(node.inputs[1])
    if indices is None or indices.ndim > 1 or any(not -len(dims) <= index < len(dims) for index in indices.reshape(-1)):
        return None
    return [dims[int(index)] for index in indices.reshape(-1)]


def _sliced(node: ir.Node, dims: Dims) -> Dims | None:
    bounds = [constant(value) for value in node.inputs[1:3]]
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1, np.int64)
    if any(bound is None or bound.size != 1 for bound in bounds) or steps is None or int(steps.reshape(-1)[0]) != 1:
        return None
    start, end = (int(bound.reshape(-1)[0]) for bound in bounds if bound is not None)
    return dims[start:end]


def _named(shape: ir.Shape) -> Dims | None:
    """The dimensions with symbolic ones by name; None where one has no name."""
    dims: Dims = []
    for dim in shape:
        if isinstance(dim, int):
            dims.append(dim)
        elif dim.value is not None:
            dims.append(dim.value)
        else:
            return None
    return dims
