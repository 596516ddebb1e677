"""Transposes that a matrix product takes in."""

from __future__ import annotations

from haversack.convert.targets.tflite.graph import Graph


def transpose_into_product(graph: Graph) -> None:
    """Given BATCH_MATMUL(x, TRANSPOSE of the last two axes of y), result BATCH_MATMUL(x, y) with `adj_y`."""
    producers, uses = graph.producers(), graph.uses()
    for operator in graph.operators:
        turned = operator.inputs[1] if operator.code == "BATCH_MATMUL" else None
        before = producers.get(id(turned))
        if turned is None or before is None or before.code != "TRANSPOSE" or turned.dtype != "float32":
            continue
        table, rank = before.inputs[1], len(turned.shape)
        swapped = [*range(rank - 2), rank - 1, rank - 2]
        if uses[id(turned)] == 1 and table is not None and table.data is not None and list(table.data) == swapped:
            operator.inputs[1] = before.inputs[0]
            operator.options = {**operator.options, "adj_y": not operator.options.get("adj_y", False)}
