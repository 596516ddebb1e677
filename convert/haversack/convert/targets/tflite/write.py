"""Graph → a `.tflite` file: a FlatBuffer, as small as the format allows.

What makes the files small, beside the absence of intermediate names:

- every vector, table and buffer with the same content is written once (FlatBuffers may share sub-objects): shapes,
  the zero points of per-channel weights, option tables, constants;
- all activations share the one empty buffer;
- constants that are the same tensor in content (dtype, shape, bytes, quantization) become one tensor.

The bytes depend on the graph alone. Constants are 16-byte aligned, as the schema demands (`force_align: 16`).

A FlatBuffer ends at 2 GiB. Where the constants would take more than `INLINE_BYTES`, the larger ones follow it in the
same file, each where its buffer's `offset` and `size` say (`schema.fbs`, version 3c: bytes from the start of the file),
and are written one at a time: a constant may be a view of a mapped file in another order.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import flatbuffers
import numpy as np

from haversack.convert.hub.mapped import release
from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor
from haversack.convert.targets.tflite.kernels import version
from haversack.convert.targets.tflite.schema import (
    FILE_IDENTIFIER,
    OPERATORS,
    OPTIONS,
    SCHEMA_VERSION,
    TENSOR_TYPES,
)
from haversack.runtimes.engines import Array

SIGNATURE_KEY = "serving_default"
"""Key of the one signature, under which inputs and outputs are addressed by name."""

INLINE_BYTES = 2_000_000_000
"""Constants of up to this size together lie in the FlatBuffer; what it may have left for tables is 147 MB."""

OUTSIDE_BYTES = 1024
"""Where constants follow the FlatBuffer, smaller ones still lie in it: a table of two numbers takes as much."""

_PLACEHOLDER_FOR_GREATER_OP_CODES = 127
_ALIGNMENT = 16

Slot = tuple[int, str, Any, Any]  # number, kind (a builder's Prepend<kind>Slot), value, default


def write(graph: Graph, path: Path, inline_bytes: int = INLINE_BYTES) -> tuple[dict[int, int], bool]:
    """Write the file, with constants of more than `inline_bytes` together behind the FlatBuffer.

    Returns:
        `id(tensor)` to the tensor's index in the file, and whether constants follow the FlatBuffer.
    """
    with path.open("wb") as file:
        return _Writer(graph, inline_bytes).run(file)


def serialize(graph: Graph, inline_bytes: int = INLINE_BYTES) -> tuple[bytes, dict[int, int]]:
    """The bytes that `write` writes, and `id(tensor)` to the tensor's index in them."""
    file = io.BytesIO()
    index, _ = _Writer(graph, inline_bytes).run(file)
    return file.getvalue(), index


