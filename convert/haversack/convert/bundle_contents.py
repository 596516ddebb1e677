"""What a bundle says of itself and of its variants, as a report has it. Opens no model and imports no engine."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haversack.convert.deployment import Deployment
from haversack.convert.described import Tensor
from haversack.convert.engine_sizes import EngineSize
from haversack.convert.measured import Accuracy, Latency, Verification
from haversack.convert.outcome import Outcome, Tried
from haversack.convert.report import Contents, Part, Variant, decode
from haversack.runtimes import manifest
from haversack.runtimes.bundle import open_bundle
from haversack.runtimes.measurements import Measurements, VariantMeasurements


def contents(path: Path) -> Contents:
    """What a bundle says of itself.

    Raises:
        BundleError: It is damaged, unsafe or of an unknown version.
    """
    with open_bundle(path) as bundle:
        bundle.verify()
        said, measurements = bundle.manifest, bundle.measurements
    origin = said.provenance
    facts = {
        "source": f"{origin.source} ({origin.source_format}), sha256 {origin.source_sha256[:16]}",
        "calibration": origin.calibration or "",
        "evaluation": origin.evaluation or "",
        "training data": origin.training_data or "",
        "code commit": origin.code_commit or "",
        "hyperparameters": ", ".join(f"{key}={value}" for key, value in origin.hyperparameters.items()),
        "made": f"{measurements.date} on {measurements.machine}" if measurements.date else "",
        "tools": ", ".join(f"{name} {version}" for name, version in origin.tools.items()),
    }
    return Contents(
        name=said.name,
        schema=".".join(map(str, said.schema)),
        facts={name: text for name, text in facts.items() if text},
        inputs=tuple(Tensor(t.name, t.dtype, t.shape) for t in said.inputs),
        outputs=tuple(Tensor(t.name, t.dtype, t.shape) for t in said.outputs),
        labels=said.labels or (),
        variants=tuple(described(variant, measurements.variants.get(variant.id)) for variant in said.variants),
        outcome=outcome(measurements),
    )


def outcome(measurements: Measurements) -> Outcome:
    """What packing came to; what an older bundle does not say, or says in another form, is left out."""
    said = measurements.facts.get("outcome")
    if not isinstance(said, Mapping):
        return Outcome()
    device, objective = said.get("device"), said.get("objective")
    return Outcome(
        max_drop=_number(said.get("max_drop")),
        max_size=_count(said.get("max_size")),
        max_wire=_count(said.get("max_wire")),
        max_latency=_number(said.get("max_latency")),
        device=device if isinstance(device, str) else None,
        objective=objective if isinstance(objective, str) else None,
        confident=said.get("confident") is True,
        best={target: name for target, name in _entries(said, "best") if isinstance(name, str)},
        front={target: _strings(names) for target, names in _entries(said, "front")},
        tried=tuple(each for row in _list(said.get("tried")) if (each := _read(Tried, row)) is not None),
        relaxing=_strings(said.get("relaxing")),
        stages={name: taken for name, each in _entries(said, "stages") if (taken := _number(each)) is not None},
        engines={
            target: each for target, row in _entries(said, "engines") if (each := _read(EngineSize, row)) is not None
        },
    )


def described(entry: manifest.Variant, measured: VariantMeasurements | None) -> Variant:
    """A bundle's variant as a report has it; what the bundle does not say is left out."""
    facts = dict(measured.facts) if measured else {}
    proof: Verification | None = _read(Verification, facts.get("verification"))
    row = measured.latencies[0] if measured and measured.latencies else None
    timed = None if row is None else Latency(
        row.p50_ms, row.p95_ms, row.p99_ms, row.runs, row.threads, row.engine, row.machine
    )  # fmt: skip
    # Whether it is verified is said by the hashed part of the bundle alone.
    proof = dataclasses.replace(proof or Verification(False), verified=entry.verified)
    return Variant(
        target=entry.target,
        compression=entry.compression,
        path=entry.file.path,
        companions=tuple(file.path for file in entry.companions),
        bytes=entry.file.bytes,
        gzip_bytes=_count(facts.get("gzip_bytes")),
        brotli_bytes=_count(facts.get("brotli_bytes")),
        sha256=entry.file.sha256,
        verification=proof,
        accuracy=_read(Accuracy, facts.get("accuracy") or facts.get("metric")),
        latency=timed,
        notes=entry.notes,
        min_runtime=entry.min_runtime,
        deployment=_read(Deployment, facts.get("deployment")),
        parts=_parts(facts.get("parts")),
    )


def _read(kind: Any, value: object) -> Any:
    """A report from a bundle's facts; None where they are of another form than the packer writes."""
    try:
        found = decode(kind, value)
        hints = typing.get_type_hints(kind)
        for each in dataclasses.fields(kind):
            number = getattr(found, each.name, None)
            # What was infinite was written as null.
            if hints[each.name] in (int, float) and not isinstance(number, int | float | None):
                return None
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return found


def _parts(value: object) -> tuple[Part, ...]:
    found = [_read(Part, each) for each in value] if isinstance(value, list) else []
    return () if None in found else tuple(found)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _entries(said: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    found = said.get(name)
    return list(found.items()) if isinstance(found, Mapping) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _strings(value: object) -> tuple[str, ...]:
    return tuple(each for each in _list(value) if isinstance(each, str))
