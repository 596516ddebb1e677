"""Data in a `.parquet`: a column named like each input of the model, or one column of images, and optionally `label`.

A column of numbers holds one sample a row, as a (nested) list or flat in the input's order. A column of images holds
the encoded files: bytes, or a struct with a field `bytes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert.data.arrays import check_sample
from haversack.convert.data.dataset import Dataset, Feeds, describe
from haversack.convert.data.images import decode, image_input
from haversack.convert.errors import DataError
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.preprocess import Preprocess

_ROWS = 256  # read at a time


class ParquetDataset(Dataset):
    """Rows of a parquet file, read in chunks."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None):
        self._path, self._inputs = path, inputs
        self._file = _open(path)
        self._count = self._file.metadata.num_rows
        if self._count == 0:
            raise DataError(f"{path.name}: it holds no rows")
        schema = self._file.schema_arrow
        self._label = "label" if "label" in schema.names else None
        self._image, self._preprocess = _image_column(path, schema, inputs), preprocess
        if self._image is not None:
            self._inputs = inputs[:1]
            _, self._preprocess = image_input(path.name, inputs, preprocess)
        else:
            missing = [describe(spec) for spec in inputs if spec.name not in schema.names]
            if missing:
                raise DataError(
                    f"{path.name}: expected a column named like each input of the model: {'; '.join(missing)}; "
                    f"found {', '.join(schema.names)}; rename the columns"
                )
        next(self.samples())  # a file that does not fit is an error now
        self.sha256 = path_sha256(path)
        self.description = f"{path.name}, {self._count} rows"

    def __len__(self) -> int:
        return int(self._count)

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """One row at a time.

        Raises:
            DataError: A row is damaged or does not fit the model's inputs.
        """
        columns = [self._image] if self._image else [spec.name for spec in self._inputs]
        columns += [self._label] if self._label else []
        position = 0
        for chunk in self._file.iter_batches(batch_size=_ROWS, columns=columns):
            for row in chunk.to_pylist():
                source = f"{self._path.name}: row {position}"
                position += 1
                label = row.get(self._label) if self._label else None
                yield check_sample(self._values(row, source), label, self._inputs, source)

    def _values(self, row: dict[str, Any], source: str) -> Feeds:
        if self._image is not None and self._preprocess is not None:
            cell = row[self._image]
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(content, bytes):
                raise DataError(f"{source}: {self._image}: expected the bytes of an image, found none")
            return {self._inputs[0].name: self._preprocess.apply(decode(content, source))}
        return {spec.name: _numbers(row[spec.name], spec, source) for spec in self._inputs}


def open_parquet(path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> ParquetDataset:
    """Read a parquet file.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged or does not fit the inputs.
    """
    return ParquetDataset(path, inputs, preprocess)


def _open(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(f"{path.name}: reading .parquet needs pyarrow: pip install pyarrow") from None
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path.name}: not a readable .parquet: {error}") from None


def _image_column(path: Path, schema: Any, inputs: Sequence[TensorSpec]) -> str | None:
    """The column of encoded images, where there is no column for the input's own values."""
    import pyarrow

    def holds_images(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    found = [field.name for field in schema if holds_images(field.type)]
    named = [name for name in found if name in {spec.name for spec in inputs}]
    if not found or (not named and all(spec.name in schema.names for spec in inputs)):
        return None
    if len(named or found) > 1:
        raise DataError(f"{path.name}: several columns of images ({', '.join(found)}); keep one")
    name: str = (named or found)[0]
    return name


def _numbers(cell: object, spec: TensorSpec, source: str) -> Array:
    """A cell as an array of the input's dtype: parquet has no shapes, and its floats are often double."""
    try:
        value = np.asarray(cell)
        if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and np.dtype(spec.dtype).kind != "f"):
            raise ValueError(f"{value.dtype.name} values")
        converted = value.astype(spec.dtype)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: {spec.name}: expected {describe(spec)}, found {error}") from None
    if value.dtype.kind in "iu" and not np.array_equal(converted, value):
        raise DataError(f"{source}: {spec.name}: its integers do not fit {spec.dtype}")
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if converted.ndim == 1 and len(sizes) == len(spec.shape) - 1 and converted.size == int(np.prod(sizes)):
        return converted.reshape(sizes)
    return converted
