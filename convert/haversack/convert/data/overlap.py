"""Calibration and evaluation data held apart: what is chosen on a sample must not be judged on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from haversack.convert.data.dataset import Dataset, Feeds, update_with_arrays
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

MOST = 0.5
"""A set that loses more than this share of its samples was not meant to be another set."""


class Without(Dataset):
    """A data set without some of its samples.

    Args:
        dataset: The whole.
        left_out: Positions of those that are left out.
    """

    def __init__(self, dataset: Dataset, left_out: Sequence[int]):
        self._dataset, self._left_out = dataset, frozenset(left_out)
        self.sha256, self.classes, self.synthetic = dataset.sha256, dataset.classes, dataset.synthetic
        self.description = f"{dataset.description}, without {len(left_out)} that are evaluation samples too"

    def __len__(self) -> int:
        return len(self._dataset) - len(self._left_out)

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """One sample at a time."""
        whole = enumerate(self._dataset.samples())
        return (sample for position, sample in whole if position not in self._left_out)


def sample_hash(feeds: Feeds) -> bytes:
    """SHA-256 of one sample's inputs: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    update_with_arrays(digest, feeds)
    return digest.digest()


def apart(calibration: Dataset, evaluation: Sequence[bytes], said: str) -> tuple[Dataset, str]:
    """Calibration data without the samples that are evaluated on too: an accuracy on those would be too good.

    Args:
        calibration: What ranges, roundings and precisions are chosen on.
        evaluation: Hashes of the samples that accuracy is measured on.
        said: The evaluation data in words.

    Returns:
        The data, and a sentence that says how many were left out and which is the first; empty where none was.

    Raises:
        DataError: They are more than half of it.
    """
    known: dict[bytes, int] = {}
    for index, digest in enumerate(evaluation):
        known.setdefault(digest, index)
    hashes = [sample_hash(feeds) for feeds, _ in calibration.batches(1)]
    both = [(index, known[digest]) for index, digest in enumerate(hashes) if digest in known]
    if not both:
        return calibration, ""
    first, where = both[0]
    told = (
        f"{len(both)} of {len(hashes)} calibration samples are evaluation samples too (the first: number {first} of "
        f"{calibration.description} is number {where} of {said})"
    )
    if len(both) > MOST * len(hashes):
        raise DataError(f"{told}; give other calibration data, or say --allow-overlap")
    return Without(calibration, [index for index, _ in both]), f"{told}; they were left out of the calibration"
