"""A model's graph as a protobuf without its weights, for the parts of onnx that are written in C++.

onnx's shape inference and version converter take a serialized model. Serializing the weights too would copy them
twice and fails above 2 GiB, while these tools read only small initializers (shapes, axes, scales). So every larger one
is written as a reference to external data that nobody ever opens, and put back by name afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

KEPT_BYTES = 1024
"""Initializers up to this size stay in the skeleton: they may be shapes, axes, pads or scales."""

_LOCATION = "left-out"

Weights = dict[str, ir.TensorProtocol]


def skeleton(model: ir.Model, kept_bytes: int = KEPT_BYTES) -> tuple[onnx.ModelProto, Weights]:
    """Serialize `model` without its large initializers.

    Args:
        model: Its values must be named uniquely; it is not changed.
        kept_bytes: Initializers up to this size stay.

    Returns:
        The protobuf, and the tensors that were left out, by name.
    """
    with _without_weights(model, kept_bytes) as weights:
        return ir.to_proto(model), weights


def restore(model: ir.Model, weights: Weights) -> ir.Model:
    """Put the weights that `skeleton` left out back into a model that was made from its protobuf, in place."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.location == _LOCATION:
                assert value.name is not None
                value.const_value = weights[value.name]
    return model


@contextmanager
def _without_weights(model: ir.Model, kept_bytes: int) -> Iterator[Weights]:
    weights: Weights = {}
    holders: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        for graph in model.graphs():
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is None or tensor.nbytes <= kept_bytes or tensor.dtype is ir.DataType.STRING:
                    continue
                assert value.name is not None
                weights[value.name] = tensor
                holders.append((value, tensor))
                value.const_value = ir.ExternalTensor(
                    _LOCATION, 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=value.name
                )
        yield weights
    finally:
        for value, tensor in holders:
            value.const_value = tensor
