"""What was measured, laid out for a decision: the front of each target, its best variant, and what more would buy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from haversack.convert.budget import Budget, fits, judge, points
from haversack.convert.outcome import Tried
from haversack.convert.planning.front import front
from haversack.convert.report import Variant

WORTH_SAYING = 0.01
"""A gain below this share is not worth a sentence."""


def key(variant: Variant) -> str:
    """The variant as reports name it."""
    return f"{variant.target}/{variant.compression}"


def measures(variant: Variant) -> tuple[float | None, ...]:
    """What the front is about: bytes on disk, bytes over the wire, what is lost, milliseconds. Smaller is better."""
    agreement = variant.verification.agreement
    lost = variant.accuracy.drop if variant.accuracy is not None else None if agreement is None else 1 - agreement
    took = None if variant.latency is None else variant.latency.p50
    return variant.own("bytes"), variant.own("brotli_bytes"), lost, took


def fronts(variants: Sequence[Variant]) -> dict[str, tuple[str, ...]]:
    """By target, the variants that no other of the target beats in everything measured, the smallest first."""
    found = {}
    for target in dict.fromkeys(variant.target for variant in variants):
        own = sorted((each for each in variants if each.target == target), key=lambda each: each.bytes)
        found[target] = tuple(each.compression for each in front(own, measures))
    return found


def best(variants: Sequence[Variant], budget: Budget, objective: str | None) -> dict[str, str]:
    """By target, the variant within the budget that is best at the objective; a target without one is left out.

    Without an objective that is the smallest on disk, for a page the smallest download.
    """
    found = {}
    for target in dict.fromkeys(variant.target for variant in variants):
        own = [each for each in variants if each.target == target and fits(each, budget)]
        rated = [(rank, index, each) for index, each in enumerate(own) if (rank := _rank(each, objective)) is not None]
        if rated:
            found[target] = min(rated)[2].compression
    return found


def _rank(variant: Variant, objective: str | None) -> float | None:
    size, wire, _, took = measures(variant)
    if objective is None and variant.target == "web" and wire is not None:
        return wire
    return {"wire": wire, "latency": took}.get(objective or "size", size)


def relaxing(variants: Sequence[Variant], budget: Budget, tried: Sequence[Tried]) -> tuple[str, ...]:
    """What it would take, or buy, to relax one part of the budget and keep the rest, a sentence each.

    Args:
        variants: Everything that was made and measured.
        budget: What was asked.
        tried: Plans that were executed as compressed models.
    """
    if not budget:
        return ()
    told = []
    for target in dict.fromkeys(variant.target for variant in variants):
        own = [each for each in variants if each.target == target]
        if not any(fits(each, budget) for each in own):
            told += _needed(target, own, budget)
    return (*told, *_bought(tried, budget))


_OPTIONS = {
    "max_drop": "--max-drop",
    "max_size": "--max-size",
    "max_wire": "--max-wire",
    "max_latency": "--max-latency",
}


def _needed(target: str, variants: Sequence[Variant], budget: Budget) -> list[str]:
    """For each part of the budget the least that it would have to be, all others kept."""
    told = []
    for name, option in _OPTIONS.items():
        if getattr(budget, name) is None:
            continue
        reached = []
        for variant in variants:
            judged = {each.budget: each for each in judge(variant, budget)}
            own = judged.pop(name)
            if own.value is not None and all(each.met for each in judged.values()):
                reached.append((own.value, variant.compression))
        if reached:
            value, compression = min(reached)
            told.append(f"{target}: {option} {_amount(name, value, budget.device)} would be enough ({compression})")
    return told


def _amount(name: str, value: float, device: str | None) -> str:
    """A limit that `value` keeps to, as the option reads it."""
    if name == "max_latency":
        told = f"{rounded_up(value):g}ms" if value >= 1 else f"{rounded_up(1e3 * value):g}us"
        return told if device is None else f"{told}@{device}"
    return f"{rounded_up(value):g}" if name == "max_drop" else f"{value:.0f}"


def rounded_up(value: float) -> float:
    """A number of three digits that is not below `value`; 0 of what is negative."""
    if value <= 0:
        return 0.0
    digits = 2 - math.floor(math.log10(value))
    step = 10.0**-digits
    told = round(math.ceil(value / step) * step, digits)
    return told if told >= value else round(told + step, digits)


def _bought(tried: Sequence[Tried], budget: Budget) -> list[str]:
    """What a larger drop would save, by the plans that were beyond the budget."""
    told: list[str] = []
    limit = budget.max_drop
    if limit is None:
        return told
    for family in dict.fromkeys(each.family for each in tried):
        own = [each for each in tried if each.family == family]
        within = min((each.bytes for each in own if each.drop <= limit), default=None)
        beyond = sorted((each for each in own if each.drop > limit), key=lambda each: each.drop)
        if within is None or not beyond:
            continue
        next_ = beyond[0]
        if next_.bytes < within * (1 - WORTH_SAYING):
            saved = within - next_.bytes
            told.append(f"{family}: a drop of {points(rounded_up(next_.drop))} would save another {saved:,.0f} bytes")
    return told
