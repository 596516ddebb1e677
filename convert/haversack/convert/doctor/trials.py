"""Repairs tried and measured: each alone, then together as long as the next one helps.

What is compared is the loss on calibration data; labels of evaluation data judge proposals as a whole, the cheapest
first, and choose nothing else (as in `planning/search.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from haversack.convert.compress.mixed import Observed, apply_plan
from haversack.convert.compress.plan import Plan
from haversack.convert.diagnosis import Harm, tolerated
from haversack.convert.doctor.harm import Bench
from haversack.convert.doctor.repairs import Remedy
from haversack.convert.errors import UsageError
from haversack.convert.verify.execute import Progress

HELPS = 0.8
"""A repair is added to others where it leaves at most this share of the loss."""

TOGETHER = 6
"""Repairs that are put together at most."""


@dataclass(frozen=True)
class Tried:
    """Remedies together, measured on calibration data.

    Attributes:
        remedies: One, or several.
        plan: With all of them.
        harm: What is left.
        bytes: What the constants of the compressed graph take.
        reason: Why it could not be built; empty where it was.
    """

    remedies: tuple[Remedy, ...]
    plan: Plan
    harm: Harm | None
    bytes: int
    reason: str = ""

    @property
    def price(self) -> tuple[int, int, int]:
        """What it costs: at run time, then in bytes, then how many changes it is."""
        return max(each.rank for each in self.remedies), self.bytes, len(self.remedies)

    @property
    def loss(self) -> float:
        """What is left."""
        return float("inf") if self.harm is None else self.harm.loss

    @property
    def words(self) -> str:
        """All of it in words."""
        return " + ".join(each.words for each in self.remedies)


@dataclass
class Trials:
    """Tries remedies on one model.

    Attributes:
        model: The float hub graph.
        observed: What calibration data says of it, as a plan rescales it.
        bench: What losses are measured on.
        plan: That remedies change.
        allowed: Points that may be lost.
        done: Everything tried, in order.
    """

    model: ir.Model
    observed: Callable[[Plan], Observed]
    bench: Bench
    plan: Plan
    allowed: float = 1.0
    done: list[Tried] = field(default_factory=list)
    _known: dict[str, tuple[Harm | None, int, str]] = field(default_factory=dict)

    def alone(self, remedies: Sequence[Remedy], progress: Progress) -> None:
        """Try each."""
        for count, remedy in enumerate(remedies):
            progress(count / len(remedies), f"trying {remedy.words}")
            self._try((remedy,))

    def proposals(self, progress: Progress) -> Iterator[Tried]:
        """What may bring the accuracy back, the cheapest first; then what leaves the least loss of all.

        Of each rank: those that are good alone, then what helps put together.
        """
        given: set[str] = set()
        for tried in self._ordered(progress):
            if (key := _key(tried.plan)) not in given:
                given.add(key)
                yield tried

    def _ordered(self, progress: Progress) -> Iterator[Tried]:
        alone = [each for each in self.done if len(each.remedies) == 1 and each.harm is not None]
        if not alone:
            return
        current: Tried | None = None
        for rank in sorted({each.remedies[0].rank for each in alone}):
            pool = sorted((each for each in alone if each.remedies[0].rank == rank), key=lambda each: each.loss)
            yield from sorted((each for each in pool if self.good(each)), key=lambda each: each.price)[:2]
            before = current
            for count, each in enumerate(pool):
                progress(count / len(pool), f"trying {each.remedies[0].words} with what helped")
                if current is None:
                    current = each
                elif len(current.remedies) < TOGETHER and not _covers(current, each):
                    both = self._try((*current.remedies, *each.remedies))
                    current = both if both.loss <= HELPS * current.loss else current
            assert current is not None
            if current is not before and self.good(current):
                yield self._pruned(current)
                yield current
        yield min(self.done, key=lambda each: each.loss)

    def good(self, tried: Tried) -> bool:
        """Whether what is left on calibration data lets one hope."""
        return tried.harm is not None and tried.loss <= max(1.0, self.allowed) * tolerated(tried.harm.unit)

    def _pruned(self, tried: Tried) -> Tried:
        """Without the remedies that it does as well without."""
        current = tried
        for remedy in sorted(tried.remedies, key=lambda each: -each.rank):
            left = tuple(each for each in current.remedies if each is not remedy)
            if not left:
                break
            without = self._try(left)
            if without.loss <= 1.05 * current.loss or (self.good(without) and self.good(current)):
                current = without
        return current

    def _try(self, remedies: tuple[Remedy, ...]) -> Tried:
        plan = self.plan
        for each in sorted(remedies, key=lambda each: each.rank):
            plan = each.change(plan)
        key = _key(plan)
        if key not in self._known:
            try:
                made = apply_plan(self.model, plan, self.observed(plan))[0]
                self._known[key] = self.bench.harm(made), constant_bytes(made), ""
            except UsageError as error:
                self._known[key] = None, 0, str(error)
        found = Tried(remedies, plan, *self._known[key])
        self.done.append(found)
        return found


def _covers(current: Tried, other: Tried) -> bool:
    """Whether the change of the one is in the other already."""
    remedy = other.remedies[0]
    return remedy in current.remedies or _key(remedy.change(current.plan)) == _key(current.plan)


def _key(plan: Plan) -> str:
    return plan.to_json()


def constant_bytes(model: ir.Model) -> int:
    """What a graph's constants take, each once; four-bit ones half a byte."""
    found = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    return int(found)
