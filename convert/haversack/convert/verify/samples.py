"""The samples that every variant of one model is executed on: kept where they are few, else read anew by every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from haversack.convert.data import Dataset
from haversack.convert.data.overlap import sample_hash
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

Feeds = dict[str, Array]
"""One sample: input name to array, the batch axis included."""

HELD_BYTES = 1 << 28
"""Samples are kept in memory up to this size; more are read anew by every pass."""

PICKED = 32
"""So many single samples of a set that is not kept are remembered: the few that are looked at one by one."""


@dataclass(frozen=True)
class Samples:
    """Inputs that every variant of one model is executed on.

    Attributes:
        feeds: One mapping a sample, in a sequence that may be read from the data at each pass.
        labels: int64 [samples]; None without.
        description: What they are, in words.
        sha256: Of the data.
        synthetic: True where they are made up.
        classes: Name of each class, where the data names them.
        hashes: Of each sample's inputs, by which two sets are compared.
    """

    feeds: Sequence[Feeds]
    labels: Array | None
    description: str
    sha256: str
    synthetic: bool = False
    classes: tuple[str, ...] | None = None
    hashes: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.feeds)

    def spread(self, count: int) -> tuple[Feeds, ...]:
        """At most `count` of them, evenly spaced: folders of images come sorted by class."""
        return self.pick(range(0, len(self), max(1, -(-len(self) // count))))

    def pick(self, indices: Sequence[int]) -> tuple[Feeds, ...]:
        """Those at some indices, read in one pass."""
        if isinstance(self.feeds, Streamed):
            return self.feeds.pick(indices)
        return tuple(self.feeds[index] for index in indices)


class Streamed(Sequence[Feeds]):
    """Samples that are not kept: every pass reads the data set anew, and each must be what it was at first.

    Args:
        dataset: Where they come from.
        hashes: Of each, as they were first read.
    """

    def __init__(self, dataset: Dataset, hashes: Sequence[bytes]):
        self._dataset, self._hashes = dataset, hashes
        self._picked: dict[int, Feeds] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[Feeds]:
        """One pass.

        Raises:
            DataError: The data is no longer what it was.
        """
        return self._first(len(self))

    def _first(self, count: int) -> Iterator[Feeds]:
        read = 0
        for feeds, _ in self._dataset.batches(1):
            if read == count:
                return
            if sample_hash(feeds) != self._hashes[read]:
                raise DataError(
                    f"{self._dataset.description}: sample {read} is another one than when it was first read; every "
                    "pass must give the same samples in the same order (seed what is random)"
                )
            read += 1
            yield feeds
        if read < count:
            raise DataError(f"{self._dataset.description}: it gave {len(self)} samples at first and {read} now")

    @overload
    def __getitem__(self, index: int) -> Feeds: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Feeds, ...]: ...

    def __getitem__(self, index: int | slice) -> Feeds | tuple[Feeds, ...]:
        """One sample, or some: the data is read up to the last of them, unless they are remembered."""
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        return self.pick([range(len(self))[index]])[0]

    def pick(self, indices: Sequence[int]) -> tuple[Feeds, ...]:
        """Those at some indices, read in one pass up to the last of them."""
        missing = set(indices) - set(self._picked)
        found = {index: self._picked[index] for index in indices if index in self._picked}
        if missing:
            found |= {n: feeds for n, feeds in enumerate(self._first(max(missing) + 1)) if n in missing}
        self._picked |= found
        for index in list(self._picked)[:-PICKED]:  # The oldest are forgotten.
            del self._picked[index]
        return tuple(found[index] for index in indices)


def hold(dataset: Dataset) -> Samples:
    """Read a data set once: samples are hashed, labels collected, and up to `HELD_BYTES` kept.

    Args:
        dataset: Calibration or evaluation data, or synthetic inputs.
    """
    kept: list[Feeds] | None = []
    labels: list[Array] = []
    hashes: list[bytes] = []
    held = 0
    for inputs, label in dataset.batches(1):
        hashes.append(sample_hash(inputs))
        held += sum(array.nbytes for array in inputs.values())
        if held > HELD_BYTES:
            kept = None
        elif kept is not None:
            kept.append(inputs)
        if label is not None:
            labels.append(np.asarray(label).reshape(-1))
    return Samples(
        feeds=tuple(kept) if kept is not None else Streamed(dataset, hashes),
        labels=np.concatenate(labels) if labels and len(labels) == len(hashes) else None,
        description=dataset.description,
        sha256=dataset.sha256,
        synthetic=dataset.synthetic,
        classes=tuple(dataset.classes) if dataset.classes else None,
        hashes=tuple(hashes),
    )
