"""Move small constants out of `weight.bin` into the program, and write each of the others once.

A constant in the file takes a record of 64 bytes, up to 63 of padding and some 40 bytes in the program that say where
it lies; an immediate value takes its own bytes. coremltools writes constants of fewer than ten elements so, and int32
of any size below iOS 18; the format (MIL's `Value`) knows no limit. What is moved are scales, biases, palettes, and
weights of about as few bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMMEDIATE_BYTES = 1024
"""Constants of up to this size are moved."""

_FLOAT32, _BYTES = "FLOAT32", ("FLOAT16", "INT8", "UINT8")
_HEADER, _RECORD = struct.Struct("<II"), struct.Struct("<IIQQQ")
_ALIGNMENT, _VERSION = 64, 2


def compact(proto: Any, file: Path) -> None:
    """Rewrite a program's constants in place.

    Args:
        proto: The `Model` message.
        file: Its `weight.bin`; removed where nothing is left in it.
    """
    if not file.exists():
        return
    held = file.read_bytes()
    kept: dict[bytes, int] = {}
    body = bytearray()
    for value in _constants(proto):
        _, number, size, place, padding = _RECORD.unpack_from(held, value.blobFileValue.offset)
        data = held[place : place + size]
        if _immediate(value, data):
            continue
        key = struct.pack("<IQ", number, padding) + data
        if key not in kept:
            body += bytes(-len(body) % _ALIGNMENT)
            kept[key] = _ALIGNMENT + len(body)
            body += _RECORD.pack(0xDEADBEEF, number, size, kept[key] + _ALIGNMENT, padding)
            body += bytes(_ALIGNMENT - _RECORD.size) + data
        value.blobFileValue.offset = kept[key]
    if not kept:
        file.unlink()
        return
    header = _HEADER.pack(len(kept), _VERSION)
    file.write_bytes(header + bytes(_ALIGNMENT - len(header)) + bytes(body))


def _constants(proto: Any) -> Iterator[Any]:
    """Every value that lies in the file, in the order of the program."""
    for function in proto.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from _in_block(block)


def _in_block(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        for key in sorted(operation.attributes):
            if operation.attributes[key].HasField("blobFileValue"):
                yield operation.attributes[key]
        for key in sorted(operation.inputs):
            for argument in operation.inputs[key].arguments:
                if argument.HasField("value") and argument.value.HasField("blobFileValue"):
                    yield argument.value
        for inner in operation.blocks:
            yield from _in_block(inner)


def _immediate(value: Any, data: bytes) -> bool:
    """Put the data into the value itself; False where it is large, or of a type that is not moved."""
    kinds = value.type.tensorType.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
    kind = kinds[value.type.tensorType.dataType].name
    if len(data) > IMMEDIATE_BYTES or kind not in (_FLOAT32, *_BYTES):
        return False
    value.ClearField("blobFileValue")
    tensor = value.immediateValue.tensor
    if kind == _FLOAT32:
        tensor.floats.values.extend(struct.unpack(f"<{len(data) // 4}f", data))
    else:
        tensor.bytes.values = data
    return True
