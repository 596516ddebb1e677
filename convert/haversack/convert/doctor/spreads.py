"""What activations look like, channel by channel: over each half of the calibration data, and over evaluation inputs.

Histograms (`compress/histogram.py`) say what a whole tensor holds. Which channel stretches a range, whether half of the
calibration data would have given the same range, and whether evaluation inputs leave it, they do not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.doctor.harm import MOST_CHANNELS, spread_of
from haversack.runtimes.engines import Array

FURTHEST = 10
"""So many samples that go furthest beyond a range are remembered."""


@dataclass
class Channels:
    """The indices of one axis of one tensor.

    Attributes:
        low: Smallest values, one an index.
        high: Largest.
        square: Sums of squares.
    """

    low: Array
    high: Array
    square: Array

    @property
    def reach(self) -> Array:
        """The largest absolute value of each index."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass
class Spread:
    """One tensor over some samples.

    Attributes:
        samples: How many were seen.
        low: Smallest finite value.
        high: Largest.
        not_finite: How many values were NaN or infinite.
        axes: By axis: what its indices hold; axes with more than `MOST_CHANNELS` are left out.
    """

    samples: int = 0
    low: float = np.inf
    high: float = -np.inf
    not_finite: int = 0
    axes: dict[int, Channels] = field(default_factory=dict)

    def add(self, array: Array) -> None:
        """See one sample, its batch along axis 0."""
        finite = np.isfinite(array)
        if not finite.all():
            self.not_finite += int(array.size - finite.sum())
            array = np.where(finite, array, 0.0)
        self.samples += 1
        if not array.size:
            return
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        for axis in range(1, array.ndim):
            if not 2 <= array.shape[axis] <= MOST_CHANNELS:
                continue
            others = tuple(i for i in range(array.ndim) if i != axis)
            low, high = array.min(axis=others), array.max(axis=others)
            square = np.square(array, dtype=np.float64).sum(axis=others)
            known = self.axes.get(axis)
            if known is None or known.low.shape != low.shape:
                self.axes[axis] = Channels(low, high, square)
            else:
                known.low, known.high = np.minimum(known.low, low), np.maximum(known.high, high)
                known.square += square

    @property
    def reach(self) -> float:
        """The largest absolute value; 0 where nothing was seen."""
        return max(abs(self.low), abs(self.high)) if self.high >= self.low else 0.0

    def widest(self, among: tuple[int, ...] | None = None) -> tuple[int, Channels, float] | None:
        """The axis whose indices are of the most unlike reach, its channels, and the largest over the median.

        Args:
            among: The axes that count; None: all.
        """
        axes = {axis: each for axis, each in self.axes.items() if among is None or axis in among}
        found = [(axis, each, spread_of(each.reach)) for axis, each in axes.items()]
        return max(found, key=lambda row: row[2]) if found else None


def merged(first: Spread, second: Spread) -> Spread:
    """What both saw together."""
    axes = {}
    for axis, one in first.axes.items():
        other = second.axes.get(axis)
        if other is not None and other.low.shape == one.low.shape:
            axes[axis] = Channels(
                np.minimum(one.low, other.low), np.maximum(one.high, other.high), one.square + other.square
            )
        else:
            axes[axis] = one
    return Spread(
        first.samples + second.samples,
        min(first.low, second.low),
        max(first.high, second.high),
        first.not_finite + second.not_finite,
        axes,
    )


@dataclass
class Beyond:
    """One sample that leaves what calibration saw.

    Attributes:
        sample: Its position in the evaluation data.
        tensor: Where it does so most.
        factor: How many times calibration's reach it has there.
    """

    sample: int
    tensor: str
    factor: float


def spreads(
    model: ir.Model,
    names: Sequence[str],
    data: Iterable[Mapping[str, Array]],
    progress: Progress | None = None,
    *,
    count: int = 0,
    known: Mapping[str, Spread] | None = None,
) -> tuple[list[dict[str, Spread]], list[Beyond]]:
    """Look at tensors over data.

    Args:
        model: The float hub graph.
        names: Of tensors, graph inputs among them.
        data: One mapping a sample.
        progress: Told how far it is.
        count: How many samples there are.
        known: What calibration saw: samples that go beyond it are remembered.

    Returns:
        Two halves, of the samples with even and with odd positions (data may come sorted), and those samples.
    """
    from haversack.convert.hub.evaluate import Evaluator

    given = {str(value.name) for value in model.graph.inputs}
    computed = [name for name in names if name not in given]
    evaluator = Evaluator(model, computed) if computed else None
    halves: list[dict[str, Spread]] = [{name: Spread() for name in names} for _ in range(2)]
    beyond: list[Beyond] = []
    for index, feeds in enumerate(data):
        found = {**feeds, **(evaluator.run(dict(feeds)) if evaluator is not None else {})}
        worst, where = 1.0, ""
        for name in names:
            array = np.asarray(found[name])
            if array.dtype.kind != "f":
                continue
            halves[index % 2][name].add(array)
            if known is not None and (reach := known[name].reach) > 0:
                factor = float(np.abs(np.where(np.isfinite(array), array, 0.0)).max(initial=0.0)) / reach
                if factor > worst:
                    worst, where = factor, name
        if where:
            beyond = sorted([*beyond, Beyond(index, where, worst)], key=lambda each: -each.factor)[:FURTHEST]
        if progress is not None and count and index % 16 == 0:
            progress(index / count, "looking at activations")
    return halves, beyond
