"""Metrics of class scores: is the right class the best, among the five best, and how well are classes told apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from haversack.convert.errors import DataError
from haversack.convert.verify.compare import kept, predictions
from haversack.convert.verify.metrics.metric import Outputs, Truth
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Top:
    """Share of rows whose right class is among the `count` best; of equal scores the lower class counts as better.

    Without labels the source's own best class stands in for the right one.
    """

    count: int
    higher_is_better = True
    unit = "points"

    @property
    def name(self) -> str:
        """`top1`, `top5`."""
        return f"top{self.count}"

    def against(self, truth: Truth) -> str:
        """Labels where there are any, else the source."""
        scores = _scores(truth, self.name)
        if self.count > 1 and truth.source[scores].shape[1] <= self.count:
            classes = truth.source[scores].shape[1]
            raise DataError(f"--metric {self.name}: the model has {classes} classes, all among the {self.count} best")
        return "source" if truth.labels is None else "labels"

    def rows(self, outputs: Outputs, truth: Truth) -> Array:
        """Whether each row is right, bool [rows]."""
        name = _scores(truth, self.name)
        if self.count == 1 and truth.labels is None:
            return kept(truth.source[name], outputs[name])
        if self.count == 1:
            return np.asarray(predictions(outputs[name]) == truth.labels)
        right = predictions(truth.source[name]) if truth.labels is None else truth.labels
        best = np.argsort(-outputs[name].astype(np.float64), axis=1, kind="stable")[:, : self.count]
        return np.asarray((best == right[:, None]).any(axis=1))

    def whole(self, outputs: Outputs, truth: Truth) -> Callable[[Array], float]:
        """The mean over rows."""
        right = self.rows(outputs, truth)
        return lambda indices: float(right[indices].mean())


@dataclass(frozen=True)
class Auc:
    """Area under the receiver operating characteristic: how often a row of the class outscores one of another.

    Equal scores count half (Hanley and McNeil, Radiology 143, 1982). Of two classes it is the second's, by its score
    or by how far it is above the first's; of more, the mean over the classes that the labels have, each against all
    others.
    """

    name = "auc"
    higher_is_better = True
    unit = "points"

    def against(self, truth: Truth) -> str:
        """Labels.

        Raises:
            DataError: There are none, or all are of one class.
        """
        _scores(truth, self.name)
        if truth.labels is None:
            raise DataError("--metric auc needs labels: `label` in DATA, or images in a folder a class")
        if len(np.unique(truth.labels)) < 2:
            raise DataError(f"--metric auc needs labels of two classes at least, and all are {truth.labels[0]}")
        return "labels"

    def rows(self, outputs: Outputs, truth: Truth) -> None:
        """A row alone has none."""

    def whole(self, outputs: Outputs, truth: Truth) -> Callable[[Array], float]:
        """The area over rows at given indices; NaN where those are of one class."""
        assert truth.labels is not None
        scores = outputs[_scores(truth, self.name)].astype(np.float64)
        labels = truth.labels
        if scores.shape[1] <= 2:
            alone = [(scores[:, -1] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0], labels == 1)]
        else:
            alone = [(scores[:, index], labels == index) for index in np.unique(labels)]
        # Ranks are found once; what is drawn are then only counts a rank.
        ranked = [(np.unique(score, return_inverse=True)[1], right) for score, right in alone]

        def area(indices: Array) -> float:
            found = [_area(rank[indices], right[indices], int(rank.max()) + 1) for rank, right in ranked]
            present = [value for value in found if not math.isnan(value)]
            return sum(present) / len(present) if present else math.nan

        return area


def _area(rank: Array, right: Array, ranks: int) -> float:
    ours = np.bincount(rank[right], minlength=ranks).astype(np.float64)
    others = np.bincount(rank[~right], minlength=ranks).astype(np.float64)
    pairs = ours.sum() * others.sum()
    if pairs == 0:
        return math.nan
    below = np.cumsum(others) - others
    return float((ours * (below + others / 2)).sum() / pairs)


def _scores(truth: Truth, name: str) -> str:
    if truth.scores is None:
        raise DataError(f"--metric {name} needs an output of class scores [samples, classes], and the model has none")
    return truth.scores
