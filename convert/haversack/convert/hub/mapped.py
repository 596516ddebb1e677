"""Weights as they lie in a file: mapped into memory, read when they are needed, and given back."""

from __future__ import annotations

import mmap
from pathlib import Path

from haversack.runtimes.engines import Array


class Mapped:
    """Files mapped for reading, each once: a mapping costs a file descriptor and address space of the file's size."""

    def __init__(self) -> None:
        self._files: dict[Path, mmap.mmap] = {}

    def file(self, path: Path) -> mmap.mmap:
        """The bytes of a file that is not empty.

        Raises:
            OSError: It cannot be read.
        """
        if path not in self._files:
            with path.open("rb") as file:
                self._files[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._files[path]


def release(array: Array) -> None:
    """Give the memory of a mapped file back, if `array` is a view of one; the next access reads it again."""
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
