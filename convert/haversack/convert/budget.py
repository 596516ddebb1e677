"""What the user can afford, and whether a measured variant keeps to it. Imports nothing heavy.

`pack` judges each variant that it made, the search each candidate, `check` each variant of a bundle; they all call
`judge`. A budget that could not be measured is not met: nothing is promised that was not seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haversack.convert.errors import UsageError
from haversack.convert.measured import Accuracy
from haversack.convert.names import latency_of
from haversack.convert.report import Judgement, Variant

ROUNDING = 1e-9
"""Points: a drop of 1.0 that floating point makes 1.0000000000000009 is a drop of 1.0."""

MAX_BENCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Budget:
    """What a variant may cost; None where it does not matter.

    Attributes:
        max_drop: How much worse than the source it may be: percentage points, or the metric's own unit (an mse).
        confident: Judge the drop by the bound of its 95 % interval, not by the measured difference.
        max_size: Bytes on disk.
        max_gzip: Bytes over the wire, one gzip stream.
        max_wire: Bytes over the wire, one brotli stream.
        max_latency: Milliseconds, the median of a call with one sample.
        device: Whose latency that is; None: this machine's.
        latencies: The device's own measurements, milliseconds by the artifact's SHA-256 or the variant's id; they
            stand in for this machine's.
        min_accuracy: The metric's least value (for an error, its largest): a fraction of 1 for an accuracy.
        verified: It must have been executed and keep its recipe's contract.
    """

    max_drop: float | None = None
    confident: bool = False
    max_size: int | None = None
    max_gzip: int | None = None
    max_wire: int | None = None
    max_latency: float | None = None
    device: str | None = None
    latencies: Mapping[str, float] = field(default_factory=dict)
    min_accuracy: float | None = None
    verified: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        asked = (self.max_drop, self.max_size, self.max_gzip, self.max_wire, self.max_latency, self.min_accuracy)
        return self.verified or any(each is not None for each in asked)


def budget_of(
    max_drop: float | None = None,
    max_size: int | None = None,
    max_wire: int | None = None,
    max_latency: str | None = None,
    bench: str | Path | None = None,
    *,
    confident: bool = False,
) -> Budget:
    """A budget from what the command line says.

    Raises:
        UsageError: A latency is written otherwise, or names a device without its measurements, or the other way round.
    """
    milliseconds, device = (None, None) if max_latency is None else latency_of(max_latency)
    if device is not None and bench is None:
        raise UsageError(
            f"--max-latency {max_latency}: give {device}'s own measurements with --bench, as haversack bench --json "
            "writes them there"
        )
    if bench is not None and device is None:
        raise UsageError("--bench has another device's latencies; name it: --max-latency 2ms@DEVICE")
    if confident and max_drop is None:
        raise UsageError("--confident says how --max-drop is judged; give --max-drop too")
    return Budget(
        max_drop=max_drop,
        confident=confident,
        max_size=max_size,
        max_wire=max_wire,
        max_latency=milliseconds,
        device=device,
        latencies={} if bench is None else device_latencies(Path(bench)),
    )


def judge(variant: Variant, budget: Budget) -> tuple[Judgement, ...]:
    """Hold what was measured of a variant against each limit of a budget, in the order of `Budget`'s fields."""
    found = []
    if budget.max_drop is not None:
        found.append(_drop(variant.accuracy, budget.max_drop, confident=budget.confident))
    sizes = (
        ("max_size", budget.max_size, variant.own("bytes"), "bytes"),
        ("max_gzip", budget.max_gzip, variant.own("gzip_bytes"), "bytes with gzip"),
        ("max_wire", budget.max_wire, variant.own("brotli_bytes"), "bytes with brotli"),
    )
    found += [_size(name, limit, value, unit) for name, limit, value, unit in sizes if limit is not None]
    if budget.max_latency is not None and not unjudged(variant, budget):
        found.append(_latency(variant, budget))
    if budget.min_accuracy is not None:
        found.append(_level(variant.accuracy, budget.min_accuracy))
    if budget.verified:
        executed = variant.verification.verified
        found.append(Judgement("verified", executed, "verified", "verified" if executed else "not verified"))
    return tuple(found)


def unjudged(variant: Variant, budget: Budget) -> bool:
    """Whether a latency on this machine is asked of what no device's engine runs here: it then says nothing of it."""
    return budget.max_latency is not None and budget.device is None and bool(variant.verification.label)


def fits(variant: Variant, budget: Budget) -> bool:
    """Whether the variant keeps to all of it."""
    return all(judgement.met for judgement in judge(variant, budget))


def misses(variants: Sequence[Variant], targets: Sequence[str], budget: Budget) -> tuple[str, ...]:
    """One sentence for each target of which no variant keeps to the budget, with what was measured of each."""
    told = []
    for target in dict.fromkeys(targets) if budget else ():
        own = [variant for variant in variants if variant.target == target]
        if not own:
            told.append(f"{target}: no variant could be made")
        elif not any(fits(variant, budget) for variant in own):
            spent = (f"{variant.compression} {_spent(judge(variant, budget))}" for variant in own)
            told.append(f"{target}: no variant fits {asked(budget)}; measured: {', '.join(spent)}")
    return tuple(told)


