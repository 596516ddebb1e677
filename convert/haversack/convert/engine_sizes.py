"""What the engine of each target adds to an app, where this installation can say: model and engine travel together.

The numbers are those of the shared library that is installed here, as a file and with brotli: an order of magnitude
for other systems, whose libraries differ by a factor of about two. Core ML is part of Apple's systems. A page fetches
onnxruntime-web once, and its cache keeps it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EngineSize:
    """What an engine adds to an app.

    Attributes:
        engine: Its name.
        bytes: Of its library, or of all files that a page fetches.
        what: What was looked at, in words.
    """

    engine: str
    bytes: int
    what: str


def engine_sizes(targets: Sequence[str]) -> dict[str, EngineSize]:
    """The engine of each target; a target whose engine is not installed here is left out."""
    found = {}
    for target in targets:
        if target == "coreml":
            found[target] = EngineSize("Core ML", 0, "part of the system")
        elif target == "tflite":
            _add(found, target, "LiteRT", _library("ai_edge_litert", ("libLiteRt.so", "libLiteRt.dylib")))
        elif target == "onnx":
            _add(found, target, "ONNX Runtime", _library("onnxruntime", ("capi/libonnxruntime.so*", "capi/*state*.so")))
        elif target == "web":
            from haversack.runtimes.engines.browser import vendored

            package = "onnxruntime-web"
            if vendored.is_here(package):
                _add(found, target, package, sorted(vendored.folder(package, verify=False).iterdir()))
    return found


def _add(found: dict[str, EngineSize], target: str, engine: str, files: Iterable[Path]) -> None:
    files = list(files)
    if files:
        names = ", ".join(sorted(path.name for path in files))
        found[target] = EngineSize(engine, sum(path.stat().st_size for path in files), f"{names} as installed here")


def _library(package: str, patterns: Sequence[str]) -> list[Path]:
    """The first file of an installed package that one of the patterns finds."""
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    for pattern in patterns:
        for folder in folders:
            for path in sorted(folder.glob(pattern)):
                if path.is_file():
                    return [path]
    return []
