"""Weights as MIL stores them compressed: integers with scales, palettes, and only what is not zero (`constexpr_*`).

| what                                       | iOS 16, 17                    | iOS 18                              |
|--------------------------------------------|-------------------------------|-------------------------------------|
| int8, uint8, one scale a tensor or channel | `constexpr_affine_dequantize` | the same                            |
| int4, uint4; blocks of any of these        | refused                       | `constexpr_blockwise_shift_scale`   |
| one palette of 1, 2, 4, 6 or 8 bits        | `constexpr_lut_to_dense`      | the same (another form of it)       |
| a palette of 3 bits                        | the same, in 4 bits           | the same                            |
| a palette for each group of channels       | refused                       | the same                            |
| floats, many of them zero                  | `constexpr_sparse_to_dense`   | the same                            |
| integers, many of them zero                | as if none were               | `constexpr_sparse_blockwise_shift_` |
|                                            |                               | `scale`, then `.._sparse_to_dense`  |
| a palette, many of its indices those of 0  | as if none were               | `constexpr_lut_to_sparse`, then     |
|                                            |                               | `constexpr_sparse_to_dense`         |

Each is another writing of the same numbers. Which weights are stored so is the hub graph's to say: by a
DequantizeLinear, by a Gather from a constant palette, by zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.float16 import unfit
from haversack.runtimes.engines import Array

if TYPE_CHECKING:
    from haversack.convert.compress.recipes import Storage
    from haversack.convert.targets.coreml.builder import Builder, Var

SMALLEST = 128
"""Constants with fewer elements are stored as they are."""

BITS = (1, 2, 3, 4, 6, 8)
"""What an index into a palette can have; 3 from iOS 18 on."""

_FORM_BYTES = 300
"""What an operation more takes in a package."""

SPARSE = 0.8
"""A sparse form is taken where it needs at most this share of the bytes: a bit an element, and what is not zero."""


def lowest(model: ir.Model, storage: Storage | None = None) -> int:
    """The oldest deployment target that holds the weights as they are compressed.

    Args:
        model: The compressed hub graph.
        storage: Of its recipe: zeros among integers or in a palette are kept out of a package from iOS 18 on.
    """
    if storage is not None and storage.bits is not None and (storage.sparsity or storage.pattern):
        return 18
    for node in model.graph:
        first = node.inputs[0] if node.inputs else None
        if first is None or first.const_value is None:
            continue
        if node.op_type == "DequantizeLinear":
            block = node.attributes.get("block_size")
            if first.dtype in (ir.DataType.INT4, ir.DataType.UINT4) or (block is not None and block.as_int()):
                return 18
        elif node.op_type == "Gather" and _is_indices(node.inputs[1]):
            newer = first.const_value.size not in _OLD_PALETTES or _scaled(node) or _grouped(node)
            if newer:
                return 18
    return 16


_OLD_PALETTES = (2, 4, 16, 64, 256)
"""Entries of the palettes that iOS 16 has."""


def _grouped(node: ir.Node) -> bool:
    """Whether indices are moved to their group's entries."""
    producer = None if node.inputs[1] is None else node.inputs[1].producer()
    return producer is not None and producer.op_type == "Add"


def _scaled(node: ir.Node) -> bool:
    """Whether a palette of integers has scales behind it, one a channel."""
    readers = node.outputs[0].consumers()
    return any(each.op_type == "DequantizeLinear" and len(each.inputs[1].shape or ()) > 0 for each in readers)  # type: ignore[union-attr]


def _is_indices(value: ir.Value | None) -> bool:
    """Whether a Gather's indices are stored as small integers, and maybe moved to their group's entries."""
    producer = None if value is None else value.producer()
    if producer is not None and producer.op_type == "Add" and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    if producer is None or producer.op_type != "Cast" or producer.inputs[0] is None:
        return False
    return producer.inputs[0].const_value is not None


def is_sparse(zeros: Array, bits: int) -> bool:
    """Whether storing only what is not zero is smaller.

    Args:
        zeros: Which elements are zero.
        bits: Of a stored element.
    """
    if zeros.size < SMALLEST:
        return False
    return bool(zeros.size + bits * np.count_nonzero(~zeros) <= SPARSE * bits * zeros.size)


def floats(b: Builder, array: Array) -> Var | None:
    """A float constant of which only what is not zero is stored; None where that is not smaller."""
    zeros = array == 0
    if b.ios < 16 or array.ndim < 2 or not is_sparse(zeros, 16 if b.half else 32):
        return None
    return _dense(b, b.constant(array[~zeros]), ~zeros)


