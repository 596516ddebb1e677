"""What calibration and evaluation read: samples that fit the model's inputs, with labels where there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array, TensorSpec

Feeds = dict[str, Array]


class Dataset:
    """Samples in a fixed order, read anew by every pass.

    A sample holds one array an input of the model, its leading (batch) axis included: 1, or the model's own fixed
    batch.

    Attributes:
        sha256: Of the file; of a folder, over its sorted relative paths and bytes; of arrays or a function, over
            names, dtypes, shapes and bytes of what they hold.
        classes: Name of each class by its label, where the data names them.
        synthetic: True where the values are made up, so no accuracy can be read from them.
        description: What the data is, in one phrase for a report.
    """

    sha256: str
    classes: list[str] | None = None
    synthetic = False
    description: str

    def __len__(self) -> int:
        raise NotImplementedError

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """One sample at a time: inputs by name, and the labels of their rows or None."""
        raise NotImplementedError

    def batches(self, size: int = 1) -> Iterator[tuple[Feeds, Array | None]]:
        """Batches of `size` samples, joined along axis 0; the last may be smaller.

        Yields:
            The inputs by name, and an int64 label a row (None where the data has no labels).
        """
        held: list[tuple[Feeds, Array | None]] = []
        for sample in self.samples():
            if size == 1:
                yield sample
                continue
            held.append(sample)
            if len(held) == size:
                yield _join(held)
                held = []
        if held:
            yield _join(held)


def _join(samples: Sequence[tuple[Feeds, Array | None]]) -> tuple[Feeds, Array | None]:
    names = samples[0][0]
    try:
        feeds = {name: np.concatenate([sample[name] for sample, _ in samples]) for name in names}
    except ValueError as error:
        raise DataError(f"samples of different shapes cannot share a batch ({error}); use batches of 1") from None
    labels = [label for _, label in samples if label is not None]
    return feeds, np.concatenate(labels) if len(labels) == len(samples) else None


def fits(sample: Sequence[int], shape: Sequence[int | str]) -> bool:
    """Whether the sizes of one sample are those of `shape`, in which names stand for any size but one each."""
    if len(sample) != len(shape):
        return False
    bound: dict[str, int] = {}
    return all(
        found == (wanted if isinstance(wanted, int) else bound.setdefault(wanted, found))
        for found, wanted in zip(sample, shape, strict=True)
    )


def spell(shape: Sequence[int | str]) -> str:
    """A shape as messages show it: `[n, 32, 32, 3]`."""
    return "[" + ", ".join(map(str, shape)) + "]"


def describe(spec: TensorSpec) -> str:
    """An input as messages show it: `input_1 float32 [n, 32, 32, 3]`."""
    return f"{spec.name} {spec.dtype} {spell(spec.shape)}"


def update_with_arrays(digest: hashlib._Hash, arrays: Mapping[str, Array]) -> None:
    """Add the names, dtypes, shapes and little-endian bytes of arrays to a hash, in the order of their names."""
    for name in sorted(arrays):
        value = np.asarray(arrays[name], order="C")
        value = value.astype(value.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{value.dtype.name}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