class _Writer:
    def __init__(self, graph: Graph, inline_bytes: int):
        self.graph = graph
        self.graphs = graph.graphs()
        self.graph_numbers = {id(each): number for number, each in enumerate(self.graphs)}
        self.operators = [operator for each in self.graphs for operator in each.operators]
        self.stored = {id(t): data for each in self.graphs for t in each.tensors() if (data := t.stored) is not None}
        constants = list(self.stored.items())
        total = sum(array.nbytes for _, array in constants)
        self.largest_inline = total if total <= inline_bytes else OUTSIDE_BYTES
        inline = sum(array.nbytes for _, array in constants if array.nbytes <= self.largest_inline)
        self.contents = _contents(constants)
        self.fb = flatbuffers.Builder(inline + 4096 + 256 * len(self.operators))
        self.cache: dict[Hashable, int] = {}
        self.buffers = [self._table([])]  # index 0: the empty buffer of every activation
        self.buffer_numbers: dict[Hashable, int] = {}
        self.outside: list[tuple[int, Array]] = []  # where a buffer's `offset` is, from the end of the FlatBuffer

    def run(self, file: IO[bytes]) -> tuple[dict[int, int], bool]:
        indices, all_kept = zip(*(self._number_tensors(graph) for graph in self.graphs), strict=True)
        index: dict[int, int] = indices[0]
        tables = [self._tensors(graph, kept) for graph, kept in zip(self.graphs, all_kept, strict=True)]
        codes, code_numbers = self._operator_codes()
        subgraphs = [
            self._subgraph(graph, tensors, numbers, code_numbers)
            for graph, tensors, numbers in zip(self.graphs, tables, indices, strict=True)
        ]
        model = self._table(
            [
                (0, "Uint32", SCHEMA_VERSION, 0),
                _offset(1, codes),
                _offset(2, self._offsets(subgraphs)),
                _offset(4, self._offsets(self.buffers)),
                _offset(7, self._offsets([self._signature(index)])),
            ]
        )
        self.fb.Finish(model, FILE_IDENTIFIER)
        self._emit(file)
        return index, bool(self.outside)

    def _emit(self, file: IO[bytes]) -> None:
        """The FlatBuffer, then the constants that follow it, each at a multiple of 16."""
        held = self.fb.Bytes
        size = len(held) - self.fb.Head()
        for place, array in self.outside:
            size += -size % _ALIGNMENT
            held[len(held) - place : len(held) - place + 8] = size.to_bytes(8, "little")
            size += array.nbytes
        file.write(memoryview(held)[self.fb.Head() :])
        for _, array in self.outside:
            file.write(bytes(-file.tell() % _ALIGNMENT))
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
            release(array)

    def _number_tensors(self, graph: Graph) -> tuple[dict[int, int], list[Tensor]]:
        index: dict[int, int] = {}
        kept: list[Tensor] = []
        same: dict[Hashable, int] = {}
        for tensor in graph.tensors():
            place, q = len(kept), tensor.quantization
            if tensor.data is not None:
                stands = None if q is None else (q.scale.tobytes(), q.zero_point.tobytes(), q.axis)
                place = same.setdefault((tensor.dtype, tensor.shape, self.contents[id(tensor)], stands), place)
            index[id(tensor)] = place
            if place == len(kept):
                kept.append(tensor)
        return index, kept

    def _tensors(self, graph: Graph, kept: Sequence[Tensor]) -> int:
        names = {id(t): name for name, t in (*graph.outputs, *graph.inputs) if name}
        return self._offsets([self._tensor(t, names.get(id(t))) for t in kept])

    def _subgraph(self, graph: Graph, tensors: int, index: dict[int, int], codes: dict[tuple[str, int], int]) -> int:
        operators = self._offsets([self._operator(operator, index, codes) for operator in graph.operators])
        inputs = self._ints([index[id(t)] for _, t in graph.inputs])
        outputs = self._ints([index[id(t)] for _, t in graph.outputs])
        return self._table([_offset(0, tensors), _offset(1, inputs), _offset(2, outputs), _offset(3, operators)])

    def _tensor(self, tensor: Tensor, name: str | None) -> int:
        data = self.stored.get(id(tensor)) if tensor.size else None
        buffer = 0 if data is None else self._buffer(data, self.contents[id(tensor)])
        slots: list[Slot] = [
            _offset(0, self._ints(tensor.shape)),
            (1, "Int8", TENSOR_TYPES[tensor.dtype], 0),
            (2, "Uint32", buffer, 0),
        ]
        if name is not None:
            slots.append(_offset(3, self._string(name)))
        if tensor.quantization is not None:
            slots.append(_offset(4, self._quantization(tensor.quantization)))
        if tensor.free:
            signature = [-1 if axis in tensor.free else size for axis, size in enumerate(tensor.shape)]
            slots.append(_offset(7, self._ints(signature)))
        slots.append((8, "Bool", not tensor.shape, False))  # has_rank tells a scalar from an unranked tensor
        return self._table(slots)

    def _quantization(self, q: Quantization) -> int:
        scale = self._vector(np.asarray(q.scale, np.float32))
        zero_point = self._vector(np.asarray(q.zero_point, np.int64))
        axis = q.axis if q.per_channel else 0
        return self._table([_offset(2, scale), _offset(3, zero_point), (6, "Int32", axis, 0)])

    def _operator_codes(self) -> tuple[int, dict[tuple[str, int], int]]:
        numbers: dict[tuple[str, int], int] = {}
        offsets = []
        for operator in self.operators:
            key = (operator.code, version(operator))
            if key in numbers:
                continue
            numbers[key] = len(numbers)
            code = OPERATORS[operator.code][0]
            offsets.append(
                self._table(
                    [
                        (0, "Int8", min(code, _PLACEHOLDER_FOR_GREATER_OP_CODES), 0),
                        (2, "Int32", key[1], 1),
                        (3, "Int32", code, 0),
                    ]
                )
            )
        return self._offsets(offsets), numbers

    def _operator(self, operator: Operator, index: dict[int, int], codes: dict[tuple[str, int], int]) -> int:
        slots: list[Slot] = [
            (0, "Uint32", codes[operator.code, version(operator)], 0),
            _offset(1, self._ints([-1 if t is None else index[id(t)] for t in operator.inputs])),
            _offset(2, self._ints([index[id(t)] for t in operator.outputs])),
        ]
        table = OPERATORS[operator.code][1]
        if table is None:
            if operator.options:
                raise ValueError(f"{operator.code} takes no options, given {sorted(operator.options)}")
        elif operator.options or table != "ReshapeOptions":
            options = dict(operator.options)
            for row, subgraph in zip(OPTIONS[table][1], operator.subgraphs, strict=False):
                options[row.name] = self.graph_numbers[id(subgraph)]
            slots += [(3, "Uint8", OPTIONS[table][0], 0), _offset(4, self._options(table, options))]
        return self._table(slots)

    def _options(self, table: str, options: dict[str, Any]) -> int:
        fields = {row.name: row for row in OPTIONS[table][1]}
        unknown = options.keys() - fields.keys()
        if unknown:
            raise ValueError(f"{table} has no field {sorted(unknown)}")
        slots: list[Slot] = []
        for name, value in options.items():
            slot, _, kind, default = fields[name]
            if kind == "vector":
                slots.append(_offset(slot, self._ints(value)))
            else:
                slots.append((slot, _SCALARS[kind], value, default))
        return self._table(slots)

    def _signature(self, index: dict[int, int]) -> int:
        def names(values: Sequence[tuple[str, Tensor]]) -> int:
            return self._offsets(
                [self._table([_offset(0, self._string(n)), (1, "Uint32", index[id(t)], 0)]) for n, t in values]
            )

        key = self._string(SIGNATURE_KEY)
        inputs, outputs = names(self.graph.inputs), names(self.graph.outputs)
        return self._table([_offset(0, inputs), _offset(1, outputs), _offset(2, key)])

    def _buffer(self, array: Array, content: Hashable) -> int:
        if content not in self.buffer_numbers:
            if array.nbytes <= self.largest_inline:
                self.fb.StartVector(1, array.nbytes, _ALIGNMENT)
                self.fb.head -= array.nbytes
                little = array.dtype.newbyteorder("<")
                room = np.frombuffer(self.fb.Bytes, little, array.size, self.fb.Head())
                room.reshape(array.shape)[...] = array
                release(array)
                table = self._table([_offset(0, self.fb.EndVector())])
            else:
                self.fb.StartObject(3)
                self.fb.PrependUint64Slot(2, array.nbytes, 0)
                self.fb.PrependUint64Slot(1, 1, 0)  # `emit` puts the offset there
                self.outside.append((self.fb.Offset(), array))
                table = self.fb.EndObject()
            self.buffer_numbers[content] = len(self.buffers)
            self.buffers.append(table)
        return self.buffer_numbers[content]

    # Sub-objects are cached by content; offsets are stable because the buffer only grows at its front.

    def _once(self, key: Hashable, make: Callable[[], int]) -> int:
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def _ints(self, values: Sequence[int]) -> int:
        return self._vector(np.asarray(values, np.int32))

    def _vector(self, values: np.ndarray[Any, Any]) -> int:
        return self._once((values.dtype.str, values.tobytes()), lambda: self.fb.CreateNumpyVector(values))

    def _string(self, text: str) -> int:
        return self._once(("string", text), lambda: self.fb.CreateString(text))

    def _offsets(self, offsets: Sequence[int]) -> int:
        def make() -> int:
            self.fb.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                self.fb.PrependUOffsetTRelative(offset)
            return int(self.fb.EndVector())

        return self._once(("offsets", *offsets), make)

    def _table(self, slots: Sequence[Slot]) -> int:
        def make() -> int:
            self.fb.StartObject(max((slot for slot, *_ in slots), default=-1) + 1)
            for slot, kind, value, default in sorted(slots, key=lambda s: (-_WIDTH[s[1]], s[0])):
                getattr(self.fb, f"Prepend{kind}Slot")(slot, value, default)
            return int(self.fb.EndObject())

        return self._once(("table", *slots), make)


