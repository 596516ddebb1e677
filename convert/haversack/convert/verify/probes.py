"""Looking inside an artifact, one way for each kind: a layer alone on given inputs, and the values of a whole run.

| artifact      | a layer alone                           | values of a whole run               | module            |
|---------------|-----------------------------------------|-------------------------------------|-------------------|
| `.tflite`     | a file with that one operator           | the file cut off behind it          | `probe_tflite.py` |
| `.onnx`       | the nodes between the layer's ends      | the model with these as its outputs | `probe_onnx.py`   |
| `.mlpackage`  | the operations between the layer's ends | a hook that sees every operation    | `probe_coreml.py` |

A delegate fuses operators and hides what lies between them, so that nothing less than cutting shows what runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from haversack.convert.errors import VerificationError
from haversack.convert.targets import Layer
from haversack.runtimes.engines import Array

Handle = int | str


class Probe(Protocol):
    """One artifact, opened for looking inside."""

    def alone(self, layer: Layer, feeds: Mapping[Handle, Array]) -> dict[Handle, Array]:
        """Run one layer on `feeds`, by its input taps' handles, and return its output taps' values."""
        ...

    def values(self, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
        """Run the artifact on `feeds`, by its own input names, and return the layer's output taps' values."""
        ...


def open_probe(path: Path) -> Probe:
    """Open an artifact for looking inside.

    Raises:
        VerificationError: There is no way to look into this kind of artifact.
    """
    if path.suffix == ".tflite":
        from haversack.convert.verify.probe_tflite import TfliteProbe

        return TfliteProbe(path)
    if path.suffix == ".onnx":
        from haversack.convert.verify.probe_onnx import OnnxProbe

        return OnnxProbe(path)
    if path.suffix == ".mlpackage":
        from haversack.convert.verify.probe_coreml import CoremlProbe

        return CoremlProbe(path)
    raise VerificationError(f"{path.name}: layers can be judged in .tflite, .onnx and .mlpackage only")
