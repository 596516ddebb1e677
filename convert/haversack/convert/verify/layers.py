"""Judging each layer of an artifact alone: fed what the model itself has there, it must give what the model gives.

An error cannot add up or hide that way: a layer that is off by two is found however small the network's last error, and
a layer that is right is not blamed for one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.measured import LayerError
from haversack.convert.targets import Layer, Tap
from haversack.convert.verify.compare import distance
from haversack.convert.verify.contract import FLOAT32, layer_limit
from haversack.convert.verify.execute import Progress
from haversack.convert.verify.probes import open_probe
from haversack.runtimes.engines import Array

if TYPE_CHECKING:
    from haversack.convert.verify.edges import Edges
    from haversack.convert.verify.judge import Subject


@dataclass(frozen=True)
class Inner:
    """The values of the hub graph that an artifact's layers read and give.

    Attributes:
        evaluator: Runs the graph with all of them as outputs.
        constants: Those that are initializers.
        inputs: The graph's own inputs by name.
    """

    evaluator: Evaluator
    constants: dict[str, Array]
    inputs: frozenset[str]

    @classmethod
    def of(cls, model: ir.Model, layers: Sequence[Layer]) -> Inner:
        """Prepare the values of `layers` in `model`; taps on values that the graph does not have are left out."""
        graph = model.graph
        inputs = frozenset(value.name or "" for value in graph.inputs)
        constants = {n: v.const_value.numpy() for n, v in graph.initializers.items() if v.const_value is not None}
        produced = {value.name for node in graph for value in node.outputs}
        wanted = {tap.value: None for layer in layers for tap in (*layer.inputs, *layer.outputs)}
        names = [name for name in wanted if name in produced]
        return cls(Evaluator(model, names), {n: constants[n] for n in wanted if n in constants}, inputs)

    def run(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """Every value on one sample."""
        return {**self.constants, **{name: sample[name] for name in self.inputs}, **self.evaluator.run(sample)}


def judge_layers(
    subject: Subject, edges: Edges, samples: Sequence[Mapping[str, Array]], progress: Progress | None = None
) -> tuple[LayerError, ...]:
    """Run every layer of an artifact alone on what the hub graph has at its inputs.

    Args:
        subject: The artifact, its graph and the map between them.
        edges: The opened artifact.
        samples: Inputs of the model.
        progress: Hears how far it is.

    Returns:
        The largest error of each layer over the samples, in execution order.
    """
    del edges
    probe = open_probe(subject.path)
    inner = Inner.of(subject.model, subject.layers)
    kinds = node_kinds(subject.model)
    worst: dict[int, LayerError] = {}
    for number, sample in enumerate(samples):
        values = inner.run(sample)
        for index, layer in enumerate(subject.layers):
            if not known(layer, values):
                continue
            if progress is not None and index % 16 == 0:
                done = (number + index / len(subject.layers)) / len(samples)
                progress(done, f"judging {subject.target} {subject.compression} layer by layer")
            feeds = {tap.tensor: as_artifact(values[tap.value], tap) for tap in layer.inputs}
            results = probe.alone(layer, feeds)
            for found in layer_errors(layer, values, results, kinds.get(layer.name, ()), FLOAT32):
                before = worst.get(index)
                if before is None or found.error / found.limit > before.error / before.limit:
                    worst[index] = found
    return tuple(worst[index] for index in sorted(worst))


def layer_errors(
    layer: Layer,
    values: Mapping[str, Array],
    results: Mapping[int | str, Array],
    kinds: tuple[str, ...],
    relative: float,
) -> Iterator[LayerError]:
    """The error of each output of a layer: in LSB where it is integers, else relative with the limit `relative`."""
    for tap in layer.outputs:
        expected, found = as_artifact(values[tap.value], tap), np.asarray(results[tap.tensor])
        if found.shape != expected.shape and found.size == expected.size:
            found = found.reshape(expected.shape)  # A batch axis of one that the artifact has or lacks.
        far = distance(expected, found)
        if expected.dtype.kind in "iu" and expected.dtype.itemsize == 1:
            yield LayerError(layer.name, layer.op, far.max_abs, layer_limit(layer.op, kinds), "LSB")
        else:
            yield LayerError(layer.name, layer.op, far.relative, relative, "relative")


def as_artifact(value: Array, tap: Tap) -> Array:
    """A value of the hub graph as the artifact holds it."""
    if tap.permutation is not None:
        value = value.transpose(tap.permutation)
    if tap.offset:
        value = (value.astype(np.int16) + tap.offset).astype(np.uint8)
    return np.ascontiguousarray(value)


def known(layer: Layer, values: Mapping[str, Array]) -> bool:
    """Whether all that a layer reads and gives has a counterpart in the hub graph."""
    return bool(layer.outputs) and all(tap.value in values for tap in (*layer.inputs, *layer.outputs))


def node_kinds(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Operator of each node of the hub graph, by the node's name."""
    return {node.name or "": (node.op_type,) for node in model.graph}
