"""Core ML packages: Core ML itself on an Apple machine, a reference evaluator elsewhere.

The evaluator reads the saved package, compressed weights included, and executes its MIL program with NumPy. It shows
whether an artifact computes what the model computes. It does not show how fast a device runs it, nor the last bits:
Apple's compute units may keep other precision inside an op than the one the program declares.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path

import numpy as np

from haversack.runtimes.engines import Array, Engine, TensorSpec
from haversack.runtimes.engines.coreml.evaluate import Anomaly, Evaluator, Hook
from haversack.runtimes.engines.coreml.program import Feature, Program, ValueType, read_package
from haversack.runtimes.errors import EngineError, FeedError

EVALUATOR_VERSION = "1"


def open_artifact(path: Path, *, threads: int = 1) -> Engine:
    """Open a `.mlpackage`.

    Args:
        path: Its folder; never changed.
        threads: How many CPU threads a call may use. The evaluator has none of its own.

    Returns:
        Core ML itself where this is an Apple machine with coremltools installed, else the reference evaluator.

    Raises:
        EngineError: It is not an ML program, or holds an op that the engine does not know.
    """
    del threads
    if platform.system() == "Darwin" and util.find_spec("coremltools") is not None:
        from haversack.runtimes.engines.coreml.apple import AppleEngine

        return AppleEngine(path)
    return EvaluatorEngine(path)


class EvaluatorEngine:
    """The reference evaluator as an engine: results say what the artifact computes, never how fast a device is."""

    name = "coreml"
    version = f"reference evaluator {EVALUATOR_VERSION} (NumPy {metadata.version('numpy')})"
    emulated = True

    def __init__(self, path: Path) -> None:
        self.evaluator = Evaluator(read_package(path))
        program = self.evaluator.program
        declared = {item.name: item.type for item in self.evaluator.function.inputs}
        declared.update(self.evaluator.variables())
        self.inputs = tuple(spec(feature, declared) for feature in program.inputs)
        self.outputs = tuple(spec(feature, declared) for feature in program.outputs)
        held = [item for item in self.evaluator.function.inputs if item.type.kind == "state"]
        self.states = tuple(TensorSpec(item.name, item.type.storage, _sizes(item.type)) for item in held)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see `Engine.run`. States, where a model has them, start at zero in every run.

        Raises:
            FeedError: As `step`.
        """
        return self.step(feeds, None)

    def step(self, feeds: Mapping[str, Array], state: dict[str, Array] | None) -> dict[str, Array]:
        """Run once on states that outlive the run.

        Args:
            feeds: As for `run`.
            state: One array for each of `states`, by name; replaced by what the run leaves. None: zeros, forgotten.

        Raises:
            FeedError: An input's shape is not among those that the package's description allows.
        """
        for feature in self.evaluator.program.inputs:
            if feature.name in feeds and not feature.allows(feeds[feature.name].shape):
                raise FeedError(f"input '{feature.name}' cannot have the shape {list(feeds[feature.name].shape)}")
        return {
            name: value if isinstance(value, np.ndarray) else np.asarray(value)
            for name, value in self.evaluator.run(feeds, state=state).items()
        }


def _sizes(kind: ValueType) -> tuple[int | str, ...]:
    return tuple(size for size in kind.shape or () if size is not None)


def spec(feature: Feature, declared: Mapping[str, ValueType]) -> TensorSpec:
    """Describe an input or output by the type its program declares; a free dimension is named after its position."""
    kind = declared.get(feature.name)
    if kind is None or kind.kind != "tensor" or kind.shape is None:
        return TensorSpec(feature.name, feature.dtype or feature.kind, feature.shape)
    shape = tuple(f"{feature.name}_{axis}" if size is None else size for axis, size in enumerate(kind.shape))
    return TensorSpec(feature.name, kind.storage, shape)


__all__ = [
    "Anomaly",
    "EngineError",
    "Evaluator",
    "EvaluatorEngine",
    "Hook",
    "Program",
    "open_artifact",
    "read_package",
]
