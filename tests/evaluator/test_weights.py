"""The weight file, against coremltools' own writer."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from haversack.runtimes.engines.coreml.weights import STORAGE, WeightFile, unpack
from haversack.runtimes.errors import EngineError

storage = pytest.importorskip("coremltools.libmilstoragepython")

WRITERS = {
    "float32": "float",
    "float16": "fp16",
    **{name: name for name in ("int4", "int8", "int16", "int32")},
    **{name: name for name in ("uint1", "uint2", "uint3", "uint4", "uint6", "uint8", "uint16", "uint32")},
}


def values(dtype: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    name, bits = STORAGE[dtype]
    if dtype.startswith("float"):
        return rng.standard_normal(count).astype(name)
    if dtype.startswith("int"):
        return rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), count).astype(name)
    return rng.integers(0, 1 << bits, count).astype(name)


@pytest.mark.parametrize("dtype", WRITERS)
@pytest.mark.parametrize("count", [1, 3, 8, 13, 1000])
def test_reads_what_coremltools_writes(tmp_path: Path, dtype: str, count: int) -> None:
    expected = [values(dtype, count), values(dtype, count + 1)]
    writer = storage._BlobStorageWriter(str(tmp_path / "weight.bin"))
    offsets = []
    for array in expected:
        raw = array.view(np.uint16) if dtype == "float16" else array
        offsets.append(getattr(writer, f"write_{WRITERS[dtype]}_data")(raw))
    del writer
    file = WeightFile(tmp_path / "weight.bin")
    for array, offset in zip(expected, offsets, strict=True):
        found = file.read(offset, dtype, array.shape)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_refuses_another_type_shape_or_place(tmp_path: Path) -> None:
    writer = storage._BlobStorageWriter(str(tmp_path / "weight.bin"))
    offset = writer.write_float_data(np.ones(6, np.float32))
    del writer
    file = WeightFile(tmp_path / "weight.bin")
    for wrong in (
        (offset, "int32", (6,)),
        (offset, "float32", (7,)),
        (offset + 4, "float32", (6,)),
        (1 << 40, "int8", (1,)),
    ):
        with pytest.raises(EngineError):
            file.read(*wrong)


def test_refuses_data_beyond_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weight.bin"
    writer = storage._BlobStorageWriter(str(path))
    offset = writer.write_float_data(np.ones(6, np.float32))
    del writer
    damaged = bytearray(path.read_bytes())
    struct.pack_into("<Q", damaged, offset + 16, 1 << 30)
    path.write_bytes(damaged)
    with pytest.raises(EngineError, match="past the end"):
        WeightFile(path).read(offset, "float32", (6,))


def test_unpacks_across_byte_borders() -> None:
    # 3-bit values 1..7, lowest bit first: 001 010 011 100 101 110 111 packed by hand.
    packed = np.array([0b11010001, 0b01011000, 0b00011111], np.uint8)
    np.testing.assert_array_equal(unpack(packed, 3, 7), [1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(unpack(np.array([0xF8], np.uint8), 4, 2, signed=True), [-8, -1])
