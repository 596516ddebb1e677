"""The TFLite graph in memory: tensors, operators, and what a whole file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from haversack.runtimes.engines import Array

Vary = Literal["", "same", "pads"]
"""Whether sizes vary: not, or where windows skip elements either with TFLite's SAME, or with pads written out."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """How integers stand for real numbers: `real = scale * (integer - zero_point)`.

    Attributes:
        scale: float32, one entry, or one per index of `axis`.
        zero_point: int64, as many entries as `scale`.
        axis: The axis that per-channel scales run along.
    """

    scale: Array
    zero_point: Array
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale.size > 1

    def same(self, other: Quantization | None) -> bool:
        """Whether both map integers to the same numbers."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.axis == other.axis or not self.per_channel)
        )


def per_tensor(scale: float, zero_point: int = 0) -> Quantization:
    """One scale and zero point for a whole tensor."""
    return Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))


@dataclass(eq=False)
class Tensor:
    """One tensor of the file. Tensors are compared by identity.

    Attributes:
        shape: Static sizes.
        dtype: NumPy's name of the stored element type.
        data: The value of a constant, None for an activation.
        quantization: Where given, the integers stand for float32 numbers.
        widened: A float16 constant that stands for its float32 value.
        free: Axes of a model input or output whose size may be changed at run time.
    """

    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quantization: Quantization | None = None
    widened: bool = False
    free: tuple[int, ...] = ()

    @property
    def nominal(self) -> str:
        """The element type that the tensor stands for: float32 for a quantized tensor."""
        return "float32" if self.quantization is not None or self.widened else self.dtype

    @property
    def compressed(self) -> bool:
        """Whether it is stored as something else than it stands for."""
        return self.quantization is not None or self.widened

    @property
    def constant(self) -> bool:
        """Whether its value is known."""
        return self.data is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stored(self) -> Array | None:
        """The data of a constant as the file has it: of int4 two numbers a byte, the first in the low half."""
        if self.data is None or self.dtype != "int4":
            return self.data
        halves = self.data.astype(np.int8).reshape(-1).view(np.uint8) & 15
        halves = np.append(halves, np.zeros(halves.size % 2, np.uint8))
        return np.asarray(halves[::2] | halves[1::2] << 4)

    def in_bytes(self) -> Tensor:
        """An int4 constant as int8, the same numbers; any other tensor as it is."""
        if self.data is None or self.dtype != "int4":
            return self
        return Tensor(self.shape, "int8", self.data.astype(np.int8), self.quantization)

    def value(self) -> Array:
        """What a constant stands for, dequantized or widened.

        Raises:
            ValueError: It is not a constant.
        """
        if self.data is None:
            raise ValueError("an activation has no value")
        if self.widened:
            return self.data.astype(np.float32)
        if self.quantization is None:
            return self.data
        q = self.quantization
        if not q.per_channel:
            return np.asarray((self.data.astype(np.float32) - np.float32(q.zero_point[0])) * q.scale[0])
        shape = [1] * len(self.shape)
        shape[q.axis] = -1
        centred = self.data.astype(np.float32) - q.zero_point.astype(np.float32).reshape(shape)
        return np.asarray(centred * q.scale.reshape(shape))


@dataclass(eq=False)
class Operator:
    """One operator of the file.

    Attributes:
        code: Its name in `BuiltinOperator`.
        inputs: In the kernel's order; None where an optional one is left out.
        outputs: In the kernel's order.
        options: Fields of its options table that differ from the schema's default.
        node: Name of the hub node that it computes or helps to compute.
        subgraphs: What control flow runs, in the order of the fields of its options: condition and body, or then and
            else. They read nothing but their inputs and constants.
    """

    code: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any]
    node: str
    subgraphs: tuple[Graph, ...] = ()

    @property
    def activations(self) -> list[Tensor]:
        """The inputs that are not constants."""
        return [tensor for tensor in self.inputs if tensor is not None and not tensor.constant]


@dataclass
class Graph:
    """A whole file, or a subgraph that control flow runs.

    Attributes:
        inputs: Tensors by the model's names, in order; those of a subgraph have the name "".
        outputs: Tensors by the model's names, in order; one tensor may carry two names.
        operators: In execution order.
        sizes_vary: Whether it must serve other sizes of the axes beside the batch.
    """

    inputs: list[tuple[str, Tensor]] = field(default_factory=list)
    outputs: list[tuple[str, Tensor]] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    sizes_vary: Vary = ""

    def graphs(self) -> list[Graph]:
        """This graph and every subgraph inside it, in the order in which the file numbers them."""
        found = [self]
        for operator in self.operators:
            for subgraph in operator.subgraphs:
                found += subgraph.graphs()
        return found

    def producers(self) -> dict[int, Operator]:
        """`id(tensor)` to the operator that computes it."""
        return {id(tensor): operator for operator in self.operators for tensor in operator.outputs}

    def uses(self) -> dict[int, int]:
        """`id(tensor)` to how many operator inputs and model outputs read it."""
        counts: dict[int, int] = {}
        for operator in self.operators:
            for tensor in operator.activations:
                counts[id(tensor)] = counts.get(id(tensor), 0) + 1
        for _, tensor in self.outputs:
            counts[id(tensor)] = counts.get(id(tensor), 0) + 1
        return counts

    def tensors(self) -> list[Tensor]:
        """Every tensor once: inputs first, then in order of use."""
        seen: dict[int, Tensor] = {id(tensor): tensor for _, tensor in self.inputs}
        for operator in self.operators:
            for tensor in (*operator.inputs, *operator.outputs):
                if tensor is not None:
                    seen.setdefault(id(tensor), tensor)
        for _, tensor in self.outputs:
            seen.setdefault(id(tensor), tensor)
        return list(seen.values())
