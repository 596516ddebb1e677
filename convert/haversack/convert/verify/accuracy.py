"""A metric on the evaluation data with the interval, the test and the verdict that make it comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from haversack.convert.measured import Accuracy
from haversack.convert.verify.metrics import TOP1, Metric, Outputs, Truth, open_metric
from haversack.convert.verify.statistics import (
    RESAMPLES,
    bootstrap_means,
    bootstrap_whole,
    mcnemar,
    more_samples,
    more_samples_scaled,
    paired_difference,
    verdict,
    wilson,
)
from haversack.runtimes.engines import Array

FUNCTION_RESAMPLES = 200
"""Of a function of the user's over all samples, which may take long: its bounds are rougher."""

ALLOWED = 1.0
"""Points of drop that the verdict is about where no budget says otherwise."""


@dataclass(frozen=True)
class Measure:
    """What is measured, and the drop that its verdict is about.

    Attributes:
        metric: What of.
        allowed: The drop in points, or in the metric's own unit; None: no verdict.
        asked: Whether the user named the metric: it must then be possible to measure.
    """

    metric: Metric = TOP1
    allowed: float | None = ALLOWED
    asked: bool = False

    def __call__(self, outputs: Outputs, truth: Truth) -> Accuracy:
        """Measure outputs beside the source's on the same samples.

        Args:
            outputs: By name, all samples joined along axis 0.
            truth: What they are held against.

        Raises:
            DataError: The metric cannot be measured on this model and data.
        """
        metric = self.metric
        against = metric.against(truth)
        rows, source = metric.rows(outputs, truth), metric.rows(truth.source, truth)
        if rows is None or source is None:
            return self._whole(outputs, truth, against)
        if rows.dtype == bool and source.dtype == bool:
            return self._right(rows, source, against)
        own, difference = bootstrap_means(rows, source)
        value, reference = float(rows.mean()), float(source.mean())
        return self._judged(
            value, own, len(rows), value - reference, difference, against, f"paired bootstrap, {RESAMPLES} resamples"
        )

    def _right(self, right: Array, source: Array, against: str) -> Accuracy:
        """Of rows that are right or wrong."""
        samples = len(right)
        correct = int(np.count_nonzero(right))
        gained, lost = int(np.count_nonzero(right & ~source)), int(np.count_nonzero(source & ~right))
        own = wilson(correct, samples)
        if against == "source":  # The source agrees with itself everywhere: there is one proportion, not two.
            difference = (own[0] - 1, own[1] - 1)
            return self._judged(
                correct / samples, own, samples, (correct - samples) / samples, difference, against, "Wilson"
            )
        difference = paired_difference(gained, lost, samples)
        scale = 100 if self.metric.unit == "points" else 1
        more = None if self.allowed is None else more_samples(gained, lost, samples, self.allowed / scale)
        return self._judged(
            correct / samples, own, samples, (gained - lost) / samples, difference, against, "Agresti-Min",
            gained=gained, lost=lost, more=more,
        )  # fmt: skip

    def _whole(self, outputs: Outputs, truth: Truth, against: str) -> Accuracy:
        """Of all rows together."""
        value, source = self.metric.whole(outputs, truth), self.metric.whole(truth.source, truth)
        everything = np.arange(truth.rows)
        resamples = FUNCTION_RESAMPLES if ":" in self.metric.name else RESAMPLES
        own, difference = bootstrap_whole(value, source, truth.rows, resamples)
        found, reference = value(everything), source(everything)
        interval = f"paired bootstrap, {resamples} resamples"
        return self._judged(found, own, truth.rows, found - reference, difference, against, interval)

    def _judged(
        self,
        value: float,
        own: tuple[float, float],
        samples: int,
        difference: float,
        bounds: tuple[float, float],
        against: str,
        interval: str,
        *,
        gained: int | None = None,
        lost: int | None = None,
        more: int | None = None,
    ) -> Accuracy:
        metric = self.metric
        scale = 100.0 if metric.unit == "points" else 1.0
        drop, bound = (-difference, -bounds[0]) if metric.higher_is_better else (difference, bounds[1])
        drop, bound = scale * drop, scale * bound
        said = ""
        if self.allowed is not None:
            if gained is None:
                more = more_samples_scaled(drop, bound, samples, self.allowed)
            said = verdict(drop, bound, self.allowed, metric.unit, more)
        return Accuracy(
            value=value,
            low=own[0],
            high=own[1],
            samples=samples,
            difference=difference,
            difference_low=bounds[0],
            difference_high=bounds[1],
            metric=metric.name,
            against=against,
            higher_is_better=metric.higher_is_better,
            unit=metric.unit,
            gained=gained,
            lost=lost,
            p_value=None if gained is None or lost is None else mcnemar(gained, lost),
            interval=interval,
            allowed=self.allowed,
            verdict=said,
            more_samples=more if more and said.startswith("measured") and math.isfinite(bound) else None,
        )


def measure_of(metric: str | None, allowed: float | None = None) -> Measure:
    """What `--metric` and `--max-drop` say is measured.

    Raises:
        UsageError: There is no such metric.
    """
    opened = TOP1 if metric is None else open_metric(metric)
    if allowed is None and opened.unit == "points":
        allowed = ALLOWED
    return Measure(opened, allowed, asked=metric is not None)


def accuracy(scores: Array, source_scores: Array, labels: Array, allowed: float = ALLOWED) -> Accuracy:
    """Top-1 accuracy of `scores` [samples, classes] and its paired difference to the source's."""
    truth = Truth({"scores": source_scores}, labels, "scores", len(labels))
    return Measure(TOP1, allowed)({"scores": scores}, truth)