def _contents(constants: Iterable[tuple[int, Array]]) -> dict[int, Hashable]:
    """Given `id(tensor)` and its data, by `id(tensor)` a key that constants of the same bytes share.

    Only constants that agree in size and in their first bytes are hashed, since weights hardly ever do.
    """
    alike: dict[tuple[int, bytes], list[tuple[int, Array]]] = {}
    for key, array in constants:
        start = array.flat[: 64 // array.itemsize].tobytes()
        alike.setdefault((array.nbytes, start), []).append((key, array))
    keys: dict[int, Hashable] = {}
    for look, group in alike.items():
        digests: dict[int, Hashable] = {id(array): look for _, array in group}
        if len(digests) > 1 and look[0] > 64:
            digests = {id(array): ("hashed", _digest(array)) for _, array in group}
        keys |= {key: digests[id(array)] for key, array in group}
    return keys


def _digest(array: Array) -> bytes:
    digest = hashlib.sha256(np.ascontiguousarray(array).data).digest()
    release(array)
    return digest


_SCALARS = {"i8": "Int8", "i32": "Int32", "bool": "Bool", "f32": "Float32"}
_WIDTH = {"Int8": 1, "Uint8": 1, "Bool": 1, "Int32": 4, "Uint32": 4, "Float32": 4, "UOffsetTRelative": 4}


def _offset(slot: int, offset: int) -> Slot:
    return (slot, "UOffsetTRelative", offset, 0)
