"""An ONNX file without its weights, taken from the wire format.

A parser would hold every weight twice, once as the file's bytes and once as its own. Here the large initializers of the
main graph become references into the file itself, in the way that ONNX refers to external data (onnx.proto,
`TensorProto.external_data`), so that they can be mapped. Field numbers are those of onnx.proto; the encoding is
Protocol Buffers' own (a field is a varint `number << 3 | wire type`, then its value).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Protocol

KEPT_BYTES = 1 << 16
"""Weights up to this size stay where they are."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
_DIMS, _DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 9, 13, 14  # TensorProto's
_EXTERNAL = 1  # TensorProto.DataLocation

_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of an element by TensorProto.DataType, of the types whose `raw_data` is one element after the other."""

Field = tuple[int, int, int, int, int]  # number, wire type, start of the field, start and end of its value
Rewrite = Callable[[int, int], bytes | None]


class Bytes(Protocol):
    """A file's bytes, read or mapped."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...


def without_weights(data: Bytes, location: str, kept_bytes: int = KEPT_BYTES) -> bytes:
    """A serialized ModelProto that refers to the large initializers where they lie.

    Args:
        data: A serialized ModelProto.
        location: The name of the file that holds it.
        kept_bytes: Initializers up to this size stay.

    Returns:
        A ModelProto with the same meaning to whoever reads external data.

    Raises:
        ValueError: It is no sequence of well-formed fields; whether it is a model at all is the parser's business.
    """
    name = location.encode()
    return _rewritten(data, 0, len(data), _GRAPH, lambda a, b: _graph(data, a, b, name, kept_bytes))


def _graph(data: Bytes, start: int, stop: int, location: bytes, kept_bytes: int) -> bytes:
    def tensor(first: int, last: int) -> bytes | None:
        return _tensor(data, first, last, location) if last - first > kept_bytes else None

    return _rewritten(data, start, stop, _INITIALIZER, tensor)


def _rewritten(data: Bytes, start: int, stop: int, number: int, rewrite: Rewrite) -> bytes:
    """A message with the sub-messages of one field rewritten; None keeps one as it is."""
    parts: list[bytes] = []
    copied = start
    for found, wire, field, first, last in _fields(data, start, stop):
        made = rewrite(first, last) if found == number and wire == _LENGTH else None
        if made is not None:
            parts += [data[copied:field], _varint(number << 3 | _LENGTH), _varint(len(made)), made]
            copied = last
    return b"".join([*parts, data[copied:stop]])


def _tensor(data: Bytes, start: int, stop: int, location: bytes) -> bytes | None:
    """A TensorProto that refers to its `raw_data`; None where that is not its only value, or not whole."""
    dims: list[int] = []
    type_, raw = 0, None
    for number, wire, field, first, last in _fields(data, start, stop):
        if number == _DIMS:
            dims += _varints(data, first, last)
        elif number == _DATA_TYPE and wire == _VARINT:
            type_ = _read_varint(data, first, last)[0]
        elif number == _RAW_DATA and wire == _LENGTH and raw is None:
            raw = (field, first, last)
        elif number in (3, 4, 5, 6, 7, 10, 11, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION):
            return None  # a segment, values of another field, a second `raw_data`, external data
    if raw is None or type_ not in _ITEM_BYTES or prod(dims) * _ITEM_BYTES[type_] != raw[2] - raw[1]:
        return None
    entries = ((b"location", location), (b"offset", b"%d" % raw[1]), (b"length", b"%d" % (raw[2] - raw[1])))
    reference = b"".join(_message(_EXTERNAL_DATA, _message(1, key) + _message(2, value)) for key, value in entries)
    located = _varint(_DATA_LOCATION << 3 | _VARINT) + _varint(_EXTERNAL)
    return b"".join([data[start : raw[0]], data[raw[2] : stop], reference, located])


def _fields(data: Bytes, start: int, stop: int) -> Iterator[Field]:
    place = start
    while place < stop:
        tag, first = _read_varint(data, place, stop)
        wire = tag & 7
        if wire == _LENGTH:
            length, first = _read_varint(data, first, stop)
            last = first + length
        elif wire == _VARINT:
            last = _read_varint(data, first, stop)[1]
        elif wire in (_FIXED32, _FIXED64):
            last = first + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
        if last > stop or not tag >> 3:
            raise ValueError(f"the field at byte {place} is malformed")
        yield tag >> 3, wire, place, first, last
        place = last


def _varints(data: Bytes, start: int, stop: int) -> list[int]:
    """The varints of a value: one, or a packed list."""
    values = []
    while start < stop:
        value, start = _read_varint(data, start, stop)
        values.append(value)
    return values


def _read_varint(data: Bytes, place: int, stop: int) -> tuple[int, int]:
    """A varint and where it ends."""
    value = 0
    for count, byte in enumerate(data[place : min(stop, place + 10)]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    raise ValueError(f"a varint at byte {place} has no end")


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _message(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value
