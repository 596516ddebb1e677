"""Static shapes of what Loop and Scan compute, which onnx's inference leaves open."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, nodes
from haversack.convert.hub.shapes import static_shape
from haversack.convert.hub.subgraphs import Given, always_true, closed

Sizes = list[tuple[int, ...] | None]


def loop_shapes(model: ir.Model) -> bool:
    """Give the results of Loop and Scan the shapes that their bodies give them.

    Given:
        y, ys = Loop<body>(3, true, x)      x is [2]; the body gives its state [2] and a row [4]; nobody ends it early

    Result:
        y is [2], ys is [3, 4]

    A state must keep its shape from iteration to iteration, else nothing is said.
    """
    changed = False
    for node in nodes(model, "Loop", "Scan"):
        if all(static_shape(value) is not None for value in node.outputs if value.name):
            continue
        found = _loop(node) if node.op_type == "Loop" else _scan(node)
        for value, size in zip(node.outputs, found, strict=False):
            if size is not None and static_shape(value) is None:
                value.shape = ir.Shape(size)
                changed = True
    return changed


def _loop(node: ir.Node) -> Sizes:
    body = node.attributes["body"].as_graph()
    states = [static_shape(value) for value in node.inputs[2:]]
    given = [size for size in states if size is not None]
    if len(given) < len(states):
        return []
    types = [value.dtype if value is not None else None for value in node.inputs[2:]]
    counter: list[Given] = [((), ir.DataType.INT64), ((), ir.DataType.BOOL)]
    results = _results(body, [*counter, *zip(given, types, strict=True)])[1:]
    if results[: len(given)] != given:
        return []
    going = node.inputs[1]
    start = constant(going)
    forever = going is None or (start is not None and bool(start.all()))
    trips = constant(node.inputs[0]) if forever and always_true(body, 0, 1) else None
    rows: Sizes = [
        None if row is None or trips is None else (int(trips.reshape(-1)[0]), *row) for row in results[len(given) :]
    ]
    return [*given, *rows]


def _scan(node: ir.Node) -> Sizes:
    body = node.attributes["body"].as_graph()
    count = node.attributes["num_scan_inputs"].as_int()
    sizes = [static_shape(value) for value in node.inputs]
    given = [size for size in sizes if size is not None]
    if len(given) < len(sizes):
        return []
    states, scanned = given[: len(given) - count], given[len(given) - count :]
    axes = _integers(node, "scan_input_axes") or [0] * count
    length = scanned[0][axes[0]]
    rows = [tuple(n for place, n in enumerate(s) if place != a % len(s)) for s, a in zip(scanned, axes, strict=True)]
    types = [value.dtype if value is not None else None for value in node.inputs]
    results = _results(body, list(zip([*states, *rows], types, strict=True)))
    if results[: len(states)] != states:
        return []
    made: Sizes = []
    outputs = results[len(states) :]
    for row, axis in zip(outputs, _integers(node, "scan_output_axes") or [0] * len(outputs), strict=True):
        place = axis % (len(row) + 1) if row is not None else 0
        made.append(None if row is None else (*row[:place], length, *row[place:]))
    return [*states, *made]


def _results(body: ir.Graph, given: list[Given]) -> Sizes:
    model, _ = closed(body, given)
    return [static_shape(value) for value in model.graph.outputs]


def _integers(node: ir.Node, name: str) -> list[int]:
    found = node.attributes.get(name)
    return [] if found is None else list(found.as_ints())
