"""Reading `weight.bin`: the constants that a program keeps outside `model.mlmodel`.

The file is a 64-byte header (entry count, format version), then entries aligned to 64 bytes. A program names an entry
by the offset of its 64-byte metadata record: a sentinel, the element type, the size in bytes, the offset of the data
and, for elements smaller than a byte, how many bits at the end of the data are padding.

Elements smaller than a byte are packed with the least significant bit first and may cross byte borders (3 and 6 bits).

Source: the storage format of Core ML's open MIL blob storage library.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.errors import EngineError

SENTINEL = 0xDEADBEEF
VERSIONS = (1, 2)

# numpy dtype in which elements of a type are held, and the bits that one takes in the file
STORAGE: dict[str, tuple[str, int]] = {
    "bool": ("?", 8),
    "float16": ("float16", 16),
    "float32": ("float32", 32),
    "float64": ("float64", 64),
    "int4": ("int8", 4),
    "int8": ("int8", 8),
    "int16": ("int16", 16),
    "int32": ("int32", 32),
    "int64": ("int64", 64),
    "uint1": ("uint8", 1),
    "uint2": ("uint8", 2),
    "uint3": ("uint8", 3),
    "uint4": ("uint8", 4),
    "uint6": ("uint8", 6),
    "uint8": ("uint8", 8),
    "uint16": ("uint16", 16),
    "uint32": ("uint32", 32),
    "uint64": ("uint64", 64),
}

# the element type's number in a metadata record
BLOB_TYPES = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}


class WeightFile:
    """One weight file, mapped into memory and read entry by entry.

    Args:
        path: The `weight.bin`.

    Raises:
        EngineError: The file is missing, too short, or of an unknown version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot read the weights {path.name}: {error}") from error
        if len(self._bytes) < 64:
            raise EngineError(f"the weights {path.name} are shorter than their header")
        _, version = struct.unpack_from("<II", self._bytes.data, 0)
        if version not in VERSIONS:
            raise EngineError(f"the weights {path.name} have format version {version}; known are {VERSIONS}")

    def read(self, offset: int, dtype: str, shape: tuple[int, ...]) -> Array:
        """Read one constant.

        Args:
            offset: Where its metadata record starts, in bytes from the start of the file.
            dtype: Its declared element type, a key of `STORAGE`.
            shape: Its declared shape.

        Returns:
            The values in the storage dtype of `dtype` (sub-byte integers in int8 or uint8), read-only.

        Raises:
            EngineError: The record is not there, holds another type or size, or its data runs past the file.
        """
        size = len(self._bytes)
        if offset < 64 or offset + 64 > size:
            raise EngineError(f"{self.path.name}: offset {offset} lies outside the file of {size} bytes")
        sentinel, number, data_size, data_offset, padding_bits = struct.unpack_from("<IIQQQ", self._bytes.data, offset)
        if sentinel != SENTINEL:
            raise EngineError(f"{self.path.name}: no weight starts at offset {offset}")
        if BLOB_TYPES.get(number) != dtype:
            found = BLOB_TYPES.get(number, f"type number {number}")
            raise EngineError(f"{self.path.name}: the weight at offset {offset} is {found}, declared {dtype}")
        if data_offset + data_size > size:
            raise EngineError(f"{self.path.name}: the weight at offset {offset} runs past the end of the file")
        count = int(np.prod(shape, dtype=np.int64))
        bits = STORAGE[dtype][1]
        held = data_size * 8 - (padding_bits if bits < 8 else 0)
        if held != count * bits:
            raise EngineError(
                f"{self.path.name}: the weight at offset {offset} holds {held} bits, "
                f"declared {dtype}{list(shape)} needs {count * bits}"
            )
        return from_bytes(self._bytes[data_offset : data_offset + data_size], dtype, shape)


def from_bytes(data: Array | bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """Interpret little-endian, possibly bit-packed bytes as an array.

    Args:
        data: The bytes, as `bytes` or a uint8 array.
        dtype: The element type, a key of `STORAGE`.
        shape: The shape of the result.

    Raises:
        EngineError: There are not enough bytes.
    """
    name, bits = STORAGE[dtype]
    raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.asarray(data)
    count = int(np.prod(shape, dtype=np.int64))
    if len(raw) * 8 < count * bits:
        raise EngineError(f"a constant of {dtype}{list(shape)} has only {len(raw)} bytes")
    if bits >= 8:
        return raw[: count * bits // 8].view(np.dtype(name).newbyteorder("<")).reshape(shape)
    return unpack(raw, bits, count, signed=dtype.startswith("int")).reshape(shape)


def unpack(packed: Array, bits: int, count: int, *, signed: bool = False) -> Array:
    """Unpack `count` integers of `bits` bits, least significant bit first, from a uint8 array.

    Returns:
        int8 when `signed` (two's complement in `bits` bits), else uint8.
    """
    flat = np.unpackbits(np.ascontiguousarray(packed, np.uint8), bitorder="little")[: count * bits]
    values: Array = np.packbits(flat.reshape(count, bits), axis=1, bitorder="little").reshape(count)
    if not signed:
        return values
    sign = np.int16(1 << (bits - 1))
    return ((values.astype(np.int16) ^ sign) - sign).astype(np.int8)
