"""Data from a function of the user's: `package.module:function` yields (inputs, label)."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from haversack.convert.data.arrays import check_sample
from haversack.convert.data.dataset import Dataset, Feeds, update_with_arrays
from haversack.convert.errors import OUT_OF_MEMORY, DataError
from haversack.runtimes.engines import Array, TensorSpec


class FunctionDataset(Dataset):
    """What a function yields, called anew by every pass and never held in memory.

    The first pass, on opening, checks every sample, counts them and hashes them; a later pass that yields another
    number of them is an error.
    """

    def __init__(self, spec: str, function: Callable[[], Any], inputs: Sequence[TensorSpec]):
        self._spec, self._function, self._inputs = spec, function, inputs
        self._count: int | None = None
        digest, count = hashlib.sha256(), 0
        for feeds, label in self.samples():
            update_with_arrays(digest, feeds if label is None else {**feeds, "label": label})
            count += 1
        if count == 0:
            raise DataError(f"{spec}: it yields nothing")
        self._count = count
        self.sha256 = digest.hexdigest()
        self.description = f"{spec}, {count} samples"

    def __len__(self) -> int:
        return self._count or 0

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """Call the function, and check each sample as it comes.

        Raises:
            DataError: The function fails, or what it yields does not fit the model's inputs.
        """
        count = 0
        for position, item in enumerate(self._items()):
            source = f"{self._spec}: sample {position}"
            if not (isinstance(item, tuple) and len(item) == 2):
                raise DataError(f"{source}: expected (inputs, label), found {type(item).__name__}; label may be None")
            values, label = item
            if not isinstance(values, Mapping):
                if len(self._inputs) != 1:
                    names = ", ".join(spec.name for spec in self._inputs)
                    raise DataError(f"{source}: expected a dict of the inputs {names}, found {type(values).__name__}")
                values = {self._inputs[0].name: values}
            count += 1
            yield check_sample(values, label, self._inputs, source)
        if self._count is not None and count != self._count:
            raise DataError(f"{self._spec}: it yielded {self._count} samples at first and {count} now")

    def _items(self) -> Iterator[Any]:
        try:
            yield from self._function()
        except (DataError, MemoryError):
            raise
        except Exception as error:  # the user's code may raise anything
            if any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise MemoryError(str(error)) from error
            raise DataError(f"{self._spec}: it failed: {type(error).__name__}: {error}") from error


def open_function(spec: str, inputs: Sequence[TensorSpec]) -> FunctionDataset:
    """Import `package.module:function`, from the current folder too, and run it once.

    Raises:
        DataError: It cannot be imported or called, or what it yields does not fit the inputs.
    """
    module_name, _, name = spec.partition(":")
    try:
        with current_folder_importable():
            module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise DataError(f"{spec}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"{spec}: {module_name} has no function {name}")
    return FunctionDataset(spec, function, inputs)


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Within, modules of the current folder can be imported."""
    folder = os.getcwd()  # noqa: PTH109  (sys.path holds strings)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
