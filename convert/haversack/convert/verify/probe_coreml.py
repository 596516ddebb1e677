"""Looking inside an `.mlpackage`: its operations executed one by one by the reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from haversack.convert.errors import VerificationError
from haversack.convert.targets import Layer
from haversack.runtimes.engines import Array

Handle = int | str


class CoremlProbe:
    """A package; handles are names of its program's variables.

    Args:
        path: The package.
    """

    def __init__(self, path: Path):
        from haversack.runtimes.engines.coreml.evaluate import Evaluator
        from haversack.runtimes.engines.coreml.program import read_package

        self.evaluator = Evaluator(read_package(path))
        self._variables = self.evaluator.variables()
        self._seen: tuple[int, dict[str, Any]] | None = None

    def alone(self, layer: Layer, feeds: Mapping[Handle, Array]) -> dict[Handle, Array]:
        """Execute the operations between `feeds` and the layer's outputs."""
        known: dict[str, Any] = {
            str(name): self._typed(str(name), value) for name, value in feeds.items() if str(name) in self._variables
        }
        for tap in layer.outputs:
            known.pop(str(tap.tensor), None)
        return {tap.tensor: self._value(str(tap.tensor), known) for tap in layer.outputs}

    def values(self, feeds: Mapping[str, Array], layer: Layer) -> dict[Handle, Array]:
        """Execute the whole program and pick the layer's outputs."""
        if self._seen is None or self._seen[0] != id(feeds):
            seen: dict[str, Any] = {}

            def remember(operation: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
                del operation, inputs
                seen.update(outputs)

            self.evaluator.run(feeds, hook=remember)
            self._seen = (id(feeds), seen)
        found = self._seen[1]
        return {tap.tensor: found[str(tap.tensor)] for tap in layer.outputs}

    def _value(self, name: str, known: dict[str, Any]) -> Any:
        """The value of `name`, computed from what is known; the walk is a loop because networks are deep."""
        pending = [name]
        while pending:
            current = pending[-1]
            if current in known:
                pending.pop()
                continue
            operation = self.evaluator.operation(current)
            bound = [each for values in operation.inputs.values() for each in values if isinstance(each, str)]
            reads = [each for each in bound if each in self._variables]
            missing = [each for each in reads if each not in known]
            if missing:
                if any(each in pending for each in missing):
                    raise VerificationError(f"the package's value {current!r} depends on itself")
                pending.extend(missing)
                continue
            known.update(self.evaluator.run_operation(current, {each: known[each] for each in reads}))
            pending.pop()
        return known[name]

    def _typed(self, name: str, value: Array) -> Array:
        """The value in the dtype that the program declares for it."""
        return np.ascontiguousarray(value, dtype=self._variables[name].storage)
