"""The rows that the dashboard shows: one a variant, from a bundle's manifest and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from haversack.runtimes.bundle import Bundle
from haversack.runtimes.engines import ENGINES

REFERENCE_EVALUATED = "reference-evaluated"
TARGET_NAMES = {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX Runtime", "web": "Web"}


@dataclass(frozen=True)
class Row:
    """One variant as the table has it.

    Attributes:
        id: The variant's id in the bundle.
        target: The target's name for people.
        compression: The recipe.
        bytes: Size of the artifact.
        gzip_bytes: Size of one gzip stream over it; None where the bundle does not say.
        accuracy: Top-1 in percent; None without labels.
        low: Lower bound of its 95 % interval, in percent.
        high: Its upper bound.
        difference: Accuracy minus the source's on the same samples, in points.
        agreement: Predictions that are the source's, in percent.
        p50: Median latency in milliseconds; None where it was not measured on a real engine.
        p95: 95th percentile.
        p99: 99th percentile.
        verified: `yes`, `yes (reference-evaluated)` or `no`.
        judged_by: What executed it.
        engine: Name of the engine that runs it.
    """

    id: str
    target: str
    compression: str
    bytes: int
    gzip_bytes: int | None
    accuracy: float | None
    low: float | None
    high: float | None
    difference: float | None
    agreement: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    verified: str
    judged_by: str
    engine: str


def rows(bundle: Bundle) -> list[Row]:
    """The rows of a bundle, in its own order."""
    found = []
    for variant in bundle.manifest.variants:
        measured = bundle.measurements.variants.get(variant.id)
        facts: dict[str, Any] = dict(measured.facts) if measured else {}
        interval: dict[str, Any] = facts.get("accuracy") or {}
        latency = measured.latencies[0] if measured and measured.latencies else None
        verified = "no"
        if variant.verified:
            verified = f"yes ({REFERENCE_EVALUATED})" if variant.emulated else "yes"
        found.append(
            Row(
                id=variant.id,
                target=TARGET_NAMES.get(variant.target, variant.target),
                compression=variant.compression,
                bytes=variant.file.bytes,
                gzip_bytes=facts.get("gzip_bytes"),
                accuracy=_percent(measured.accuracy if measured else None),
                low=_percent(interval.get("low")),
                high=_percent(interval.get("high")),
                difference=_percent(interval.get("difference")),
                agreement=_percent(measured.agreement if measured else None),
                p50=latency.p50_ms if latency else None,
                p95=latency.p95_ms if latency else None,
                p99=latency.p99_ms if latency else None,
                verified=verified,
                judged_by=variant.judged_by,
                engine=ENGINES.get("." + variant.file.path.rpartition(".")[2], ("", ""))[0],
            )
        )
    return found


def frame(found: Sequence[Row]) -> pd.DataFrame:
    """The rows as a data frame whose columns are `Row`'s fields."""
    return pd.DataFrame([vars(row) for row in found], columns=list(Row.__dataclass_fields__))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
