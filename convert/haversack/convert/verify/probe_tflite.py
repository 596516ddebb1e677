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
        graph, tensors = extract.read(self.content)
        index = {id(tensor): place for place, tensor in enumerate(tensors)}
        # A cut names its inputs after their tensors, whatever the whole file called them.
        self._inputs = {name: f"tensor_{index[id(tensor)]}" for name, tensor in graph.inputs}
        self._alone: dict[Layer, Engine] = {}
        self._cut: dict[Layer, Engine] = {}

    def alone(self, layer: Layer, feeds: Mapping[Handle, Array]) -> dict[Handle, Array]:
        """Run the operators between the layer's taps, in a file of their own."""
        if layer not in self._alone:
            self._alone[layer] = open_artifact(extract.layer(self.content, layer))
        return _run(self._alone[layer], {f"tensor_{name}": value for name, value in feeds.items()}, layer)

    def values(self, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
        """Run the file cut off behind the layer."""
        if layer not in self._cut:
            self._cut[layer] = open_artifact(extract.truncate(self.content, [int(tap.tensor) for tap in layer.outputs]))
        return _run(self._cut[layer], {self._inputs[name]: value for name, value in feeds.items()}, layer)


def _run(engine: Engine, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
    wanted = {spec.name for spec in engine.inputs}
    given = {name: np.ascontiguousarray(value) for name, value in feeds.items() if name in wanted}
    results = engine.run(given)
    return {tap.tensor: results[f"tensor_{tap.tensor}"] for tap in layer.outputs}
