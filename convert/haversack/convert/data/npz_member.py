"""An array inside an `.npz` that is too large for memory: read forward, a few rows at a time."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

CHUNK_BYTES = 1 << 24
"""So much is read at once where all of it is looked at."""


class NpzMember:
    """One array of an `.npz`, whose shape and dtype are known and whose rows are read when asked for.

    Args:
        path: The file.
        name: The array's.

    Raises:
        ValueError: It is no array that can be read row by row: pickled objects, Fortran order, or damaged.
    """

    def __init__(self, path: Path, name: str):
        self._path, self._member = path, f"{name}.npy"
        with zipfile.ZipFile(path) as archive, archive.open(self._member) as stream:
            self.shape, fortran, self.dtype = _header(stream)
            length = archive.getinfo(self._member).file_size - stream.tell()
        if self.dtype.hasobject:
            raise ValueError("it holds pickled objects")
        if not self.shape or (fortran and self.ndim > 1):
            raise ValueError("its rows do not lie one after the other")
        if self.size * self.dtype.itemsize != length:
            raise ValueError(f"{self._member} is not as long as its header says")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self) -> MemberRows:
        """A reader of its own, for one pass."""
        return MemberRows(self)

    def chunks(self) -> Iterator[Array]:
        """All of it, in pieces of some rows."""
        step = max(1, CHUNK_BYTES // max(1, self.row_bytes))
        with self.rows() as reader:
            for start in range(0, len(self), step):
                yield reader[start : start + step]

    def _open(self) -> tuple[zipfile.ZipFile, IO[bytes]]:
        archive = zipfile.ZipFile(self._path)
        stream = archive.open(self._member)
        _header(stream)
        return archive, stream

    def _failed(self, error: object) -> DataError:
        return DataError(f"{self._path.name}: not a readable .npz: {error}")


class MemberRows:
    """Rows of a member, read forward; going back begins anew. A context manager.

    Args:
        member: The array.
    """

    def __init__(self, member: NpzMember):
        self._member = member
        self._archive, self._stream = member._open()
        self._position = 0

    def __getitem__(self, index: int | slice) -> Array:
        """A row, or some in a row.

        Raises:
            DataError: The file is damaged or was changed.
        """
        member = self._member
        start, stop, _ = index.indices(len(member)) if isinstance(index, slice) else (index, index + 1, 1)
        try:
            if start < self._position:
                self.close()
                self._archive, self._stream = member._open()
                self._position = 0
            while self._position < start:
                rows = min(start - self._position, max(1, CHUNK_BYTES // max(1, member.row_bytes)))
                self._read(rows)
            found = np.frombuffer(self._read(max(0, stop - start)), member.dtype)
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise member._failed(error) from None
        shaped = found.reshape(-1, *member.shape[1:])
        return shaped if isinstance(index, slice) else np.asarray(shaped[0])

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._archive.close()

    def __enter__(self) -> MemberRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, rows: int) -> bytes:
        wanted = rows * self._member.row_bytes
        content = self._stream.read(wanted)
        if len(content) != wanted:
            raise EOFError("it ends too early")
        self._position += rows
        return content


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"unknown version {version} of .npy")
    return tuple(shape), fortran, dtype
