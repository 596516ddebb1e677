"""The rows that the dashboard shows: one a variant, from a bundle's manifest and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from haversack.convert.bundle_contents import described
from haversack.runtimes.bundle import Bundle
from haversack.runtimes.measurements import VariantMeasurements

REFERENCE_EVALUATED = "reference-evaluated"
TARGET_NAMES = {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX Runtime", "web": "Web"}


@dataclass(frozen=True)
class Row:
    """One variant as the table has it.

    Attributes:
        id: The variant's id in the bundle.
        target: The target's name for people.
        compression: The recipe.
        bytes: Size of the artifact, of a web folder without the engine in it; so are the next two.
        gzip_bytes: Size of one gzip stream over it; None where the bundle does not say.
        brotli_bytes: Size of one brotli stream; None likewise.
        accuracy: Top-1 in percent; None without labels.
        low: Lower bound of its 95 % interval, in percent.
        high: Its upper bound.
        difference: Accuracy minus the source's on the same samples, in points.
        difference_low: Lower bound of that paired difference's 95 % interval, in points.
        difference_high: Its upper bound.
        agreement: Predictions that are the source's, in percent.
        p50: Median latency in milliseconds; None where it was not measured on a real engine.
        p95: 95th percentile.
        p99: 99th percentile.
        verified: Whether it was executed and keeps its recipe's contract.
        emulated: It was executed by the reference evaluator, not by what a device has.
        judged_by: What executed it and what it was compared with.
    """

    id: str
    target: str
    compression: str
    bytes: int
    gzip_bytes: int | None
    brotli_bytes: int | None
    accuracy: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    agreement: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    verified: bool
    emulated: bool
    judged_by: str

    @property
    def name(self) -> str:
        """Target and compression for people."""
        return f"{self.target} {self.compression}"


def rows(bundle: Bundle) -> list[Row]:
    """The rows of a bundle, in its own order. Facts of another form than the packer writes are left out."""
    found = []
    for variant in bundle.manifest.variants:
        measured = bundle.measurements.variants.get(variant.id) or VariantMeasurements()
        accuracy = measured.facts.get("accuracy")
        interval: Mapping[str, Any] = accuracy if isinstance(accuracy, Mapping) else {}
        told = described(variant, measured)
        latency = measured.latencies[0] if measured.latencies and not variant.emulated else None
        found.append(
            Row(
                id=variant.id,
                target=TARGET_NAMES.get(variant.target, variant.target),
                compression=variant.compression,
                bytes=told.own("bytes"),
                gzip_bytes=told.own("gzip_bytes"),
                brotli_bytes=told.own("brotli_bytes"),
                accuracy=_percent(measured.accuracy),
                low=_percent(interval.get("low")),
                high=_percent(interval.get("high")),
                difference=_percent(interval.get("difference")),
                difference_low=_percent(interval.get("difference_low")),
                difference_high=_percent(interval.get("difference_high")),
                agreement=_percent(measured.agreement),
                p50=latency.p50_ms if latency else None,
                p95=latency.p95_ms if latency else None,
                p99=latency.p99_ms if latency else None,
                verified=variant.verified,
                emulated=variant.emulated,
                judged_by=variant.judged_by,
            )
        )
    return found


def _percent(share: object) -> float | None:
    return 100.0 * share if isinstance(share, int | float) else None
