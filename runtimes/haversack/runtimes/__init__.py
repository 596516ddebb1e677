"""The offline runtime: loads a bundle or an artifact and runs it, with NumPy and one engine.

from haversack.runtimes import load

model = load("kws.haversack")
scores = model({"input_1": features})["Identity"]
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haversack.runtimes.bundle import Bundle, open_bundle
    from haversack.runtimes.engines import TensorSpec
    from haversack.runtimes.errors import BundleError, EngineError, FeedError, HaversackError
    from haversack.runtimes.golden import Check
    from haversack.runtimes.manifest import Manifest, Variant
    from haversack.runtimes.model import Model
    from haversack.runtimes.preprocess import Preprocess

# Imported when first used (PEP 562): the errors are needed where NumPy must not be imported, such as in the process
# that hands a model to a worker.
_WHERE = {
    "Bundle": "bundle",
    "open_bundle": "bundle",
    "TensorSpec": "engines",
    "BundleError": "errors",
    "EngineError": "errors",
    "FeedError": "errors",
    "HaversackError": "errors",
    "Check": "golden",
    "Manifest": "manifest",
    "Variant": "manifest",
    "Model": "model",
    "Preprocess": "preprocess",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def load(
    path: str | Path,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int = 1,
    verify: bool = False,
) -> Model:
    """Load a bundle or a bare artifact.

    Args:
        path: A `.haversack`, or an artifact (`.tflite`, `.onnx`, `.ort`, `.mlpackage`, `.web`).
        variant: Id of the bundle's variant; None takes the best for what is installed (`haversack.runtimes.selection`).
        engine: Only this engine: `litert`, `onnxruntime` or `coreml`; `browser` and `litertjs` run `.onnx` and
            `.ort`, and `.tflite`, in a Chromium.
        threads: How many CPU threads one call may use.
        verify: Check the hash of everything in the bundle, run the variant's golden vectors, and refuse the bundle if
            one is off.

    Raises:
        BundleError: The bundle is damaged, unsafe or of an unknown version, has no such variant, or failed `verify`.
        EngineError: The engine is not installed or rejects the artifact.
    """
    from haversack.runtimes.bundle import SUFFIX, open_bundle
    from haversack.runtimes.errors import BundleError, EngineError, HaversackError
    from haversack.runtimes.model import open_variant
    from haversack.runtimes.selection import choose, runnable

    path = Path(path)
    if threads < 1:
        raise EngineError(f"threads must be at least 1, found {threads}")
    if path.suffix != SUFFIX:
        return _load_artifact(path, variant, engine, threads, verify)
    with open_bundle(path) as bundle:
        if variant is None:
            chosen = choose(bundle.manifest, bundle.measurements, engine)
        else:
            chosen = bundle.variant(variant)
            runnable(chosen, engine)
        if verify:
            bundle.verify()
        model = open_variant(bundle, chosen, threads, engine)
    if verify:
        try:
            check = model.check()
        except HaversackError:
            model.close()
            raise
        if not check:
            model.close()
            raise BundleError(f"{path.name}: {chosen.id} failed its check: {check}")
    return model


def _load_artifact(path: Path, variant: str | None, engine: str | None, threads: int, verify: bool) -> Model:
    from haversack.runtimes.engines import check_runs, engine_name, open_engine
    from haversack.runtimes.errors import BundleError
    from haversack.runtimes.model import Model

    if not path.exists():
        raise BundleError(f"no such bundle or artifact: {path}")
    if variant is not None or verify:
        raise BundleError(f"{path.name} is a bare artifact: only a bundle has variants and golden vectors")
    if engine is not None and engine_name(path) is not None:
        check_runs(engine, path)
    return Model(open_engine(path, threads=threads, engine=engine))


__all__ = [
    "Bundle",
    "BundleError",
    "Check",
    "EngineError",
    "FeedError",
    "HaversackError",
    "Manifest",
    "Model",
    "Preprocess",
    "TensorSpec",
    "Variant",
    "load",
    "open_bundle",
]
