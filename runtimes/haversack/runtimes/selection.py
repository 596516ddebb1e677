"""Which variant of a bundle runs here, where the caller does not say."""

from __future__ import annotations

import math

from haversack.runtimes.engines import BY_NAME, engine_name, engine_names, is_installed, runs
from haversack.runtimes.errors import BundleError, EngineError
from haversack.runtimes.manifest import Manifest, Variant
from haversack.runtimes.measurements import Measurements


def choose(manifest: Manifest, measurements: Measurements, engine: str | None = None) -> Variant:
    """The best variant for the engines that are installed.

    In this order: one that a device's own engine executes before one that is only emulated here; verified before not
    verified; the lowest median latency that the bundle has for it in its engine, wherever that was measured, before
    none; then the fewest bytes; then the id, so that the choice is always the same.

    Args:
        manifest: Of the bundle.
        measurements: Of the bundle.
        engine: Only variants that this engine runs.

    Raises:
        EngineError: The engine is unknown or not installed, or no installed engine runs any variant.
    """
    known = engine_names()
    if engine is not None and engine not in known:
        raise EngineError(f"unknown engine {engine!r}; known are {', '.join(known)}")
    if engine is not None and not is_installed(engine):
        raise EngineError(f"the {engine} engine is not installed")
    here = [name for name in known if name not in BY_NAME and is_installed(name)]
    wanted = [engine] if engine is not None else here
    fitting = [one for one in manifest.variants if any(runs(name, one.file.path) for name in wanted)]
    if not fitting:
        needed = sorted({name for variant in manifest.variants if (name := engine_name(variant.file.path))})
        raise EngineError(
            f"{manifest.name}: no variant runs in {', '.join(wanted)}; "
            f"its variants need {', '.join(needed) or 'other engines'}"
        )

    def rank(variant: Variant) -> tuple[bool, bool, float, int, str]:
        name = engine or engine_name(variant.file.path) or ""
        measured = measurements.latency(variant.id, name)
        latency = measured.p50_ms if measured else math.inf
        return variant.emulated or name == "coreml", not variant.verified, latency, variant.file.bytes, variant.id

    return min(fitting, key=rank)


def runnable(variant: Variant, engine: str | None) -> None:
    """Check that the variant a caller named runs in the engine that it named.

    Raises:
        BundleError: No engine runs it, or another one than asked for.
    """
    name = engine_name(variant.file.path)
    if name is None:
        raise BundleError(f"variant {variant.id}: no engine runs {variant.file.path}")
    if engine is not None and not runs(engine, variant.file.path):
        raise BundleError(f"variant {variant.id} runs in {name}, not in {engine}")