def _spent(judged: Sequence[Judgement]) -> str:
    return " ".join(f"drop {each.measured}" if each.value is not None and each.budget == "max_drop" else each.measured
                    for each in judged)  # fmt: skip


def asked(budget: Budget) -> str:
    """The budget in words: `a drop of 1 point and 60,000 bytes`."""
    told = []
    if budget.max_drop is not None:
        bound = " by the 95 % bound" if budget.confident else ""
        told.append(f"a drop of {points(budget.max_drop)}{bound}")
    for limit, unit in (
        (budget.max_size, "bytes"),
        (budget.max_gzip, "bytes with gzip"),
        (budget.max_wire, "bytes with brotli"),
    ):
        told += [] if limit is None else [f"{limit:,} {unit}"]
    if budget.max_latency is not None:
        told.append(f"{duration(budget.max_latency)} on {budget.device or 'this machine'}")
    if budget.min_accuracy is not None:
        told.append(f"an accuracy of {budget.min_accuracy:g}")
    return " and ".join([*told, *(["being verified"] if budget.verified else [])])


def points(value: float) -> str:
    """A number of points in words."""
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def duration(milliseconds: float) -> str:
    """Milliseconds, or microseconds below one."""
    return f"{milliseconds:.3g} ms" if milliseconds >= 1 else f"{1e3 * milliseconds:.3g} µs"


def device_latencies(path: Path) -> dict[str, float]:
    """What `haversack bench --json` measured on another device: its medians in milliseconds.

    A row that has the artifact's SHA-256 counts for that artifact alone; a row without one, for the variant of its
    name (`kws.haversack:tflite-int8`), whatever its bytes.

    Raises:
        UsageError: It is no such file.
    """
    try:
        if path.stat().st_size > MAX_BENCH_BYTES:
            raise UsageError(f"{path.name}: too large for what haversack bench --json writes")
        found = {}
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            milliseconds = float(row["latency"]["p50"])
            if not 0 <= milliseconds < math.inf:
                raise ValueError(f"a latency of {milliseconds}")
            found[row.get("sha256") or str(row["artifact"]).rpartition(":")[2]] = milliseconds
    except OSError as error:
        raise UsageError(f"--bench {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{path.name}: not what haversack bench --json writes") from None
    return found


def _drop(accuracy: Accuracy | None, limit: float, *, confident: bool) -> Judgement:
    unit = points(limit) if accuracy is None or accuracy.unit == "points" else f"{limit:g} of {accuracy.metric}"
    allowed = f"{unit} by the 95 % bound" if confident else unit
    if accuracy is None:
        return Judgement("max_drop", False, allowed, "no accuracy was measured", limit)
    value = accuracy.drop_bound if confident else accuracy.drop
    places = ".2f" if accuracy.unit == "points" else ".3g"
    told = f"{accuracy.drop:{places}} [at most {accuracy.drop_bound:{places}}]"
    if accuracy.stands_in:
        told += " (agreement with the source)"
    return Judgement("max_drop", value <= limit + ROUNDING, allowed, told, limit, value)


def _size(name: str, limit: int, value: int | None, unit: str) -> Judgement:
    allowed = f"{limit:,} {unit}"
    if value is None:
        return Judgement(name, False, allowed, f"{unit} not measured", limit)
    return Judgement(name, value <= limit, allowed, f"{value:,} {unit}", limit, value)


def _latency(variant: Variant, budget: Budget) -> Judgement:
    assert budget.max_latency is not None
    where = budget.device or "this machine"
    allowed = f"{duration(budget.max_latency)} on {where}"
    value = None if variant.latency is None else variant.latency.p50
    if budget.device is not None:
        value = budget.latencies.get(variant.sha256, budget.latencies.get(variant_id(variant)))
    if value is None:
        return Judgement("max_latency", False, allowed, f"no latency measured on {where}", budget.max_latency)
    told = f"{duration(value)} on {where}"
    return Judgement("max_latency", value <= budget.max_latency, allowed, told, budget.max_latency, value)


def _level(accuracy: Accuracy | None, limit: float) -> Judgement:
    name = "accuracy" if accuracy is None else accuracy.metric
    allowed = f"{name} {limit:g}"
    if accuracy is None or accuracy.stands_in:
        return Judgement("min_accuracy", False, allowed, "no accuracy was measured on labels", limit)
    met = (accuracy.value >= limit - ROUNDING) if accuracy.higher_is_better else (accuracy.value <= limit + ROUNDING)
    return Judgement("min_accuracy", met, allowed, f"{accuracy.value:.4f}", limit, accuracy.value)


def variant_id(variant: Variant) -> str:
    """The variant's id in a bundle."""
    return f"{variant.target}-{variant.compression}"
