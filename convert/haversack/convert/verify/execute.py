"""Running a model, or an artifact of it, over the same samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.verify.samples import Samples
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

Progress = Callable[[float, str], None]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
RunMany = Callable[[Sequence[Mapping[str, Array]]], list[dict[str, Array]]]

OUTPUT_BYTES = 1 << 30
"""Outputs of all samples are held in memory up to this size, since every variant's are compared with them."""


MANY = 32
"""Samples that are run in one go where the engine can."""


def run_all(
    run: Run,
    samples: Samples,
    progress: Progress | None = None,
    phrase: str = "running",
    many: RunMany | None = None,
) -> dict[str, Array]:
    """Run every sample, one at a time, and join each output along its first axis.

    Args:
        run: Runs one sample.
        samples: What to run.
        progress: Hears how far it is.
        phrase: What is being done, in words.
        many: Runs several samples in one go, where the engine can; each is still one call of the artifact.

    Raises:
        VerificationError: The runtime failed on a sample.
        UsageError: The outputs take more than `OUTPUT_BYTES`.
    """
    collected: dict[str, list[Array]] = {}
    held = index = 0
    for batch in _batches(samples.feeds, 1 if many is None else MANY):
        try:
            rows = [run(batch[0])] if many is None else many(batch)
        except HaversackError as error:
            last = index + len(batch) - 1
            which = f"sample {index}" if last == index else f"one of the samples {index} to {last}"
            raise VerificationError(f"{which} could not be executed: {error}") from error
        for results in rows:
            for name, value in results.items():
                collected.setdefault(name, []).append(np.array(value))
                held += value.nbytes
        if held > OUTPUT_BYTES:
            raise UsageError(
                f"{samples.description}: the outputs of the first {index + len(batch)} fill {OUTPUT_BYTES >> 30} GiB; "
                "give fewer"
            )
        if progress is not None and index % 32 == 0:
            progress(index / len(samples), phrase)
        index += len(batch)
    return {name: joined(values) for name, values in collected.items()}


def _batches(feeds: Iterable[dict[str, Array]], size: int) -> Iterator[list[dict[str, Array]]]:
    iterator = iter(feeds)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def joined(values: Sequence[Array]) -> Array:
    """One array of all samples' values: along axis 0; flattened where their other axes differ; stacked if scalar."""
    if values[0].ndim == 0:
        return np.stack(values)
    if len({value.shape[1:] for value in values}) > 1:
        return np.concatenate([value.reshape(-1) for value in values])
    return np.concatenate(values)


def silent(fraction: float, phrase: str) -> None:
    """Progress that nobody listens to."""


__all__ = ["Progress", "Run", "Samples", "joined", "run_all", "silent"]
