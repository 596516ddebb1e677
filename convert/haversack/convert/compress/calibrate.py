"""Run the float hub graph on calibration data, once, and remember a histogram of each value asked for."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import chain

import onnx_ir as ir

from haversack.convert.compress.histogram import Histogram
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

KEPT = 128
"""Batches that are kept for comparing choices and for methods; calibration data itself is only streamed."""

SEED = 20_240_607

Progress = Callable[[float, str], None]


class Reservoir:
    """A fixed number of items from a stream of unknown length, each as likely as any other, in their order.

    Vitter: "Random Sampling with a Reservoir", ACM Transactions on Mathematical Software 11(1), 1985, algorithm R. The
    same stream gives the same sample.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int):
        self._size = size
        self._random = random.Random(SEED)
        self._held: list[tuple[int, Mapping[str, Array]]] = []
        self._seen = 0

    def offer(self, item: Mapping[str, Array]) -> None:
        """Take note of the next item."""
        if len(self._held) < self._size:
            self._held.append((self._seen, item))
        elif (place := self._random.randrange(self._seen + 1)) < self._size:
            self._held[place] = self._seen, item
        self._seen += 1

    @property
    def taken(self) -> list[Mapping[str, Array]]:
        """The sample."""
        return [item for _, item in sorted(self._held, key=lambda held: held[0])]


@dataclass
class Calibration:
    """What the calibration data showed.

    Attributes:
        histograms: One a value, by the value's name.
        kept: `KEPT` batches from all over the data, by input name: its first may all be of one class.
        batches: How many were seen.
    """

    histograms: dict[str, Histogram]
    kept: list[Mapping[str, Array]] = field(default_factory=list)
    batches: int = 0


def calibrate(
    model: ir.Model,
    names: Sequence[str],
    data: Iterable[Mapping[str, Array]],
    progress: Progress | None = None,
) -> Calibration:
    """Observe the values `names` while `model` runs on each batch of `data`.

    Args:
        model: The float hub graph; not changed.
        names: Values to observe: graph inputs and intermediate values.
        data: Batches: one array a graph input. Only one is held at a time, besides the few that are kept.
        progress: Told after each batch; where `data` has no length the fraction only creeps up.

    Raises:
        DataError: There is not one batch, or an observed value was never finite.
    """
    from haversack.convert.hub.evaluate import Evaluator

    inputs = {value.name for value in model.graph.inputs}
    computed = [name for name in names if name not in inputs]
    found = Calibration({name: Histogram() for name in names})
    evaluator = Evaluator(model, computed) if computed else None
    total = len(data) if isinstance(data, Sized) else None
    reservoir = Reservoir(KEPT)
    for feeds in data:
        results = evaluator.run(dict(feeds)) if evaluator is not None else {}
        for name, values in chain(results.items(), ((name, feeds[name]) for name in names if name in inputs)):
            found.histograms[name].add(values)
        reservoir.offer(feeds)
        found.batches += 1
        if progress is not None:
            progress(found.batches / total if total else found.batches / (found.batches + 20), "calibrating")
    if not found.batches:
        raise DataError("int8 needs calibration data, and there is not one batch of it")
    found.kept = reservoir.taken
    empty = [name for name, histogram in found.histograms.items() if histogram.not_finite and not histogram.seen]
    if empty:
        raise DataError(f"calibration: {empty[0]} is NaN or infinite on every input; the float model itself is broken")
    return found
