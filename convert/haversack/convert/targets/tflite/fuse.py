"""Fusions: what one TFLite operator can do that several were emitted for. Each is exact, float and int8 alike.

`ORDER` lists them; each takes the graph and rewrites it in place. A tensor that the model outputs, or that a second
operator reads, is never fused away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from haversack.convert.targets.tflite.fuse_transposes import transpose_into_product
from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor
from haversack.convert.targets.tflite.kernels import KERNELS
from haversack.convert.targets.tflite.ops.window import Window, same_padding
from haversack.convert.targets.tflite.overwriting import copy_before_overwriting
from haversack.convert.targets.tflite.schema import ACTIVATIONS, SAME, VALID

CARRY_ACTIVATION = frozenset({
    "ADD", "AVERAGE_POOL_2D", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "DIV", "FULLY_CONNECTED", "MAX_POOL_2D", "MUL",
    "SUB",
})  # fmt: skip
"""Operators that apply an activation to their result. (TRANSPOSE_CONV does in its version 4 only.)"""

FULLY_CONNECTED_AXES = KERNELS["FULLY_CONNECTED"].max_rank or 0
"""The most axes that its input may have."""

TAKE_BIAS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Operators with an optional bias, and the weights' axis that it runs along."""


@dataclass
class _View:
    """Who makes and who reads what, at one moment."""

    graph: Graph

    def __post_init__(self) -> None:
        self.producers = self.graph.producers()
        self.uses = self.graph.uses()

    def sole_producer(self, tensor: Tensor | None) -> Operator | None:
        """What computes `tensor`, if the operator at hand is its only reader."""
        if tensor is None or self.uses.get(id(tensor)) != 1:
            return None
        return self.producers.get(id(tensor))

    def absorb(self, producer: Operator, operator: Operator) -> None:
        """Let `producer` compute what `operator`, the only reader of its result, did; that one is gone."""
        producer.outputs = operator.outputs
        self.producers.update((id(tensor), producer) for tensor in operator.outputs)
        self.graph.operators.remove(operator)


def merge_reshapes(graph: Graph) -> None:
    """Given RESHAPE(RESHAPE(x)), result RESHAPE(x); a RESHAPE to the shape x had is x."""
    view = _View(graph)
    outputs = {id(tensor) for _, tensor in graph.outputs}
    renamed: dict[int, Tensor] = {}
    for operator in list(graph.operators):
        operator.inputs = [t if t is None else renamed.get(id(t), t) for t in operator.inputs]
        if operator.code != "RESHAPE":
            continue
        before = view.sole_producer(operator.inputs[0])
        if before is not None and before.code == "RESHAPE":
            operator.inputs[0] = before.inputs[0]
            graph.operators.remove(before)
        source, result = operator.inputs[0], operator.outputs[0]
        if source is not None and source.shape == result.shape and id(result) not in outputs:
            renamed[id(result)] = source
            graph.operators.remove(operator)


def pad_into_convolution(graph: Graph) -> None:
    """Given PAD of zeros → convolution with VALID, result the convolution with SAME, where SAME pads as much."""
    view = _View(graph)
    for operator in graph.operators:
        if operator.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or operator.options.get("padding") != VALID:
            continue
        pad = view.producers.get(id(operator.inputs[0]))
        if pad is None or pad.code != "PAD":
            continue
        source, table, kernel = pad.inputs[0], pad.inputs[1], operator.inputs[1]
        if source is None or kernel is None or table is None or table.data is None:
            continue
        edges = [(int(before), int(after)) for before, after in table.data]
        window = Window(
            kernel.shape[1:3],
            (operator.options["stride_h"], operator.options["stride_w"]),
            (operator.options["dilation_h_factor"], operator.options["dilation_w_factor"]),
        )
        if graph.sizes_vary == "pads" and window.strided:
            continue
        if edges[0] == edges[3] == (0, 0) and same_padding(window, source.shape[1:3]) == edges[1:3]:
            operator.inputs[0] = source
            operator.options["padding"] = SAME


def merge_pads(graph: Graph) -> None:
    """Given PAD(PAD(x)) of zeros, result one PAD."""
    view = _View(graph)
    for operator in graph.operators:
        before = view.sole_producer(operator.inputs[0]) if operator.code == "PAD" else None
        if before is None or before.code != "PAD":
            continue
        tables = [op.inputs[1] for op in (before, operator)]
        sums = [t.data for t in tables if t is not None and t.data is not None]
        if len(sums) == 2:
            total = sums[0] + sums[1]
            operator.inputs = [before.inputs[0], Tensor(tuple(total.shape), "int32", total)]
            graph.operators.remove(before)


def bias_into_producer(graph: Graph) -> None:
    """Given ADD(convolution or FULLY_CONNECTED, constant, one or one a channel), result the operator with that bias."""
    view = _View(graph)
    for operator in list(graph.operators):
        if operator.code != "ADD" or operator.outputs[0].dtype != "float32":
            continue
        for tensor, addend in (operator.inputs, operator.inputs[::-1]):
            producer = view.sole_producer(tensor)
            if producer is None or addend is None or addend.data is None or producer.code not in TAKE_BIAS:
                continue
            weights = producer.inputs[1]
            channels = producer.outputs[0].shape[-1]
            bias = producer.inputs[2] if len(producer.inputs) > 2 else None
            fits = addend.size in (1, (addend.shape or (1,))[-1]) and addend.size in (1, channels)
            free = bias is None or (bias.data is not None and bias.dtype == "float32")
            free = free and not producer.options.get("fused_activation_function")
            if free and fits and weights is not None and operator.outputs[0].shape == producer.outputs[0].shape:
                sums = addend.value().reshape(-1) + (np.zeros(channels, np.float32) if bias is None else bias.value())
                flat = Tensor((channels,), "float32", sums)
                producer.inputs = [*producer.inputs[:2], flat]
                view.absorb(producer, operator)
                break


