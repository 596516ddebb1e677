"""How execution providers would share a graph with the CPU, by their documentation.

onnxruntime shows a provider the graph after its basic optimisations, which is plain ONNX; it fuses operators for the
CPU afterwards, in what no provider took. Nodes that a provider takes join a partition as long as none of them waits
for a node that it left: partitions are the turns that data takes between the two, which is what onnxruntime's own
partitioner makes (`CreateSupportedPartitionNodeGroups`). Nodes inside of control flow are not asked about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import numpy_helper

from haversack.convert.deployment import Left, ProviderFit
from haversack.convert.hub import OPSET
from haversack.convert.targets.ort.ort_format import optimised
from haversack.convert.targets.ort.provider_rules import NOT_FIXED, Seen
from haversack.convert.targets.ort.providers import MICROSOFT, PROVIDERS, Provider
from haversack.runtimes.engines import Array

FEW = 64
"""Constants of up to this many elements are read: axes, sizes, pads."""

WEIGHTED, SPATIAL = ("Conv", "ConvTranspose"), ("AveragePool", "Conv", "ConvTranspose")
"""Quantized operators whose weights are constant, and those of which providers take the two-dimensional form only."""


def provider_fits(model: bytes) -> tuple[ProviderFit, ...]:
    """What each execution provider would take of a model.

    Args:
        model: A serialized `.onnx` with its nodes' names.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "basic.onnx"
        optimised(model, path, fold=True, form="ONNX", basic=True)
        proto = onnx.load(path)
    graph = _Graph(proto)
    return tuple(fit(graph, provider) for provider in PROVIDERS)


class _Graph:
    """What the rules look at, read once for all providers.

    Attributes:
        nodes: In topological order.
        seen: Each node with the types of its values.
        readers: Nodes that read a value, by index.
        producers: The node that computes a value, by index.
        opset: Of ONNX's domain.
        outputs: Names of the graph's outputs.
    """

    def __init__(self, proto: onnx.ModelProto):
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        self.nodes = list(inferred.node)
        self.opset = next((each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")), OPSET)
        self.outputs = {value.name for value in inferred.output}
        types: dict[str, tuple[int, tuple[int | None, ...] | None]] = {}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = value.type.tensor_type
            shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
            types[value.name] = (tensor.elem_type, tuple(shape) if tensor.HasField("shape") else None)
        constants: dict[str, Array | None] = {}
        for each in inferred.initializer:
            types[each.name] = (each.data_type, tuple(each.dims))
            count = 1
            for size in each.dims:
                count *= size
            constants[each.name] = numpy_helper.to_array(each) if count <= FEW else None
        self.seen = [Seen(node, types, constants) for node in self.nodes]
        self.producers = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(index)

    def before(self, index: int) -> list[int]:
        """The nodes that one waits for."""
        return [self.producers[name] for name in self.nodes[index].input if name in self.producers]


def fit(graph: _Graph, provider: Provider) -> ProviderFit:
    """What one provider takes of a graph."""
    reasons = [_reason(seen, provider, graph.opset) for seen in graph.seen]
    _take_fused(graph, provider, reasons)
    if provider.whole_units:
        _take_units(graph, provider, reasons)
    taken = [reason is None for reason in reasons]
    return ProviderFit(
        provider.name, provider.platform, len(graph.nodes), sum(taken), _partitions(graph, taken),
        _left(graph.nodes, reasons), provider.source, provider.notes,
    )  # fmt: skip


def _reason(seen: Seen, provider: Provider, opset: int) -> str | None:
    node = seen.node
    key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}:{node.op_type}"
    if any(attribute.HasField("g") for attribute in node.attribute):
        return "control flow stays on the CPU"
    rules = provider.operators.get(key)
    if rules is None:
        return "not among its operators"
    if key in provider.since and not _has_kernel(provider.since[key], onnx.defs.get_schema(key, opset).since_version):
        return f"no kernel for the operator as it is at opset {opset}"
    if provider.fixed_sizes and not all(_fixed(seen, index) for index in range(len(node.input))):
        return NOT_FIXED
    if any((seen.rank(index) or 0) > provider.max_rank for index in range(len(node.input))):
        return f"more than {provider.max_rank} axes"
    return next((reason for each in rules if (reason := each(seen)) is not None), None)


def _has_kernel(kernels: Sequence[tuple[int, int | None]], since: int) -> bool:
    """As onnxruntime matches versions: a kernel that is open to later ones is for the version that it starts at."""
    return any(first == since or (last is not None and first <= since <= last) for first, last in kernels)


def _fixed(seen: Seen, index: int) -> bool:
    if not seen.given(index):
        return True
    shape = seen.shape(index)
    return shape is not None and None not in shape


def _take_fused(graph: _Graph, provider: Provider, reasons: list[str | None]) -> None:
    """Let the provider take an activation as part of the node before it."""
    for index, seen in enumerate(graph.seen):
        before = graph.before(index)
        behind = provider.fused.get(seen.node.op_type, ())
        if not before or graph.nodes[before[0]].op_type not in behind or reasons[before[0]] is not None:
            continue
        bounds = all(seen.constant(each) for each in (1, 2) if seen.given(each))
        reasons[index] = None if bounds else "its bounds must be constant"


def _take_units(graph: _Graph, provider: Provider, reasons: list[str | None]) -> None:
    """Let the provider take a quantized operator together with what quantizes around it.

    Its weights are a DequantizeLinear of a constant, which is as good as a constant there.
    """
    for index, seen in enumerate(graph.seen):
        node = seen.node
        known = {f"QLinear{node.op_type}", f"{MICROSOFT}QLinear{node.op_type}"} & set(provider.operators)
        around, behind = graph.before(index), graph.readers.get(node.output[0], []) if node.output else []
        ops = [graph.nodes[each].op_type for each in around]
        if not known or not ops or set(ops) != {"DequantizeLinear"} or len(behind) != 1:
            continue
        if graph.nodes[behind[0]].op_type != "QuantizeLinear" or node.output[0] in graph.outputs:
            continue
        if node.op_type in WEIGHTED and not all(graph.seen[each].constant(0) for each in around[1:]):
            continue
        if node.op_type in SPATIAL and seen.rank() != 4:
            continue
        if provider.fixed_sizes and not all(_fixed(seen, each) for each in range(len(node.input))):
            continue
        own = [each for each in around if len(graph.readers[graph.nodes[each].output[0]]) == 1]
        for each in (index, *own, *behind):
            reasons[each] = None


def _partitions(graph: _Graph, taken: Sequence[bool]) -> int:
    turns: list[int] = []
    for index in range(len(graph.nodes)):
        turn = 0
        for each in graph.before(index):
            # What is left waits until the partition of what it reads is closed.
            turn = max(turn, turns[each] + (taken[each] and not taken[index]))
        turns.append(turn)
    return len({turn for turn, yes in zip(turns, taken, strict=True) if yes})


def _left(nodes: Sequence[onnx.NodeProto], reasons: Sequence[str | None]) -> tuple[Left, ...]:
    groups: dict[tuple[str, str], list[str]] = {}
    for node, reason in zip(nodes, reasons, strict=True):
        if reason is not None:
            groups.setdefault((node.op_type, reason), []).append(node.name or (node.output[0] if node.output else ""))
    rows = [Left(op, len(names), names[0], reason) for (op, reason), names in groups.items()]
    return tuple(sorted(rows, key=lambda row: -row.count))
