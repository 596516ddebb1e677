"""Running a model, or an artifact of it, over the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from haversack.convert.data import Dataset
from haversack.convert.errors import UsageError, VerificationError
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

Progress = Callable[[float, str], None]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]

HELD_BYTES = 1 << 30
"""Samples and outputs are held in memory up to this size, since every variant of a model is run on them."""


@dataclass(frozen=True)
class Samples:
    """Inputs that every variant of one model is executed on.

    Attributes:
        feeds: One mapping a sample: input name to array, the batch axis included.
        labels: int64 [samples]; None without.
        description: What they are, in words.
        sha256: Of the data.
        synthetic: True where they are made up.
        classes: Name of each class, where the data names them.
    """

    feeds: tuple[dict[str, Array], ...]
    labels: Array | None
    description: str
    sha256: str
    synthetic: bool = False
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.feeds)

    def spread(self, count: int) -> tuple[dict[str, Array], ...]:
        """At most `count` of them, evenly spaced: folders of images come sorted by class."""
        chosen = range(0, len(self), max(1, -(-len(self) // count)))
        return tuple(self.feeds[index] for index in chosen)


def hold(dataset: Dataset, *, most: int | None = None) -> Samples:
    """Read a data set once into memory, sample by sample.

    Args:
        dataset: Calibration or evaluation data, or synthetic inputs.
        most: How many samples are enough; None for all.

    Raises:
        UsageError: They take more than `HELD_BYTES`.
    """
    feeds: list[dict[str, Array]] = []
    labels: list[Array] = []
    held = 0
    for inputs, label in dataset.batches(1):
        if most is not None and len(feeds) >= most:
            break
        held += sum(array.nbytes for array in inputs.values())
        if held > HELD_BYTES:
            raise UsageError(
                f"{dataset.description}: the first {len(feeds)} samples fill {HELD_BYTES >> 30} GiB; give fewer"
            )
        feeds.append(inputs)
        if label is not None:
            labels.append(np.asarray(label).reshape(-1))
    cut = "" if len(feeds) == len(dataset) else f", the first {len(feeds)}"
    return Samples(
        feeds=tuple(feeds),
        labels=np.concatenate(labels) if labels and len(labels) == len(feeds) else None,
        description=dataset.description + cut,
        sha256=dataset.sha256,
        synthetic=dataset.synthetic,
        classes=tuple(dataset.classes) if dataset.classes else None,
    )


def run_all(run: Run, samples: Samples, progress: Progress | None = None, phrase: str = "running") -> dict[str, Array]:
    """Run every sample, one at a time, and join each output along its first axis.

    Raises:
        VerificationError: The runtime failed on a sample.
    """
    collected: dict[str, list[Array]] = {}
    for index, feeds in enumerate(samples.feeds):
        try:
            results = run(feeds)
        except HaversackError as error:
            raise VerificationError(f"sample {index} could not be executed: {error}") from error
        for name, value in results.items():
            collected.setdefault(name, []).append(np.array(value))
        if progress is not None and index % 32 == 0:
            progress(index / len(samples), phrase)
    return {name: joined(values) for name, values in collected.items()}


def joined(values: Sequence[Array]) -> Array:
    """One array of all samples' values: along axis 0; flattened where their other axes differ; stacked if scalar."""
    if values[0].ndim == 0:
        return np.stack(values)
    if len({value.shape[1:] for value in values}) > 1:
        return np.concatenate([value.reshape(-1) for value in values])
    return np.concatenate(values)


def silent(fraction: float, phrase: str) -> None:
    """Progress that nobody listens to."""
