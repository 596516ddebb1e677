"""What a metric is: how good outputs are, of each sample where that can be said, else of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from haversack.runtimes.engines import Array

Outputs = Mapping[str, Array]
"""Each output of a model by its name, all samples joined along axis 0."""


@dataclass(frozen=True)
class Truth:
    """What outputs are held against.

    Attributes:
        source: The source's outputs on the same samples.
        labels: [rows]; None without.
        scores: Name of the output that holds class scores [rows, classes]; None where there is none.
        rows: How many rows there are: one a sample, or a batch each where the model's batch is fixed.
    """

    source: Outputs
    labels: Array | None
    scores: str | None
    rows: int


class Metric(Protocol):
    """How good a model's outputs are.

    Attributes:
        name: As `--metric` names it.
        higher_is_better: False for an error.
        unit: `points` where a difference is told in percentage points; empty where in the metric's own unit.
    """

    @property
    def name(self) -> str:
        """As `--metric` names it."""

    @property
    def higher_is_better(self) -> bool:
        """False for an error."""

    @property
    def unit(self) -> str:
        """`points` or empty."""

    def against(self, truth: Truth) -> str:
        """What it compares with: `labels` or `source`.

        Raises:
            DataError: It can compare with nothing that is there.
        """

    def rows(self, outputs: Outputs, truth: Truth) -> Array | None:
        """The metric of each row: bool where it is right or wrong, else float64; None where it has none of a row."""

    def whole(self, outputs: Outputs, truth: Truth) -> Callable[[Array], float]:
        """A function from indices of rows, repeated ones too, to the metric over them; asked where `rows` is None."""
