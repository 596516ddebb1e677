"""Lists of tensors. A list is a value: writing gives a new one."""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Context, Ints, op
from haversack.runtimes.errors import EngineError


@op("make_list", moves=True)
def make_list(
    context: Context,
    init_length: int = 1,
    dynamic_length: bool = True,  # noqa: ARG001 - a list may always grow here
    elem_shape: Any = None,
    dtype: str = "fp32",  # noqa: ARG001 - the output's declared type says it too
) -> Any:
    """Return a list of `init_length` zero tensors; of unknown shape they stay empty until written."""
    declared = context.outputs[0]
    shape = declared.shape
    del elem_shape
    if shape is None or None in shape:
        return [None] * init_length
    return [np.zeros(tuple(size or 0 for size in shape), declared.storage) for _ in range(init_length)]


@op("list_length", moves=True)
def list_length(ls: Any) -> Any:
    """Return how many elements the list has."""
    return np.array(len(ls), np.int32)


@op("list_write", moves=True)
def list_write(ls: Any, index: int, value: Array) -> Any:
    """Return the list with one element replaced; beyond its end it grows."""
    return _write(ls, ((index, value),))


@op("list_scatter", moves=True)
def list_scatter(ls: Any, indices: Ints, value: Array) -> Any:
    """Return the list with the elements at the indices replaced by the slices of `value`."""
    return _write(ls, zip(indices, value, strict=True))


def _write(ls: Any, items: Any) -> list[Any]:
    result = list(ls)
    for index, value in items:
        if index < 0:
            raise EngineError(f"the index {index} of a list is negative")
        while len(result) <= index:
            result.append(np.zeros_like(value))
        result[index] = value
    return result


@op("list_read", moves=True)
def list_read(ls: Any, index: int) -> Any:
    """Return one element."""
    return _read(ls, index)


@op("list_gather", moves=True)
def list_gather(ls: Any, indices: Ints) -> Any:
    """Return the elements at the indices, stacked along a new first axis."""
    return np.stack([_read(ls, index) for index in indices])


def _read(ls: Any, index: int) -> Any:
    if not -len(ls) <= index < len(ls) or ls[index] is None:
        raise EngineError(f"the list of {len(ls)} has nothing at index {index}")
    return ls[index]
