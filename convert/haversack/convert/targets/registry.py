"""One registry of op lowerings a target, in which the Python signature of a lowering is its schema.

A lowering takes the target's builder, then the node's inputs positionally (an omitted optional input is None), then
the attributes as keywords with ONNX's defaults:

    LOWERINGS = Registry("tflite")
    lowers = LOWERINGS.lowers

    @lowers("Gather")
    def gather(b: Builder, data: Value, indices: Value, *, axis: int = 0) -> Value: ...

`Registry.call` binds a node to it with `inspect.signature(...).bind`, so an attribute or input that nobody handles is
an error that names the node, never something ignored.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets.refusals import unlowered

Lowering = Callable[..., Any]


class Registry:
    """The lowerings of one target, by ONNX operator.

    Args:
        target: The target's name, for messages.
        package: The package whose modules register lowerings here.
        families: The names of those modules.
    """

    def __init__(self, target: str, package: str = "", families: Sequence[str] = ()):
        self.target = target
        self._modules = [f"{package}.{family}" for family in families]
        self._lowerings: dict[str, Lowering] = {}

    def load(self) -> Registry:
        """Import every family, so that the registry is full, and return it."""
        for module in self._modules:
            importlib.import_module(module)
        return self

    def lowers(self, *ops: str) -> Callable[[Lowering], Lowering]:
        """Register the decorated function as the lowering of `ops` (of the default domain).

        Raises:
            ValueError: One of them has a lowering already.
        """

        def register(lowering: Lowering) -> Lowering:
            for op in ops:
                if op in self._lowerings:
                    raise ValueError(f"{self.target}: {op} is lowered twice")
                self._lowerings[op] = lowering
            return lowering

        return register

    def table(self, make: Callable[[Any], Lowering], rows: Mapping[str, Any]) -> None:
        """Register plain one-to-one ops: `make(row)` builds the lowering of each `op: row`."""
        for op, row in rows.items():
            self.lowers(op)(make(row))

    def __contains__(self, op: str) -> bool:
        return op in self._lowerings

    def ops(self) -> list[str]:
        """The ONNX operators that have a lowering, sorted."""
        return sorted(self._lowerings)

    def call(
        self, builder: object, op: str, name: str, inputs: Sequence[object], attributes: Mapping[str, object]
    ) -> Any:
        """Lower one node.

        Args:
            builder: The target's builder.
            op: The node's operator.
            name: The node's name, for messages.
            inputs: One a graph input of the node, None where an optional one is omitted.
            attributes: By ONNX name, as Python values.

        Raises:
            UnsupportedError: No lowering, or an input or attribute that the lowering does not take.
        """
        if op not in self._lowerings:
            raise UnsupportedError(self.target, [unlowered(self.target, name, op)])
        lowering = self._lowerings[op]
        try:
            bound = _signature(lowering).bind(builder, *inputs, **attributes)
        except TypeError as error:
            raise UnsupportedError(
                self.target, [Blocker(name, op, f"not handled: {error}", "remove that input or attribute")]
            ) from None
        return lowering(*bound.args, **bound.kwargs)


def registries() -> dict[str, Registry]:
    """The registry of each target that lowers op by op, full."""
    names = ("tflite", "coreml")
    return {name: importlib.import_module(f"haversack.convert.targets.{name}.ops").LOWERINGS.load() for name in names}


@functools.cache
def _signature(lowering: Lowering) -> inspect.Signature:
    return inspect.signature(lowering)