def activation_into_producer(graph: Graph) -> None:
    """Given ADD, a convolution, … → RELU, RELU6 or RELU_N1_TO_1, result the operator with that activation."""
    view = _View(graph)
    for operator in list(graph.operators):
        if operator.code not in ACTIVATIONS:
            continue
        producer = view.sole_producer(operator.inputs[0])
        if producer is None or producer.code not in CARRY_ACTIVATION:
            continue
        if producer.options.get("fused_activation_function"):
            continue
        before, after = producer.outputs[0], operator.outputs[0]
        same = before.quantization is after.quantization is None or (
            before.quantization is not None and before.quantization.same(after.quantization)
        )
        if before.dtype == after.dtype and before.dtype in ("float32", "int8", "int16") and same:
            producer.options = {**producer.options, "fused_activation_function": ACTIVATIONS[operator.code]}
            view.absorb(producer, operator)


def keep_axes_of_fully_connected(graph: Graph) -> None:
    """Given RESHAPE to rows → FULLY_CONNECTED → RESHAPE to the axes before, result FULLY_CONNECTED on all axes."""
    view = _View(graph)
    for last in list(graph.operators):
        dense = view.sole_producer(last.inputs[0]) if last.code == "RESHAPE" else None
        rows = view.producers.get(id(dense.inputs[0])) if dense is not None else None
        source = rows.inputs[0] if rows is not None and rows.code == "RESHAPE" else None
        if dense is None or dense.code != "FULLY_CONNECTED" or source is None:
            continue
        if not 2 <= len(source.shape) <= FULLY_CONNECTED_AXES:
            continue
        given, result = dense.inputs[0], last.outputs[0].shape
        fits = given is not None and given.shape[-1] == source.shape[-1]
        if fits and result == (*source.shape[:-1], dense.outputs[0].shape[-1]):
            dense.inputs[0], dense.options = source, {**dense.options, "keep_num_dims": True}
            view.absorb(dense, last)


def flatten_into_fully_connected(graph: Graph) -> None:
    """Given RESHAPE → FULLY_CONNECTED, result FULLY_CONNECTED, which takes its input as rows of its weights' length."""
    view = _View(graph)
    for operator in list(graph.operators):
        if operator.code != "FULLY_CONNECTED" or operator.options.get("keep_num_dims"):
            continue
        before = view.sole_producer(operator.inputs[0])
        if before is not None and before.code == "RESHAPE":
            source = before.inputs[0]
            fits = source is not None and 0 < len(source.shape) <= FULLY_CONNECTED_AXES
            if source is not None and fits and source.shape[0] == operator.outputs[0].shape[0]:
                operator.inputs[0] = source
                graph.operators.remove(before)


def drop_dead(graph: Graph) -> None:
    """Operators that no output depends on."""
    needed = {id(tensor) for _, tensor in graph.outputs}
    kept = []
    for operator in reversed(graph.operators):
        if any(id(tensor) in needed for tensor in operator.outputs):
            kept.append(operator)
            needed.update(id(tensor) for tensor in operator.activations)
    graph.operators = kept[::-1]


def complete_bias(graph: Graph) -> None:
    """Convolutions without bias get zeros: LiteRT's CONV_2D refuses without, its DEPTHWISE_CONV_2D crashes."""
    for operator in graph.operators:
        data, weights = operator.inputs[:2] if len(operator.inputs) == 2 else (None, None)
        if operator.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or data is None or weights is None:
            continue
        channels = operator.outputs[0].shape[-1]
        bias = Tensor((channels,), "float32", np.zeros(channels, np.float32))
        if data.quantization is not None and weights.quantization is not None:
            scale = data.quantization.scale * weights.quantization.scale
            quantization = Quantization(scale, np.zeros(scale.size, np.int64))
            kind = "int64" if data.dtype == "int16" else "int32"
            bias = Tensor((channels,), kind, np.zeros(channels, kind), quantization)
        operator.inputs.append(bias)


ORDER: tuple[Callable[[Graph], None], ...] = (
    drop_dead,  # so that what nothing needs does not count as a reader
    merge_reshapes,
    keep_axes_of_fully_connected,  # before what may follow the RESHAPE that goes
    drop_dead,
    merge_pads,
    pad_into_convolution,
    bias_into_producer,  # before the activation that follows it
    activation_into_producer,
    flatten_into_fully_connected,
    transpose_into_product,
    drop_dead,  # PADs that no operator reads any more
    complete_bias,  # after what brings a bias
    copy_before_overwriting,  # last: it looks at who reads what in the end
)


def fuse(graph: Graph) -> None:
    """Run every fusion once, in every subgraph too."""
    for each in graph.graphs():
        for step in ORDER:
            step(each)


__all__ = ["ORDER", "fuse"]
