"""What the report draws of each layer and of each tensor that shares a scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from haversack.convert.compress import operators
from haversack.convert.compress.histogram import Histogram
from haversack.convert.diagnosis import LayerSign, Ranges, TensorSign
from haversack.convert.doctor.chart import Chart

BINS = 48
"""Of a histogram in the report."""

CHANNELS = 256
"""Channels that are drawn; of more, each is the range of several neighbours."""


def layer_signs(chart: Chart) -> Iterator[LayerSign]:
    """One a layer, in graph order."""
    for look in chart.exam.layers:
        axis = operators.weight_axis(look.node, look.held.index)
        spread = None
        if axis is not None:
            rows = np.moveaxis(look.held.float_, axis, 0).reshape(look.held.float_.shape[axis], -1)
            spread = _ranges(axis % look.held.float_.ndim, rows.min(axis=1), rows.max(axis=1))
        yield LayerSign(
            name=str(look.node.name),
            op=look.node.op_type,
            output=look.output,
            weights=look.weights,
            activations=look.activations,
            bits=look.held.words,
            spread=spread,
        )


def tensor_signs(chart: Chart) -> Iterator[TensorSign]:
    """One a group of tensors, in graph order."""
    for look in chart.exam.groups:
        name = look.names[0]
        histogram = None if chart.seen is None else chart.seen.histograms.get(name)
        edges, counts = _bins(histogram) if histogram is not None else ((), ())
        known = chart.calibration.get(name)
        widest = None if known is None else known.widest()
        spread = None if widest is None else _ranges(widest[0], widest[1].low, widest[1].high)
        seen = known is not None and known.high >= known.low
        yield TensorSign(
            name=name,
            tensors=look.names,
            harm=look.harm,
            low=look.scale.lowest,
            high=look.scale.highest,
            seen_low=known.low if seen and known is not None else 0.0,
            seen_high=known.high if seen and known is not None else 0.0,
            clipped=look.clipped,
            edges=edges,
            counts=counts,
            spread=spread,
        )


def _ranges(axis: int, low: np.ndarray, high: np.ndarray) -> Ranges:
    if len(low) > CHANNELS:
        starts = np.linspace(0, len(low), CHANNELS, endpoint=False).astype(int)
        low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    return Ranges(axis, tuple(_short(low)), tuple(_short(high)))


def _bins(histogram: Histogram) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """A histogram in few bins from the smallest to the largest value; exact zeros in theirs."""
    if not histogram.seen or histogram.high <= histogram.low:
        return (), ()
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    counts, _ = np.histogram(histogram.centres(), edges, weights=histogram.counts.astype(np.float64))
    if histogram.zeros and histogram.low <= 0 <= histogram.high:
        counts[min(int(np.searchsorted(edges, 0.0, side="right")) - 1, BINS - 1)] += histogram.zeros
    return tuple(_short(edges)), tuple(int(count) for count in counts)


def _short(values: np.ndarray) -> list[float]:
    """As many digits as a drawing needs."""
    return [float(f"{float(value):.5g}") for value in values]