def integers(b: Builder, data: Array, scale: Array, zero_point: Array, axis: int, block: int) -> Var:
    """(data - zero_point) · scale.

    Args:
        b: The builder.
        data: int8, uint8, int4 or uint4.
        scale: A scalar; [channels]; or, where `block` is not 0, of the shape of `data` but for its blocks along `axis`.
        zero_point: Of the shape of `scale`, and of the type of `data`.
        axis: Of the channels or the blocks; not negative.
        block: How many neighbours along `axis` share a scale; 0 for one scale a channel.

    Raises:
        UnsupportedError: The deployment target lacks it.
    """
    kind = str(data.dtype)
    if not block and (var := _few(b, data, scale, zero_point, axis)) is not None:
        return var
    if b.ios < 18 and (block or kind.endswith("4")):
        what = "block-wise scales" if block else f"{kind} weights"
        b.refuse(f"{what} are there from iOS 18 on, the deployment target is iOS {b.ios}",
                 "use iOS18, or compress by int8-weights or palette4")  # fmt: skip
    if not block and scale.ndim:
        scale, zero_point = (_along(each, axis, data.ndim) for each in (scale, zero_point))
    elif not scale.ndim:
        scale, zero_point = (each.reshape((1,) * data.ndim) for each in (scale, zero_point))
    scale, zero_point = _collapsed(scale, zero_point)
    if block and data.shape[axis] % block:
        b.refuse(f"its last block along axis {axis} is shorter than {block}", "use blocks that divide the channels")
    zeros = data == 0
    wide = data.astype(np.int8 if kind.startswith("i") else np.uint8)
    if b.ios >= 18 and not zero_point.any() and is_sparse(zeros, 4 if kind.endswith("4") else 8):
        mask, values = b.raw(
            "constexpr_sparse_blockwise_shift_scale",
            data_mask=b.packed(~zeros, "uint1"),
            nonzero_data=b.packed(wide[~zeros], kind),
            scale=b.constant(scale),
        )
        return b.raw("constexpr_sparse_to_dense", nonzero_data=values, mask=mask)
    if block or kind.endswith("4"):
        offset = b.packed(zero_point.astype(wide.dtype), kind) if zero_point.any() else None
        inputs = {"data": b.packed(wide, kind), "scale": b.constant(scale), "offset": offset}
        return b.raw("constexpr_blockwise_shift_scale", **inputs)
    flat = scale.size == 1
    return b.raw(
        "constexpr_affine_dequantize",
        quantized_data=b.constant(data, exact=True),
        zero_point=b.constant(
            zero_point.reshape(-1)[0] if (zero_point == zero_point.flat[0]).all() else zero_point.reshape(-1),
            exact=True,
        ),
        scale=b.constant(scale.reshape(() if flat else -1)),
        axis=b.constant(0 if flat else axis),
    )


def _few(b: Builder, data: Array, scale: Array, zero_point: Array, axis: int) -> Var | None:
    """Integers of few distinct values as a palette, with the scales behind it; None where that is not smaller."""
    entries, indices = np.unique(data.astype(np.int16), return_inverse=True)
    bits = next((bits for bits in BITS if len(entries) <= 1 << bits), 8)
    whole = 4 if str(data.dtype).endswith("4") else 8
    if (whole - bits) * data.size < 8 * (len(entries) + _FORM_BYTES):
        return None
    indices = indices.reshape(data.shape)
    if not scale.ndim:
        real = (entries - zero_point.astype(np.int16)).astype(np.float32) * scale.astype(np.float32)
        return None if b.half and unfit(real) else palette(b, real, indices)
    if b.ios < 18 or zero_point.any():
        return None
    bits = next(bits for bits in BITS if len(entries) <= 1 << bits)
    table = np.pad(entries, (0, (1 << bits) - len(entries)), mode="edge").astype(np.int8)
    numbers = b.raw(
        "constexpr_lut_to_dense",
        indices=b.packed(indices.astype(np.uint8), f"uint{bits}"),
        lut=b.constant(table.reshape(*[1] * data.ndim, -1, 1), exact=True),
    )
    return b.raw("constexpr_blockwise_shift_scale", data=numbers, scale=b.constant(_along(scale, axis, data.ndim)))


