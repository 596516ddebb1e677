"""The engines that execute artifacts, one module each, behind one protocol.

| engine        | artifact                | module            |
|---------------|-------------------------|-------------------|
| `litert`      | `.tflite`               | `litert.py`       |
| `onnxruntime` | `.onnx`, `.ort`, `.web` | `onnxruntime.py`  |
| `coreml`      | `.mlpackage`            | `coreml/`         |

Two more run only when they are asked for by name, in a real Chromium:

| `browser`     | `.onnx`, `.ort`, `.web` | `browser/`              |
| `litertjs`    | `.tflite`               | `browser/litertjs.py`   |

Only the module of the engine that is opened is imported, so a device needs one engine and no other.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from haversack.runtimes.errors import EngineError

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: The model's own name for it.
        dtype: NumPy's name of the element type, such as `float32`.
        shape: One entry an axis: a size, or the name of a symbolic dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Engine(Protocol):
    """One artifact, loaded once and run many times.

    Attributes:
        name: The engine's name in the table above.
        version: The version of the library that executes the artifact.
        emulated: True where this is not the runtime a device has (the Core ML reference evaluator): results say
            what the artifact computes, never how fast a device runs it.
        inputs: What `run` takes, in the artifact's order.
        outputs: What `run` gives, in the artifact's order.
    """

    name: str
    version: str
    emulated: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on `feeds` (one array an input, exact dtype and shape) and return the outputs by name."""
        ...


# suffix of an artifact -> (engine name, module that defines `open_artifact(path, *, threads) -> Engine`)
ENGINES: dict[str, tuple[str, str]] = {
    ".tflite": ("litert", "haversack.runtimes.engines.litert"),
    ".onnx": ("onnxruntime", "haversack.runtimes.engines.onnxruntime"),
    ".ort": ("onnxruntime", "haversack.runtimes.engines.onnxruntime"),
    ".mlpackage": ("coreml", "haversack.runtimes.engines.coreml"),
    # A folder for browsers; this runs the model in it on the machine itself.
    ".web": ("onnxruntime", "haversack.runtimes.engines.onnxruntime"),
}

FOLDERS = (".mlpackage", ".web")
"""Suffixes of artifacts that are folders."""

WEB_MODEL = "model.onnx"
"""The model in a `.web` folder."""

# engine name -> (suffixes, module): engines that no suffix means, only their name
BY_NAME: dict[str, tuple[tuple[str, ...], str]] = {
    "browser": ((".onnx", ".ort", ".web"), "haversack.runtimes.engines.browser"),
    "litertjs": ((".tflite",), "haversack.runtimes.engines.browser.litertjs"),
}

# engine name -> the module of its vendor that must be installed; the Core ML evaluator needs none
VENDORS: dict[str, str | None] = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime", "coreml": None}


def engine_name(path: str | Path) -> str | None:
    """The engine that runs a file of this suffix unless another is asked for, or None."""
    entry = ENGINES.get(Path(path).suffix)
    return entry[0] if entry else None


def engine_names() -> tuple[str, ...]:
    """Every engine, sorted."""
    return tuple(sorted({name for name, _ in ENGINES.values()} | set(BY_NAME)))


def runs(engine: str, path: str | Path) -> bool:
    """Whether an engine runs files of this suffix."""
    if engine in BY_NAME:
        return Path(path).suffix in BY_NAME[engine][0]
    return engine_name(path) == engine


def is_installed(engine: str) -> bool:
    """Whether an engine's vendor library is there; it is not imported to find out.

    The browser's engines need none: what they lack they say when they are opened.
    """
    vendor = VENDORS.get(engine)
    return vendor is None or importlib.util.find_spec(vendor) is not None


def open_engine(
    path: str | Path, *, threads: int = 1, content: bytes | None = None, engine: str | None = None
) -> Engine:
    """Open an artifact with the engine that its suffix names, or with the one asked for.

    Args:
        path: The artifact: a file, or the folder of a `.mlpackage` or a `.web`.
        threads: How many CPU threads one call may use.
        content: The bytes of the file, where it does not lie on the disk; `path` then only names it.
        engine: This one, by name.

    Raises:
        EngineError: The suffix is unknown, the engine is unknown, runs no such files or is not installed, or it
            rejects the artifact.
    """
    path = Path(path)
    if path.suffix not in ENGINES:
        known = ", ".join(ENGINES)
        raise EngineError(f"{path.name}: no engine runs this kind of file; known are {known}")
    name, module_name = ENGINES[path.suffix]
    if engine is not None and engine != name:
        check_runs(engine, path)
        name, module_name = engine, BY_NAME[engine][1]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise EngineError(f"{path.name} needs the {name} engine, which is not installed: {error}") from error
    if path.suffix == ".web" and name not in BY_NAME:
        path = path / WEB_MODEL
    if content is None:
        opened: Engine = module.open_artifact(path, threads=threads)
    else:
        opened = module.open_artifact(content, threads=threads, label=path.name)
    return opened


def check_runs(engine: str, path: str | Path) -> None:
    """Refuse an engine that does not run files of this suffix.

    Raises:
        EngineError: It does not, or there is no such engine.
    """
    if engine not in engine_names():
        raise EngineError(f"unknown engine {engine!r}; known are {', '.join(engine_names())}")
    if not runs(engine, path):
        others = [name for name in engine_names() if runs(name, path)]
        raise EngineError(f"{Path(path).name} runs in {' or '.join(others) or 'no engine'}, not in {engine}")


__all__ = [
    "BY_NAME",
    "ENGINES",
    "FOLDERS",
    "WEB_MODEL",
    "Array",
    "Engine",
    "TensorSpec",
    "check_runs",
    "engine_name",
    "engine_names",
    "is_installed",
    "open_engine",
    "runs",
]
