"""What a variant is chosen by: what it costs, what it loses, and whether another beats it.

The front is the packer's own where the bundle says it, and found again by the same rule where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haversack.convert.bundle_contents import described, outcome
from haversack.convert.outcome import Outcome
from haversack.convert.planning.choice import fronts
from haversack.convert.planning.front import front
from haversack.convert.report import Variant
from haversack.demo.table import TARGET_NAMES
from haversack.runtimes.bundle import Bundle

DISK, WIRE, LATENCY = "bytes on disk", "bytes over the wire", "latency"
AXES = {DISK: "disk", WIRE: "wire", LATENCY: "took"}
"""What a variant costs, by its name on the page: the field of `Candidate`."""


@dataclass(frozen=True)
class Candidate:
    """One variant as a choice.

    Attributes:
        id: The variant's id in the bundle.
        target: The target's name for people.
        compression: The recipe's name or the plan's.
        planned: Whether a plan made it.
        disk: Bytes on disk; of a web variant without the engine, as budgets have it.
        wire: Bytes of one brotli stream, likewise; None where the bundle does not say.
        took: Median latency in milliseconds; None where it was not measured on a real engine.
        gain: How much better than the source it is, below 0 for worse: points, or the metric's own unit. Without an
            evaluation, the agreement with the source in percent.
        gain_low: Lower bound of its 95 % interval; None without.
        gain_high: Upper bound.
        value: The metric; for top-1 in percent. None without an evaluation.
        on_front: No other variant of the target beats it in everything measured.
        best: The packer's choice within the budget.
        variant: Everything else that the bundle says of it.
    """

    id: str
    target: str
    compression: str
    planned: bool
    disk: int
    wire: int | None
    took: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    value: float | None
    on_front: bool
    best: bool
    variant: Variant

    @property
    def name(self) -> str:
        """Target and compression for people."""
        return f"{self.target} {self.compression}"

    def cost(self, axis: str) -> float | None:
        """What it costs on one of `AXES`."""
        found: float | None = getattr(self, AXES[axis])
        return found


@dataclass(frozen=True)
class Choices:
    """All variants of a bundle, and what was asked of them.

    Attributes:
        candidates: In the bundle's order.
        outcome: What packing came to; of an older bundle its fields are empty.
        quality: What `Candidate.gain` is, as the title of an axis.
        labelled: Whether `gain` is against the source, on evaluation data.
    """

    candidates: tuple[Candidate, ...]
    outcome: Outcome
    quality: str
    labelled: bool

    @property
    def in_points(self) -> bool:
        """Whether drops are percentage points, not the metric's own unit."""
        return all(each.variant.accuracy is None or each.variant.accuracy.unit == "points" for each in self.candidates)

    @property
    def targets(self) -> list[str]:
        """Their names, in the bundle's order."""
        return list(dict.fromkeys(each.target for each in self.candidates))


def choices(bundle: Bundle) -> Choices:
    """The variants of a bundle as choices."""
    measurements = bundle.measurements
    said = outcome(measurements)
    entries = bundle.manifest.variants
    variants = [described(entry, measurements.variants.get(entry.id)) for entry in entries]
    found = said.front or fronts(variants)
    evaluated = [each.accuracy for each in variants if each.accuracy is not None]
    candidates = []
    for entry, variant in zip(entries, variants, strict=True):
        gain, low, high, value = _quality(variant, labelled=bool(evaluated))
        latency = None if entry.emulated or variant.latency is None else variant.latency.p50
        candidates.append(
            Candidate(
                id=entry.id,
                target=TARGET_NAMES.get(entry.target, entry.target),
                compression=entry.compression,
                planned="plan" in entry.recipe,
                disk=variant.own("bytes"),
                wire=variant.own("brotli_bytes"),
                took=latency,
                gain=gain,
                gain_low=low,
                gain_high=high,
                value=value,
                on_front=entry.compression in found.get(entry.target, ()),
                best=said.best.get(entry.target) == entry.compression,
                variant=variant,
            )
        )
    return Choices(tuple(candidates), said, _title(variants), bool(evaluated))


def steps(candidates: Sequence[Candidate], axis: str) -> list[Candidate]:
    """Of one target: what nothing beats in what the picture shows, cost along `axis` and quality; the cheapest first.

    A variant may be on the front for something else than what is shown, and then it is none of these.
    """
    shown = [each for each in candidates if each.cost(axis) is not None and each.gain is not None]
    found = front(shown, lambda each: (each.cost(axis), -(each.gain or 0.0)))
    return sorted(found, key=lambda each: each.cost(axis) or 0.0)


def _quality(variant: Variant, *, labelled: bool) -> tuple[float | None, float | None, float | None, float | None]:
    """Gain, its bounds, and the metric's value."""
    measured = variant.accuracy
    if measured is None:
        agreement = variant.verification.agreement
        return (None if labelled or agreement is None else 100 * agreement), None, None, None
    scale = 100.0 if measured.unit == "points" else 1.0
    bounds = (scale * measured.difference_low, scale * measured.difference_high)
    low, high = bounds if measured.higher_is_better else (-bounds[1], -bounds[0])
    return 0.0 - measured.drop, low, high, scale * measured.value


def _title(variants: Sequence[Variant]) -> str:
    for variant in variants:
        measured = variant.accuracy
        if measured is None:
            continue
        if measured.stands_in:
            return "agreement with the source, points"
        name = "accuracy" if measured.metric == "top1" else measured.metric
        if measured.unit == "points":
            return f"{name} against the source, points"
        return f"{name}: better than the source by"
    return "agreement with the source, %"