def is_palette(entries: Array, indices: Array) -> bool:
    """Whether indices of few bits tell the entries apart, and there are enough of them."""
    return indices.size >= SMALLEST and _grouping(indices, entries.size) is not None


def palette(b: Builder, entries: Array, indices: Array) -> Var:
    """entries[indices], stored as indices of few bits.

    Args:
        b: The builder.
        entries: float [number of entries]: one palette, or those of all groups one after the other.
        indices: Integers; `is_palette` holds.

    Raises:
        UnsupportedError: The deployment target has no palettes for groups of channels.
    """
    found = _grouping(indices, entries.size)
    assert found is not None
    bits, axis, groups = found
    if groups == 1 and bits == 3 and b.ios < 18:
        b.note("Palettes of 3 bits are there from iOS 18 on: their indices take 4 bits.")
        bits = 4
    tables = entries.astype(np.float32).reshape(groups, -1)
    tables = np.pad(tables, ((0, 0), (0, (1 << bits) - tables.shape[1])), mode="edge")
    within = (indices % (entries.size // groups)).astype(np.uint8)
    if groups > 1 and b.ios < 18:
        b.refuse(f"a palette for each group of channels is there from iOS 18 on, the deployment target is iOS {b.ios}",
                 "use iOS18, or one palette a layer")  # fmt: skip
    zeros = entries[indices] == 0
    if b.ios < 18:
        return b.raw(
            "constexpr_lut_to_dense",
            indices=b.constant(_bytes(within, bits), exact=True),
            lut=b.constant(tables[0]),
            shape=b.constant(np.array(indices.shape, np.uint32), exact=True),
        )
    shape = [groups if position == axis else 1 for position in range(indices.ndim)]
    lut = b.constant(tables.reshape(*shape, 1 << bits, 1))
    if not is_sparse(zeros, bits):
        return b.raw("constexpr_lut_to_dense", indices=b.packed(within, f"uint{bits}"), lut=lut)
    mask, values = b.raw(
        "constexpr_lut_to_sparse",
        indices_mask=b.packed(~zeros, "uint1"),
        indices_nonzero_data=b.packed(within[~zeros], f"uint{bits}"),
        lut=lut,
    )
    return b.raw("constexpr_sparse_to_dense", nonzero_data=values, mask=mask)


def _dense(b: Builder, values: Var, mask: Array) -> Var:
    if b.ios >= 18:
        return b.raw("constexpr_sparse_to_dense", nonzero_data=values, mask=b.packed(mask, "uint1"))
    packed = b.constant(_bytes(mask, 1), exact=True)
    shape = b.constant(np.array(mask.shape, np.uint32), exact=True)
    return b.raw("constexpr_sparse_to_dense", nonzero_data=values, mask=packed, shape=shape)


def _grouping(indices: Array, count: int) -> tuple[int, int, int] | None:
    """How few bits tell the entries apart: (bits, axis of the groups, their number); None for too many entries.

    Entries may be divided into equal runs, one a group of neighbours along an axis, each reading its own run only.
    """
    for bits in BITS:
        size = 1 << bits
        if count <= size:
            return bits, 0, 1
        groups, rest = divmod(count, size)
        for axis, length in enumerate(indices.shape):
            if rest or length % groups:
                continue
            own = _along(np.arange(length) // (length // groups), axis, indices.ndim)
            if np.array_equal(indices // size, np.broadcast_to(own, indices.shape)):
                return bits, axis, groups
    return None


def _bytes(numbers: Array, bits: int) -> Array:
    """Numbers packed into bytes in order, each with its lowest bit first: the form of iOS 16."""
    rows = np.unpackbits(numbers.reshape(-1, 1).astype(np.uint8), axis=1, bitorder="little")[:, :bits]
    return np.packbits(rows.reshape(-1), bitorder="little")


def _along(vector: Array, axis: int, rank: int) -> Array:
    return vector.reshape([-1 if position == axis else 1 for position in range(rank)])


def _collapsed(scale: Array, zero_point: Array) -> tuple[Array, Array]:
    """Both with one element along each axis over which neither changes: kernel taps share a scale."""
    for axis in range(scale.ndim):
        first: Any = tuple(slice(0, 1) if position == axis else slice(None) for position in range(scale.ndim))
        if (scale == scale[first]).all() and (zero_point == zero_point[first]).all():
            scale, zero_point = scale[first], zero_point[first]
    return scale, zero_point
