"""What was measured of a bundle's variants, and where: `measurements.json`, outside the hashed and signed part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from haversack.runtimes.errors import BundleError
from haversack.runtimes.schemas.reader import Reader, load_json


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one warm call on one sample.

    Attributes:
        engine: Name of the engine, as in `haversack.runtimes.engines`.
        machine: Where, in words.
        threads: How many CPU threads a call might use.
        runs: How many calls were timed.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
    """

    engine: str
    machine: str
    threads: int
    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class VariantMeasurements:
    """What was measured of one variant.

    Attributes:
        accuracy: Share of right predictions, 0..1, on the evaluation data; None without labels.
        agreement: Share of predictions that are the source's, 0..1; None where it gives no class scores.
        latencies: One an engine and machine.
        facts: Further numbers for a report, as JSON values.
    """

    accuracy: float | None = None
    agreement: float | None = None
    latencies: tuple[Latency, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurements:
    """What was measured of a bundle.

    Attributes:
        date: ISO 8601, or empty.
        machine: Where the bundle was made, in words.
        variants: By the variant's id.
        facts: Further facts about the whole bundle, as JSON values.
    """

    date: str = ""
    machine: str = ""
    variants: Mapping[str, VariantMeasurements] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def latency(self, variant: str, engine: str) -> Latency | None:
        """The fastest measurement of a variant in an engine, or None."""
        rows = self.variants[variant].latencies if variant in self.variants else ()
        return min((row for row in rows if row.engine == engine), key=lambda row: row.p50_ms, default=None)

    def to_json(self) -> str:
        """The text of `measurements.json`.

        Raises:
            ValueError: A number is not finite, which JSON cannot hold.
        """
        variants = {
            name: {**vars(measured), "facts": dict(measured.facts), "latencies": [vars(x) for x in measured.latencies]}
            for name, measured in self.variants.items()
        }
        document = {"date": self.date, "machine": self.machine, "facts": dict(self.facts), "variants": variants}
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def parse_measurements(text: str | bytes) -> Measurements:
    """Read a `measurements.json`; keys that it does not know are skipped, since numbers are added over time.

    Raises:
        BundleError: It is no JSON, or a key has the wrong type.
    """
    r = Reader(load_json(text, "measurements.json"), "measurements.json")
    return Measurements(
        date=r.get("date", str, optional=True) or "",
        machine=r.get("machine", str, optional=True) or "",
        variants=r.mapping("variants", _variant),
        facts=_facts(r),
    )


def _variant(r: Reader) -> VariantMeasurements:
    return VariantMeasurements(
        accuracy=r.get("accuracy", float, optional=True),
        agreement=r.get("agreement", float, optional=True),
        latencies=r.children("latencies", _latency),
        facts=_facts(r),
    )


def _latency(r: Reader) -> Latency:
    latency = Latency(
        engine=r.need("engine", str),
        machine=r.need("machine", str),
        threads=r.need("threads", int),
        runs=r.need("runs", int),
        p50_ms=r.need("p50_ms", float),
        p95_ms=r.need("p95_ms", float),
        p99_ms=r.need("p99_ms", float),
    )
    if latency.p50_ms < 0:
        r.fail("a latency is negative")
    return latency


def _facts(r: Reader) -> dict[str, Any]:
    facts = r.raw("facts")
    if facts is not None and not isinstance(facts, dict):
        raise BundleError(f"{r.where}: facts must be an object")
    return facts or {}
