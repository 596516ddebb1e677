"""Run the float hub graph on calibration data, once, and remember a histogram of each value asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import chain

import onnx_ir as ir

from haversack.convert.compress.histogram import Histogram
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array

KEPT = 64
"""Batches that are kept for comparing choices later; calibration data itself is only streamed."""

Progress = Callable[[float, str], None]


@dataclass
class Calibration:
    """What the calibration data showed.

    Attributes:
        histograms: One a value, by the value's name.
        kept: The first `KEPT` batches, by input name.
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
    for feeds in data:
        results = evaluator.run(dict(feeds)) if evaluator is not None else {}
        for name, values in chain(results.items(), ((name, feeds[name]) for name in names if name in inputs)):
            found.histograms[name].add(values)
        if len(found.kept) < KEPT:
            found.kept.append(feeds)
        found.batches += 1
        if progress is not None:
            progress(found.batches / total if total else found.batches / (found.batches + 20), "calibrating")
    if not found.batches:
        raise DataError("int8 needs calibration data, and there is not one batch of it")
    empty = [name for name, histogram in found.histograms.items() if histogram.not_finite and not histogram.seen]
    if empty:
        raise DataError(f"calibration: {empty[0]} is NaN or infinite on every input; the float model itself is broken")
    return found
