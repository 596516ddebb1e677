"""`haversack check`: a bundle held against a budget, and against an older bundle, by what is written in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from haversack.convert.budget import ROUNDING, duration, judge, points
from haversack.convert.budget_file import NUMBERS, SIZES, BudgetFile, Growth, Section, read_budget
from haversack.convert.bundle_contents import described
from haversack.convert.errors import UsageError
from haversack.convert.measured import Latency
from haversack.convert.report import BudgetCheck, BudgetRow, Judgement, Variant
from haversack.runtimes import measurements
from haversack.runtimes.bundle import open_bundle

SPELLED = {name: key for key, name in {**SIZES, **NUMBERS}.items()}
"""How a file spells the names of limits."""


@dataclass(frozen=True)
class Held:
    """What a bundle says.

    Attributes:
        variants: By id.
        latencies: All that were measured of each, by id.
        evaluation: SHA-256 of the evaluation data; None without.
    """

    variants: Mapping[str, Variant]
    latencies: Mapping[str, tuple[measurements.Latency, ...]]
    evaluation: str | None


def check(
    bundle: str | Path,
    *,
    budget: str | Path,
    baseline: str | Path | None = None,
    isolate: bool = False,
) -> BudgetCheck:
    """Hold a bundle against a budget by what was measured when it was made; nothing is executed.

    Args:
        bundle: A `.haversack`; the hashes of all that it holds are checked first.
        budget: A TOML file, see `budget_file`.
        baseline: An older bundle, for limits on growth.
        isolate: Do it in a fresh process with limits.

    Raises:
        UsageError: The budget cannot be meant, or needs a baseline and there is none.
        BundleError: A bundle is damaged or unsafe.
    """
    if isolate:
        from haversack.convert import isolated

        return isolated.check(Path(bundle), budget=Path(budget), baseline=None if baseline is None else Path(baseline))
    asked = read_budget(Path(budget))
    if asked.compares and baseline is None:
        raise UsageError(f"{asked.name} limits growth; say against which bundle with --baseline OLD.haversack")
    rows = judged(held(Path(bundle)), asked, None if baseline is None else held(Path(baseline)))
    met = all(row.judgement.met for row in rows)
    return BudgetCheck(str(bundle), "" if baseline is None else str(baseline), met, rows)


def held(path: Path) -> Held:
    """Read a bundle.

    Raises:
        BundleError: It is damaged, unsafe or of an unknown version.
    """
    with open_bundle(path) as opened:
        opened.verify()
        said, measured = opened.manifest, opened.measurements
    return Held(
        variants={variant.id: described(variant, measured.variants.get(variant.id)) for variant in said.variants},
        latencies={name: each.latencies for name, each in measured.variants.items()},
        evaluation=said.provenance.evaluation_sha256,
    )


def judged(new: Held, asked: BudgetFile, old: Held | None) -> tuple[BudgetRow, ...]:
    """Every line of a budget about every target and variant, in the file's order.

    Of a target's variants the one is told that keeps to most lines, of these the smallest: a target is within its
    budget where one variant keeps to all of it.
    """
    rows: list[BudgetRow] = []
    variants = [name for name in asked.sections if "-" in name]
    targets = [name for name in asked.sections if "-" not in name]
    if asked.common:
        targets += [target for target in _targets(new.variants) if target not in targets]
    for target in targets:
        own = [name for name, variant in new.variants.items() if variant.target == target]
        wanted = asked.section(target)
        if not own:
            rows.append(_absent(target))
            continue
        every = {name: _lines(name, wanted, new, old) for name in own}
        best = min(own, key=lambda name: (sum(not each.met for each in every[name]), new.variants[name].bytes))
        rows += [BudgetRow(target, best, each) for each in every[best]]
    for name in variants:
        if name not in new.variants:
            rows.append(_absent(name))
            continue
        # What is said of all targets or of its own was judged above; here only what is said of the variant.
        alone = BudgetFile(asked.name, {}, {name: asked.sections[name]}).section(name)
        rows += [BudgetRow(name, name, each) for each in _lines(name, alone, new, old)]
    return tuple(rows)


def _targets(variants: Mapping[str, Variant]) -> list[str]:
    return list(dict.fromkeys(variant.target for variant in variants.values()))


def _absent(subject: str) -> BudgetRow:
    return BudgetRow(subject, "", Judgement("present", False, "in the bundle", "the bundle has no such variant"))


def _lines(name: str, wanted: Section, new: Held, old: Held | None) -> list[Judgement]:
    budget, machine = wanted.budget, wanted.budget.device
    variant = dataclasses.replace(new.variants[name], latency=_latency(new, name, machine))
    where = machine if variant.latency is None else variant.latency.machine
    latencies = {} if variant.latency is None else {variant.sha256: variant.latency.p50}
    told = dataclasses.replace(budget, device=where or "any machine", latencies=latencies)
    lines = [dataclasses.replace(each, budget=SPELLED.get(each.budget, each.budget)) for each in judge(variant, told)]
    return [*lines, *_grown(name, variant, wanted.growth, old, machine, new)]


def _latency(bundle: Held, name: str, machine: str | None) -> Latency | None:
    """The fastest that was measured, where a machine is named only on that one."""
    rows = [row for row in bundle.latencies.get(name, ()) if machine is None or machine in row.machine]
    row = min(rows, key=lambda row: row.p50_ms, default=None)
    return None if row is None else Latency(
        row.p50_ms, row.p95_ms, row.p99_ms, row.runs, row.threads, row.engine, row.machine
    )  # fmt: skip


def _grown(
    name: str, variant: Variant, growth: Growth, old: Held | None, machine: str | None, new: Held
) -> Sequence[Judgement]:
    """How a variant stands against the same one of an older bundle."""
    if not growth or old is None:
        return ()
    before = old.variants.get(name)
    found = []
    if growth.max_growth_percent is not None:
        allowed = f"{growth.max_growth_percent:g} % more bytes"
        grown = None if before is None or not before.bytes else 100 * (variant.bytes / before.bytes - 1)
        told = "" if before is None else f"{variant.bytes:,} bytes, were {before.bytes:,}"
        found.append(_against("max_growth_percent", growth.max_growth_percent, grown, allowed, told, before))
    if growth.max_accuracy_loss is not None:
        allowed = f"{points(growth.max_accuracy_loss)} less accuracy"
        loss, told = _loss(variant, before, same=new.evaluation == old.evaluation)
        found.append(_against("max_accuracy_loss", growth.max_accuracy_loss, loss, allowed, told, before))
    if growth.max_latency_ratio is not None:
        allowed = f"{growth.max_latency_ratio:g} times the latency"
        now, was = variant.latency, _latency(old, name, machine)
        ratio, told = None, "no latency was measured in both"
        if now is not None and was is not None and (now.machine, now.engine) != (was.machine, was.engine):
            told = f"measured on {now.machine} by {now.engine}, were on {was.machine} by {was.engine}"
        elif now is not None and was is not None and was.p50 > 0:
            ratio, told = now.p50 / was.p50, f"{duration(now.p50)}, were {duration(was.p50)}, on {now.machine}"
        found.append(_against("max_latency_ratio", growth.max_latency_ratio, ratio, allowed, told, before))
    return found


def _loss(variant: Variant, before: Variant | None, *, same: bool) -> tuple[float | None, str]:
    now, was = variant.accuracy, None if before is None else before.accuracy
    if now is None or was is None:
        return None, "no accuracy was measured in both"
    if not same or (now.metric, now.against) != (was.metric, was.against):
        return None, "the two were measured on different evaluation data or by different metrics"
    scale = 100.0 if now.unit == "points" else 1.0
    loss = scale * (was.value - now.value if now.higher_is_better else now.value - was.value)
    return loss, f"{now.metric} {now.value:.4f}, was {was.value:.4f}"


def _against(
    name: str, limit: float, value: float | None, allowed: str, told: str, before: Variant | None
) -> Judgement:
    if before is None:
        return Judgement(name, False, allowed, "the baseline has no such variant", limit)
    return Judgement(name, value is not None and value <= limit + ROUNDING, allowed, told, limit, value)
