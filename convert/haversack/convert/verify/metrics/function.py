"""A metric of the user's: `package.module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from haversack.convert.data.function import current_folder_importable
from haversack.convert.errors import DataError
from haversack.convert.verify.metrics.metric import Outputs, Truth
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class FunctionMetric:
    """`function(outputs, labels)`, outputs by name and all samples along axis 0, labels [samples] or None.

    It returns one number, or one number a sample, whose mean is then the metric (a bool a sample: right or wrong,
    which gives the exact test). `function.higher_is_better = False` says that it is an error, and
    `function.unit = ""` that its drops are in its own unit instead of percentage points.
    """

    name: str
    function: Callable[..., Any]

    @property
    def higher_is_better(self) -> bool:
        """True unless the function says otherwise."""
        return bool(getattr(self.function, "higher_is_better", True))

    @property
    def unit(self) -> str:
        """`points` unless the function says otherwise."""
        return "points" if getattr(self.function, "unit", "points") == "points" else ""

    def against(self, truth: Truth) -> str:
        """Labels; nothing where there are none, since what it then measures is its own affair."""
        return "nothing" if truth.labels is None else "labels"

    def rows(self, outputs: Outputs, truth: Truth) -> Array | None:
        """What it returns, where that is one number a row."""
        found = self._call(outputs, truth.labels)
        if found.ndim == 0:
            return None
        if found.shape != (truth.rows,):
            raise DataError(
                f"--metric {self.name}: expected one number, or {truth.rows}, one a sample; found {list(found.shape)}"
            )
        return found if found.dtype == bool else found.astype(np.float64)

    def whole(self, outputs: Outputs, truth: Truth) -> Callable[[Array], float]:
        """It, called on the rows at given indices.

        Raises:
            DataError: An output's axis 0 does not count the samples, so that rows cannot be drawn from it.
        """
        for name, value in outputs.items():
            if not value.ndim or len(value) != truth.rows:
                raise DataError(
                    f"--metric {self.name}: output {name} has {value.shape[:1]} rows for {truth.rows} samples, so an "
                    "interval cannot be found by drawing samples; return one number a sample"
                )

        def over(indices: Array) -> float:
            labels = None if truth.labels is None else truth.labels[indices]
            return float(self._call({name: array[indices] for name, array in outputs.items()}, labels))

        return over

    def _call(self, outputs: Outputs, labels: Array | None) -> Array:
        try:
            found = np.asarray(self.function(dict(outputs), labels))
        except MemoryError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise DataError(f"--metric {self.name}: it failed: {type(error).__name__}: {error}") from error
        if found.dtype.kind not in "bfiu" or not np.isfinite(found).all():
            raise DataError(f"--metric {self.name}: expected finite numbers, found {found.dtype.name}")
        return found


def open_function(spec: str) -> FunctionMetric:
    """Import `package.module:function`, from the current folder too.

    Raises:
        DataError: It cannot be imported, or is no function.
    """
    module_name, _, name = spec.partition(":")
    try:
        with current_folder_importable():
            module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything
        raise DataError(f"--metric {spec}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"--metric {spec}: {module_name} has no function {name}")
    return FunctionMetric(spec, function)
