"""Running a model, or an artifact of it, over the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.verify.samples import Samples
from haversack.runtimes.engines import Array
from haversack.runtimes.errors import HaversackError

Progress = Callable[[float, str], None]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]

OUTPUT_BYTES = 1 << 30
"""Outputs of all samples are held in memory up to this size, since every variant's are compared with them."""


def run_all(run: Run, samples: Samples, progress: Progress | None = None, phrase: str = "running") -> dict[str, Array]:
    """Run every sample, one at a time, and join each output along its first axis.

    Raises:
        VerificationError: The runtime failed on a sample.
        UsageError: The outputs take more than `OUTPUT_BYTES`.
    """
    collected: dict[str, list[Array]] = {}
    held = 0
    for index, feeds in enumerate(samples.feeds):
        try:
            results = run(feeds)
        except HaversackError as error:
            raise VerificationError(f"sample {index} could not be executed: {error}") from error
        for name, value in results.items():
            collected.setdefault(name, []).append(np.array(value))
            held += value.nbytes
        if held > OUTPUT_BYTES:
            raise UsageError(
                f"{samples.description}: the outputs of the first {index + 1} fill {OUTPUT_BYTES >> 30} GiB; give fewer"
            )
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


__all__ = ["Progress", "Run", "Samples", "joined", "run_all", "silent"]
