"""Shapes, orders of axes, copies and conversions."""

# ruff: noqa: ARG001 - the signature is the operator's schema, needed or not
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.registry import Lowering
from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import LOWERINGS, lowers
from haversack.convert.targets.tflite.schema import TENSOR_TYPES
from haversack.runtimes.engines import Array


def _reshaped(b: Builder, x: Tensor, _: Tensor | None = None) -> Tensor:
    return steps.reshape(b, x, b.result.shape)


@lowers("Reshape")
def reshape(b: Builder, x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """RESHAPE to the shape that the hub inferred."""
    return _reshaped(b, x)


@lowers("Flatten")
def flatten(b: Builder, x: Tensor, *, axis: int = 1) -> Tensor:
    """RESHAPE to two axes."""
    return _reshaped(b, x)


LOWERINGS.table(lambda lowering: lowering, {"Squeeze": _reshaped, "Unsqueeze": _reshaped})


@lowers("Identity")
def identity(b: Builder, x: Tensor) -> Tensor:
    """The tensor itself."""
    return x


@lowers("Transpose")
def transpose(b: Builder, x: Tensor, *, perm: Sequence[int] = ()) -> Tensor:
    """TRANSPOSE; without `perm` the axes are reversed."""
    return steps.transpose(b, x, perm or range(len(x.shape))[::-1])


@lowers("Expand")
def expand(b: Builder, x: Tensor, shape: Tensor) -> Tensor:
    """BROADCAST_TO."""
    return steps.broadcast_to(b, x, b.result.shape)


@lowers("Tile")
def tile(b: Builder, x: Tensor, repeats: Tensor) -> Tensor:
    """TILE."""
    if repeats.constant:
        counts = [int(n) for n in repeats.value().reshape(-1)]
    elif x.size:
        counts = [out // n for out, n in zip(b.result.shape, x.shape, strict=True)]
    else:
        raise b.refuse("repeats is computed at run time", "make repeats an initializer")
    return b.op("TILE", [x, b.ints(counts)], b.result.shape)


@lowers("Concat")
def concat(b: Builder, *inputs: Tensor, axis: int) -> Tensor:
    """CONCATENATION; empty inputs add nothing."""
    filled = [x for x in inputs if x.size] or [inputs[0]]
    return steps.concat(b, filled, steps.axis_of(axis, len(inputs[0].shape)))


@lowers("Split")
def split(
    b: Builder, x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor | None, ...]:
    """SPLIT into equal parts, SPLIT_V into others; slices where some parts are not wanted."""
    axis = steps.axis_of(axis, len(x.shape))
    if sizes is not None and sizes.constant:
        parts = [int(n) for n in sizes.value().reshape(-1)]
    elif num_outputs is not None:
        part = -(-x.shape[axis] // num_outputs)
        parts = [max(0, min(part, x.shape[axis] - n * part)) for n in range(num_outputs)]
    else:
        parts = [result.shape[axis] for result in b.results]
    if len(parts) == len(b.results) and all(result.wanted for result in b.results):
        return tuple(steps.split(b, x, axis, parts))
    made: list[Tensor | None] = []
    for n, result in enumerate(b.results):
        begin = [sum(parts[:n]) if a == axis else 0 for a in range(len(x.shape))]
        made.append(steps.slice_axes(b, x, begin, result.shape) if result.wanted else None)
    return tuple(made)


@lowers("Cast")
def cast(b: Builder, x: Tensor, *, to: int, saturate: int = 1) -> Tensor:
    """CAST."""
    dtype = ir.DataType(to).numpy().name
    if dtype not in TENSOR_TYPES or x.nominal not in TENSOR_TYPES:
        raise b.refuse(f"no tensors of {ir.DataType(to).name}", "cast to a common numeric type")
    return b.cast(x, dtype)


def _shape_of(b: Builder, x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return b.const(np.array(x.shape[start:end], np.int64))


def _size_of(b: Builder, x: Tensor) -> Tensor:
    return b.const(np.array(x.size, np.int64))


LOWERINGS.table(lambda lowering: lowering, {"Shape": _shape_of, "Size": _size_of})


@lowers("ConstantOfShape")
def constant_of_shape(b: Builder, shape: Tensor, *, value: Array | None = None) -> Tensor:
    """A constant."""
    number = np.zeros(1, np.float32) if value is None else value
    return b.const(np.full(b.result.shape, number.reshape(-1)[0], number.dtype))


def _block(code: str) -> Lowering:
    def lowering(b: Builder, x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
        if mode == "CRD":
            depth = x.shape[-1] // blocksize**2
            order = np.arange(x.shape[-1]).reshape(depth, blocksize**2).T.reshape(-1)
            x = steps.gather(b, x, b.ints(order.tolist()), 3)
        return b.op(code, [x], b.result.shape, block_size=blocksize)

    return lowering


LOWERINGS.table(_block, {"DepthToSpace": "DEPTH_TO_SPACE", "SpaceToDepth": "SPACE_TO_DEPTH"})


@lowers("Trilu")
def trilu(b: Builder, x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """The triangle kept by a mask."""
    rows, columns = x.shape[-2:]
    diagonals = (np.arange(columns)[None, :] - np.arange(rows)[:, None]).astype(np.int32)
    if k is None or k.constant:
        shift = 0 if k is None else int(k.value().reshape(-1)[0])
        mask = b.const(diagonals >= shift if upper else diagonals <= shift)
    else:
        code, first = ("GREATER_EQUAL" if upper else "LESS_EQUAL"), b.const(diagonals)
        mask = steps.binary(b, code, first, steps.reshape(b, steps.index(b, k), ()), "bool")
    return steps.elementwise(b, "SELECT_V2", [mask, x, b.const(0, x.nominal)])
