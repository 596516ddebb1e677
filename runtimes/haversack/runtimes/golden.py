"""Golden vectors: inputs and what a variant gave for them where it was made, run again where it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.manifest import Tolerance


@dataclass(frozen=True)
class GoldenResult:
    """One output of one golden vector.

    Attributes:
        vector: Which one, from 0.
        output: The output's name.
        difference: max|found - expected|; infinite where shape, dtype, or what is not finite differs.
        allowed: By the variant's tolerance.
    """

    vector: int
    output: str
    difference: float
    allowed: float

    @property
    def ok(self) -> bool:
        """Whether it lies within the tolerance."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Check:
    """What running the golden vectors gave; true where all of them are within the tolerance, and there is one."""

    results: tuple[GoldenResult, ...]

    @property
    def ok(self) -> bool:
        """Whether there are golden vectors and all are within the tolerance."""
        return bool(self.results) and all(result.ok for result in self.results)

    @property
    def worst(self) -> GoldenResult | None:
        """The result furthest beyond, or nearest to, what is allowed."""
        return max(self.results, key=lambda result: result.difference - result.allowed, default=None)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        worst = self.worst
        if worst is None:
            return "there are no golden vectors"
        vectors = len({result.vector for result in self.results})
        state = "all within the tolerance" if self.ok else "not within the tolerance"
        return (
            f"{vectors} golden vectors, {state}; worst: vector {worst.vector}, output {worst.output}: "
            f"{worst.difference:.3g} from what is expected, {worst.allowed:.3g} allowed"
        )


def check_golden(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    vectors: Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]],
    tolerance: Tolerance,
) -> Check:
    """Run every vector and compare."""
    results = []
    for number, (inputs, expected) in enumerate(vectors):
        found = run(inputs)
        for name, wanted in expected.items():
            allowed = tolerance.absolute + tolerance.relative * _largest(wanted)
            results.append(GoldenResult(number, name, _difference(found.get(name), wanted), allowed))
    return Check(tuple(results))


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    return float(finite.max(initial=0.0))


def _difference(found: Array | None, expected: Array) -> float:
    """max|found - expected|; values that are not finite must be the same ones."""
    if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf")
    difference = np.abs(found[finite].astype(np.float64) - expected[finite].astype(np.float64))
    return float(difference.max(initial=0.0))
