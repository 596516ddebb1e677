"""Core ML itself, through coremltools, on an Apple machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml import spec
from haversack.runtimes.engines.coreml.program import read_package
from haversack.runtimes.errors import EngineError


class AppleEngine:
    """Core ML on its own CPU path, so that results do not depend on which accelerator a machine has."""

    name = "coreml"
    emulated = False

    def __init__(self, path: Path) -> None:
        import coremltools

        self.version = f"Core ML through coremltools {metadata.version('coremltools')}"
        program = read_package(path)
        declared = {item.name: item.type for item in program.functions[program.default_function].inputs}
        self.inputs = tuple(spec(feature, declared) for feature in program.inputs)
        self.outputs = tuple(spec(feature, declared) for feature in program.outputs)
        # coremltools rewrites the manifest of the folder that it opens, so it gets a copy.
        self._folder = tempfile.TemporaryDirectory(prefix="haversack-coreml-")
        copy = Path(self._folder.name) / path.name
        shutil.copytree(path, copy)
        try:
            self._model = coremltools.models.MLModel(str(copy), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        except Exception as error:
            raise EngineError(f"Core ML does not open {path.name}: {error}") from error

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; see `Engine.run`."""
        try:
            results = self._model.predict(dict(feeds))
        except Exception as error:
            raise EngineError(f"Core ML failed: {error}") from error
        return {output.name: np.asarray(results[output.name]) for output in self.outputs}
