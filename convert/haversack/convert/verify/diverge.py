"""Finding the first layer of an artifact that leaves the model, in the order of execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from haversack.convert.measured import LayerError
from haversack.convert.verify.contract import FLOAT16, FLOAT32
from haversack.convert.verify.layers import Inner, known, layer_errors, node_kinds
from haversack.convert.verify.probes import open_probe
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

if TYPE_CHECKING:
    from haversack.convert.verify.edges import Edges
    from haversack.convert.verify.judge import Subject


def first_diverging(subject: Subject, edges: Edges, samples: Sequence[Mapping[str, Array]]) -> str:
    """Say, in words, where an artifact leaves the model.

    Args:
        subject: The artifact, its graph and the map between them.
        edges: The opened artifact, which knows how to feed it.
        samples: Inputs of the model.

    Returns:
        `first diverging layer: NAME (OP), ...`, or why there is none to name.
    """
    if not subject.layers:
        return "which of its layers are the model's is not known, so none can be named" + _not_finite(edges, samples)
    try:
        found = diverging(subject, edges, samples)
    except HaversackError as error:
        return f"the first diverging layer could not be found: {error}"
    if not found:
        return "no layer's values could be compared"
    first = next((layer for layer in found if layer.error > layer.limit), None)
    if first is not None:
        return f"first diverging layer: {first.name} ({first.op}), {_spelled(first)}"
    worst = max(found, key=lambda layer: layer.error / layer.limit)
    return f"no single layer leaves the model; the furthest is {worst.name} ({worst.op}), {_spelled(worst)}"


def diverging(subject: Subject, edges: Edges, samples: Sequence[Mapping[str, Array]]) -> list[LayerError]:
    """How far each layer's values are from the model's in a run of the whole artifact, in the order of execution."""
    probe = open_probe(subject.path)
    inner = Inner.of(subject.model, subject.layers)
    kinds = node_kinds(subject.model)
    limit = subject.contract.max_relative or (FLOAT16 if subject.compression == "int8-dynamic" else FLOAT32)
    runs = [(inner.run(sample), edges.feeds(sample)) for sample in samples]
    found = []
    for layer in subject.layers:
        errors = [
            error
            for values, feeds in runs
            if known(layer, values)
            for error in layer_errors(layer, values, probe.values(feeds, layer), kinds.get(layer.name, ()), limit)
        ]
        if errors:
            found.append(max(errors, key=lambda error: error.error / error.limit))
    return found


def _spelled(layer: LayerError) -> str:
    if layer.unit == "LSB":
        return f"{layer.error:g} LSB from the model, {layer.limit:g} allowed"
    return f"relative error {layer.error:.2e}, {layer.limit:g} allowed"


def _not_finite(edges: Edges, samples: Sequence[Mapping[str, Array]]) -> str:
    """The operation of a Core ML package where NaN or a float16 overflow first appears, in the package's own name."""
    evaluator = getattr(edges.engine, "evaluator", None)
    if evaluator is None:
        return ""
    for sample in samples:
        edges.run(sample)
        if evaluator.anomalies:
            return f"; {evaluator.anomalies[0]}"
    return ""
