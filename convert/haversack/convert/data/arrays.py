"""Data held in arrays: an `.npz`, or a mapping of NumPy arrays, named like the model's inputs."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from haversack.convert.data.dataset import (
    Dataset,
    Feeds,
    describe,
    fits,
    spell,
    update_with_arrays,
)
from haversack.convert.data.npz_member import MemberRows, NpzMember
from haversack.convert.errors import DataError
from haversack.runtimes.digest import path_sha256
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.errors import FeedError
from haversack.runtimes.preprocess import Preprocess

Rows = Array | NpzMember
"""An array whose axis 0 counts rows: in memory, or read from a file when asked for."""

LABEL = "label"
LARGE_BYTES = 1 << 28
"""Inputs of an `.npz` that are larger than this together are never in memory as a whole."""

_MISNAMED_LABELS = ("labels", "y", "target", "targets", "class", "classes")


class ArrayDataset(Dataset):
    """Arrays whose axis 0 counts the rows.

    Where the model's first dimension is symbolic or 1, a row is a sample. Where it is a fixed B, B rows are. An array
    with one axis more than the input holds whole inputs, one a sample.
    """

    def __init__(
        self,
        arrays: Mapping[str, Rows],
        inputs: Sequence[TensorSpec],
        preprocess: Preprocess | None,
        *,
        source: str,
        sha256: str,
        synthetic: bool = False,
    ):
        self.sha256 = sha256
        self.synthetic = synthetic
        _check_names(arrays, inputs, source)
        self._preprocess: dict[str, Preprocess] = {}
        self._arrays: dict[str, Rows] = {}
        self._step: dict[str, int] = {}  # rows a sample; 0: the array holds whole inputs
        counts: dict[str, int] = {}
        for spec in inputs:
            array = arrays[spec.name]
            if preprocess is not None and _is_images(array, spec):
                self._preprocess[spec.name] = _fitted(preprocess, spec, source)
            else:
                _check_array(array, spec, source)
            self._step[spec.name] = _step(array, spec, source)
            self._arrays[spec.name] = array
            counts[spec.name] = len(array) // max(self._step[spec.name], 1)
        if len(set(counts.values())) > 1:
            raise DataError(f"{source}: the inputs hold different numbers of samples: {_spell_counts(counts)}")
        self._count = next(iter(counts.values()), 0)
        if self._count == 0:
            raise DataError(f"{source}: it holds no samples")
        self._labels = _labels(_whole(arrays.get(LABEL)), self._count, max(self._step.values()), source)
        self.description = f"{source}, {self._count} samples" + (", prepared from images" if self._preprocess else "")

    def __len__(self) -> int:
        return self._count

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """One sample at a time."""
        return self.batches(1)

    def batches(self, size: int = 1) -> Iterator[tuple[Feeds, Array | None]]:
        """Batches of `size` samples, as slices of the arrays.

        Raises:
            DataError: `size` is not 1 and a sample is a whole input, or has the model's own fixed batch.
        """
        fixed = [name for name, step in self._step.items() if step != 1]
        if size != 1 and fixed:
            raise DataError(f"{fixed[0]} has a fixed first dimension: only batches of 1 fit the model")
        with contextlib.ExitStack() as opened:
            arrays: dict[str, Array | MemberRows] = {
                name: opened.enter_context(array.rows()) if isinstance(array, NpzMember) else array
                for name, array in self._arrays.items()
            }
            for start in range(0, self._count, size):
                stop = min(start + size, self._count)
                labels = None
                if self._labels is not None:
                    rows = len(self._labels) // self._count
                    labels = self._labels[start * rows : stop * rows]
                yield {name: self._rows(name, array, start, stop) for name, array in arrays.items()}, labels

    def _rows(self, name: str, array: Array | MemberRows, start: int, stop: int) -> Array:
        step = self._step[name]
        if step == 0:
            return np.array(array[start], order="C")
        rows = array[start * step : stop * step]
        if name in self._preprocess:
            prepare = self._preprocess[name]
            return np.stack([prepare.apply(row) for row in rows])
        return np.array(rows, order="C")


def open_npz(path: Path, inputs: Sequence[TensorSpec], preprocess: Preprocess | None) -> ArrayDataset:
    """Read an `.npz`: one array an input, by name, and optionally `label`.

    Raises:
        DataError: It is damaged, holds pickled objects, or its arrays do not fit the inputs.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path.name}: a single array; save it by name: np.savez(..., {inputs[0].name}=array)")
        with archive:
            wanted = {spec.name for spec in inputs} | {LABEL}
            streamed = _large(path, [spec.name for spec in inputs if spec.name in archive.files])
            arrays: dict[str, Rows] = {
                name: NpzMember(path, name) if name in streamed else archive[name] if name in wanted else np.empty(0)
                for name in archive.files
            }
            if foreign := [name for name in wanted & set(arrays) if isinstance(arrays[name], bytes)]:
                raise ValueError(f"{foreign[0]} is no array")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name}: not a readable .npz: {error}") from None
    return ArrayDataset(arrays, inputs, preprocess, source=path.name, sha256=path_sha256(path))


