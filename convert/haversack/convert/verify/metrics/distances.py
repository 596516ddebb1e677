"""Metrics of numbers: how far outputs are from the labels, or from the source's where there are no labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from haversack.convert.errors import DataError
from haversack.convert.verify.metrics.metric import Outputs, Truth
from haversack.runtimes.engines import Array


class _Distance:
    """Pairs each row's values with what they should be.

    With labels and class scores: one score a row with the label itself, several with the label as one-hot (the mse of
    probabilities is then Brier's score over the number of classes). Otherwise every output with the source's.
    """

    name: str

    def against(self, truth: Truth) -> str:
        """Labels where there are any and scores to compare them with, else the source."""
        return "source" if truth.labels is None or truth.scores is None else "labels"

    def whole(self, outputs: Outputs, truth: Truth) -> Callable[[Array], float]:
        """The mean over rows."""
        values = self.rows(outputs, truth)
        return lambda indices: float(values[indices].mean())

    def rows(self, outputs: Outputs, truth: Truth) -> Array:
        """One number a row, float64 [rows]."""
        raise NotImplementedError

    def pairs(self, outputs: Outputs, truth: Truth) -> tuple[Array, Array]:
        """Values and what they should be, float64 [rows, elements] each."""
        if truth.labels is not None and truth.scores is not None:
            found = outputs[truth.scores].astype(np.float64)
            if found.shape[1] == 1:
                return found, truth.labels[:, None].astype(np.float64)
            return found, np.eye(found.shape[1])[truth.labels]
        return self._flat(outputs, truth, self.name), self._flat(truth.source, truth, self.name)

    @staticmethod
    def _flat(outputs: Outputs, truth: Truth, name: str) -> Array:
        numbers = {key: value for key, value in outputs.items() if value.dtype.kind in "fiu"}
        for key, value in numbers.items():
            if value.size % truth.rows:
                raise DataError(f"--metric {name}: output {key} does not have the same number of values a sample")
        if not numbers:
            raise DataError(f"--metric {name}: the model has no output of numbers")
        rows = [value.astype(np.float64).reshape(truth.rows, -1) for value in numbers.values()]
        return np.concatenate(rows, axis=1)


@dataclass(frozen=True)
class SquaredError(_Distance):
    """Mean of squared differences over a row's values, then over rows."""

    name = "mse"
    higher_is_better = False
    unit = ""

    def rows(self, outputs: Outputs, truth: Truth) -> Array:
        """Of each row."""
        found, wanted = self.pairs(outputs, truth)
        squared: Array = np.square(found - wanted).mean(axis=1)
        return squared


@dataclass(frozen=True)
class Cosine(_Distance):
    """Cosine of the angle between a row's values and what they should be; 0 where one is all zero, 1 where both are."""

    name = "cosine"
    higher_is_better = True
    unit = "points"

    def rows(self, outputs: Outputs, truth: Truth) -> Array:
        """Of each row."""
        found, wanted = self.pairs(outputs, truth)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        both = ~found.any(axis=1) & ~wanted.any(axis=1)
        product = (found * wanted).sum(axis=1)
        angle = np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0)
        return np.where(both, 1.0, np.clip(angle, -1.0, 1.0))
