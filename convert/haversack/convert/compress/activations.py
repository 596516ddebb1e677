"""What chosen values of the float graph are, batch by batch of calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array


def activations(
    model: ir.Model,
    names: Iterable[str],
    data: Iterable[Mapping[str, Array]],
    batches: int,
    progress: Progress | None = None,
) -> Iterator[dict[str, Array]]:
    """Run the graph on the first batches.

    Args:
        model: The float hub graph; not changed.
        names: Of graph inputs or computed values.
        data: Batches: one array a graph input.
        batches: How many are run at most.
        progress: Told after each batch, when the next is asked for.

    Yields:
        The graph inputs and the values, by name.

    Raises:
        DataError: There is not one batch.
    """
    from haversack.convert.hub.evaluate import Evaluator

    given = {str(value.name) for value in model.graph.inputs}
    computed = [name for name in dict.fromkeys(names) if name not in given]
    evaluator = Evaluator(model, computed) if computed else None
    count = 0
    for count, feeds in enumerate(islice(data, batches), start=1):
        yield {**feeds, **(evaluator.run(dict(feeds)) if evaluator is not None else {})}
        if progress is not None:
            progress(count / batches, "calibrating")
    if not count:
        raise DataError("there is not one batch of calibration data")