def _large(path: Path, names: Sequence[str]) -> frozenset[str]:
    """Those of an `.npz`'s arrays that are read row by row, since together they are too large."""
    with zipfile.ZipFile(path) as archive:
        sizes = {name: archive.getinfo(f"{name}.npy").file_size for name in names}
    return frozenset(names if sum(sizes.values()) > LARGE_BYTES else ())


def open_mapping(
    arrays: Mapping[str, Array], inputs: Sequence[TensorSpec], preprocess: Preprocess | None
) -> ArrayDataset:
    """Take arrays that are in memory already, named as in an `.npz`.

    Raises:
        DataError: They do not fit the inputs.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    digest = hashlib.sha256()
    update_with_arrays(digest, arrays)
    return ArrayDataset(arrays, inputs, preprocess, source="the arrays given", sha256=digest.hexdigest())


def check_sample(
    values: Mapping[str, object], label: object, inputs: Sequence[TensorSpec], source: str
) -> tuple[Feeds, Array | None]:
    """One sample as a `Dataset` gives it: the batch axis added where it is missing, everything checked.

    Raises:
        DataError: A name, dtype, shape, value or the label does not fit.
    """
    feeds: Feeds = {}
    arrays = {str(name): np.asarray(value) for name, value in values.items()}
    _check_names(arrays, inputs, source)
    for spec in inputs:
        array = arrays[spec.name]
        if spec.shape and array.ndim == len(spec.shape) - 1:
            array = array[None]
        if spec.shape and not fits(array.shape, spec.shape):
            raise DataError(
                f"{source}: {spec.name}: expected {spec.dtype} {spell(spec.shape)}, "
                f"found {array.dtype.name} {spell(array.shape)}; {_remedy(array, spec)}"
            )
        _check_array(array if spec.shape else array[None], spec, source)
        feeds[spec.name] = np.array(array, order="C")
    if label is None:
        return feeds, None
    rows = max((len(array) for array in feeds.values() if array.ndim), default=1)
    return feeds, _labels(np.asarray(label).reshape(-1), 1, rows, source)


def _check_names(arrays: Mapping[str, Rows], inputs: Sequence[TensorSpec], source: str) -> None:
    missing = [describe(spec) for spec in inputs if spec.name not in arrays]
    if missing:
        found = ", ".join(arrays) or "nothing"
        raise DataError(
            f"{source}: expected an array named like each input of the model: {'; '.join(missing)}; found {found}; "
            f"rename them: np.savez(..., {inputs[0].name}=...)"
        )
    misnamed = [name for name in _MISNAMED_LABELS if name in arrays and name not in {spec.name for spec in inputs}]
    if LABEL not in arrays and misnamed:
        raise DataError(f"{source}: labels are read from the array `{LABEL}`, found `{misnamed[0]}`; rename it")


def _whole(array: Rows | None) -> Array | None:
    return np.concatenate(list(array.chunks())) if isinstance(array, NpzMember) else array


def _is_images(array: Rows, spec: TensorSpec) -> bool:
    return array.dtype == np.uint8 and array.ndim in (3, 4) and (spec.dtype != "uint8" or not _plain_fit(array, spec))


def _plain_fit(array: Rows, spec: TensorSpec) -> bool:
    return array.ndim == len(spec.shape) and fits(array.shape[1:], spec.shape[1:])


def _fitted(preprocess: Preprocess, spec: TensorSpec, source: str) -> Preprocess:
    try:
        return preprocess.fit(spec.shape, spec.dtype)
    except FeedError as error:
        raise DataError(f"{source}: {spec.name}: {error}") from None


def _check_array(array: Rows, spec: TensorSpec, source: str) -> None:
    found = f"found {array.dtype.name} {spell(array.shape)}"
    whole = array.ndim == len(spec.shape) + 1 and fits(array.shape[1:], spec.shape)
    if not whole and not (spec.shape and _plain_fit(array, spec)):
        wanted = ("n", *spec.shape[1:]) if spec.shape else ("n",)
        raise DataError(
            f"{source}: {spec.name}: expected {spec.dtype} {spell(wanted)}, {found}; {_remedy(array, spec)}"
        )
    if array.dtype.name != spec.dtype:
        images = " or, if these are raw images, say --preprocess" if array.dtype == np.uint8 else ""
        raise DataError(
            f"{source}: {spec.name}: expected {spec.dtype}, {found}; convert it: {spec.name}.astype('{spec.dtype}')"
            + images
        )
    if array.dtype.kind not in "fc":
        return
    before = 0
    for chunk in array.chunks() if isinstance(array, NpzMember) else [array]:
        if not np.isfinite(chunk).all():
            row = before + (int(np.argwhere(~np.isfinite(chunk))[0][0]) if chunk.ndim else 0)
            raise DataError(f"{source}: {spec.name}: row {row} holds NaN or infinity; remove or repair it")
        before += len(chunk) if chunk.ndim else 0


def _remedy(array: Rows, spec: TensorSpec) -> str:
    shape = spec.shape
    if array.ndim == len(shape) == 4:
        moved = {(0, 3, 1, 2): "channels-first", (0, 2, 3, 1): "channels-last"}
        for axes, name in moved.items():
            if fits([array.shape[axis] for axis in axes[1:]], shape[1:]):
                return f"the model is {name}: {spec.name}.transpose{axes}"
    if array.ndim == len(shape) - 1 and fits(array.shape, shape[1:]):
        return f"it lacks the axis of samples: {spec.name}[None]"
    if array.ndim and all(isinstance(size, int) for size in shape[1:]):
        size = int(np.prod([int(size) for size in shape[1:]]))
        if size and array.size // max(len(array), 1) == size:
            return f"reshape it: {spec.name}.reshape({', '.join(['-1', *map(str, shape[1:])])})"
    return "prepare it as the model's training data was"


def _step(array: Rows, spec: TensorSpec, source: str) -> int:
    if array.ndim == len(spec.shape) + 1 and fits(array.shape[1:], spec.shape):
        return 0
    first = spec.shape[0]
    if isinstance(first, str):
        return 1
    if len(array) % first:
        raise DataError(f"{source}: {spec.name}: the model takes {first} rows at once, found {len(array)} rows")
    return first


def _labels(label: Array | None, count: int, step: int, source: str) -> Array | None:
    if label is None:
        return None
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim != 1 or len(label) not in (count, count * step):
        remedy = "; one-hot labels: label.argmax(axis=1)" if label.ndim == 2 else ""
        raise DataError(f"{source}: {LABEL}: expected [{count}], found {spell(label.shape)}{remedy}")
    if label.dtype.kind not in "iu":
        raise DataError(f"{source}: {LABEL}: expected integers, found {label.dtype.name}; label.astype('int64')")
    if len(label) and label.min() < 0:
        raise DataError(f"{source}: {LABEL}: labels count from 0, found {label.min()}")
    return label.astype(np.int64)


def _spell_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
