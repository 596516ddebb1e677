"""Weights as they lie in a file: mapped into memory, read when they are needed, and given back."""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx_ir as ir

from haversack.runtimes.engines import Array

LARGE_BYTES = 1 << 30
"""From this size on a model's weights are not held in a second form only to run faster."""


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
    _give_back(_mapping(array))


def release_weights(model: ir.Model) -> None:
    """Do so for every weight of a hub graph."""
    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    mappings = [_mapping(tensor.numpy()) for tensor in tensors if isinstance(tensor, ir.Tensor)]
    for mapping in {id(each): each for each in mappings}.values():
        _give_back(mapping)


def weight_bytes(model: ir.Model) -> int:
    """How much the weights of a hub graph take together."""
    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _mapping(array: Array) -> mmap.mmap | None:
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return base


def _give_back(mapping: mmap.mmap | None) -> None:
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
