"""Looking inside a `.tflite` artifact: an operator in a file of its own, and the file cut off behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from haversack.convert.targets import Layer
from haversack.convert.targets.tflite import extract
from haversack.runtimes.engines import Array, Engine
from haversack.runtimes.engines.litert import open_artifact

Handle = int | str


class TfliteProbe:
    """A TFLite file; handles are tensor indices.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.content = path.read_bytes()
        self._cut: dict[tuple[int, ...], Engine] = {}

    def alone(self, layer: Layer, feeds: Mapping[Handle, Array]) -> dict[Handle, Array]:
        """Run the operator that computes the layer's outputs, in a file of its own."""
        outputs = [int(tap.tensor) for tap in layer.outputs]
        piece = extract.between(self.content, [int(name) for name in feeds], outputs)
        engine = open_artifact(piece)
        given = [np.ascontiguousarray(value) for value in feeds.values()]
        results = engine.run({spec.name: value for spec, value in zip(engine.inputs, given, strict=True)})
        return dict(zip(outputs, results.values(), strict=True))

    def values(self, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
        """Run the file cut off behind the layer."""
        outputs = tuple(int(tap.tensor) for tap in layer.outputs)
        if outputs not in self._cut:
            self._cut[outputs] = open_artifact(extract.truncate(self.content, outputs))
        engine = self._cut[outputs]
        names = {spec.name for spec in engine.inputs}
        results = engine.run({name: value for name, value in feeds.items() if name in names})
        return dict(zip(outputs, results.values(), strict=True))
