"""What lowerings build a TFLite graph with.

A lowering says which kernels compute a node; the Builder sees to it that each kernel gets the element types it has:

- *Float.* A compressed input (int8 or float16 that stands for float32) is widened by a DEQUANTIZE; an element type
  that the kernel lacks is cast to a wider one and the result cast back.
- *Integer.* Where the hub quantizes a node's inputs and result, its kernels get int8 tensors. `Kernel.int8` says how
  the output's scale follows; what has no int8 kernel raises `NoInt8Kernel`, and the driver makes a float island.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor, Vary, per_tensor
from haversack.convert.targets.tflite.kernels import FIXED_SCALES, FIXED_SCALES_16, KERNELS, PROMOTIONS, Kernel
from haversack.convert.targets.tflite.schema import TENSOR_TYPES
from haversack.runtimes.engines import Array

Mode = Literal["plain", "integer", "hybrid"]

ROUNDS = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})
"""Kernels whose output has their input's scale, though their results lie between its steps."""

REWARDS_INT4 = frozenset({"FULLY_CONNECTED"})
"""Kernels that are as fast on weights of int4 as on those of int8: XNNPACK has them."""

DEQUANTIZE_WORTH = 128
"""Bytes that a compressed constant must save before a DEQUANTIZE operator is worth it: its tables take as many."""


class NoInt8Kernel(Exception):  # noqa: N818 - a signal to the driver, not an error for the user
    """The node cannot run in int8; the message says why, as a clause."""


@dataclass(frozen=True)
class Result:
    """What the hub says of one output of the node that is being lowered.

    Attributes:
        shape: Static sizes, in the layout that the node writes.
        dtype: NumPy's name of the element type.
        quantization: That of the QuantizeLinear that reads it, where there is one.
        integers: Their type.
        wanted: Whether anything reads it; a lowering may give None for an output that nothing does.
    """

    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    wanted: bool = True
    integers: str = "int8"


class Builder:
    """The graph under construction.

    Attributes:
        operators: What was emitted so far.
        notes: What the user should know; each sentence once.
        results: The outputs of the node that is being lowered.
        mode: How it is being lowered: `plain`, on what tensors stand for; `integer`, on int8; `hybrid`, float with int8
            weights whose kernel quantizes its input itself.
        sizes_vary: Whether the operators must serve other sizes too; see `graph.Vary`.
        int4: What holds weights of four bits; see `targets.Options.int4_container`.
    """

    def __init__(self, int4: Literal["int4", "fast", "int8"] = "int4") -> None:
        self.int4 = int4
        self.operators: list[Operator] = []
        self.notes: dict[str, None] = {}
        self.results: tuple[Result, ...] = ()
        self._name = ""
        self._op = ""
        self.mode: Mode = "plain"
        self.sizes_vary: Vary = ""
        self._computed: set[int] = set()
        self._plain: dict[int, tuple[int, Tensor]] = {}
        self._kept: list[Tensor] = []  # keeps ids in the two tables above from being reused

    # The node at hand.

    def begin(self, name: str, op: str, results: Sequence[Result], mode: Mode) -> int:
        """Start a node; returns a mark for `rollback`."""
        self._name, self._op, self.mode = name, op, mode
        self.results = tuple(results)
        self._computed = set()
        return len(self.operators)

    def rollback(self, mark: int) -> None:
        """Forget what was emitted since `begin` gave `mark`."""
        del self.operators[mark:]
        self._plain = {key: row for key, row in self._plain.items() if row[0] < mark}

    @property
    def result(self) -> Result:
        """The node's first output."""
        return self.results[0]

    def refuse(self, reason: str, remedy: str) -> UnsupportedError:
        """The error for a node that this target cannot hold."""
        return UnsupportedError("tflite", [Blocker(self._name, self._op, reason, remedy)])

    def note(self, text: str) -> None:
        """Tell the user `text`, once."""
        self.notes.setdefault(text)

    # Constants.

    def const(self, value: Any, dtype: str | None = None) -> Tensor:
        """A constant tensor of the given value."""
        data = np.ascontiguousarray(np.asarray(value, dtype))
        if np.ndim(value) == 0:
            data = data.reshape(())
        return Tensor(tuple(data.shape), data.dtype.name, data)

    def ints(self, values: Sequence[int]) -> Tensor:
        """A constant int32 vector, as kernels take shapes, axes and paddings."""
        return self.const(np.array(values, np.int32))

    def known(self, tensor: Tensor, what: str) -> Array:
        """The value of an input that must be a constant.

        Raises:
            UnsupportedError: It is computed at run time; `what` names it.
        """
        if tensor.data is None:
            raise self.refuse(f"{what} is computed at run time", f"make {what} an initializer")
        return tensor.value()

    def plain(self, tensor: Tensor) -> Tensor:
        """The tensor as what it stands for, dequantized or widened at run time where it is compressed."""
        if not tensor.compressed:
            return tensor
        if id(tensor) in self._plain:
            return self._plain[id(tensor)][1]
        source = tensor
        if tensor.stored is not None:
            if self.int4 != "int4":  # XNNPACK takes a DEQUANTIZE of int8 for a constant, one of int4 it does not know
                source = tensor.in_bytes()
            saved = tensor.size * 4 - source.stored.nbytes  # type: ignore[union-attr]
            if saved < DEQUANTIZE_WORTH or source.dtype not in ("int4", "int8", "float16"):
                return self.const(tensor.value())
        widened = Tensor(tensor.shape, "float32")
        self._plain[id(tensor)] = (len(self.operators), widened)
        self._kept.append(tensor)
        self._append("DEQUANTIZE", [source], [widened], {})
        return widened

    # Operators.

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        dtype: str | None = None,
        **options: Any,
    ) -> Tensor:
        """Emit an operator with one output.

        Args:
            code: Its name in `BuiltinOperator`.
            inputs: In the kernel's order, None for an optional one that is left out.
            shape: Of the output.
            dtype: Of the output; that of the data inputs unless given.
            **options: Fields of its options table.
        """
        return self.emit(code, inputs, [(shape, dtype)], **options)[0]

    def emit(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[tuple[Sequence[int], str | None]],
        **options: Any,
    ) -> list[Tensor]:
        """Emit an operator with several outputs, given as (shape, dtype or None); see `op`."""
        kernel = KERNELS[code]
        shapes = [(tuple(int(n) for n in shape), dtype) for shape, dtype in outputs]
        rank = max((len(t.shape) for t in inputs if t is not None), default=0)
        if kernel.max_rank is not None and rank > kernel.max_rank:
            raise self.refuse(f"{code} takes at most {kernel.max_rank} axes, not {rank}", "merge axes by a Reshape")
        data = [i for i in kernel.data_inputs(len(inputs)) if inputs[i] is not None]
        quantized = [t for i in data if (t := inputs[i]) is not None and t.quantization is not None]
        if self.mode == "integer" and any(not t.constant for t in quantized):
            return self._emit_integer(kernel, code, list(inputs), data, shapes, options)
        return self._emit_plain(kernel, code, list(inputs), data, shapes, options)

    def _emit_plain(
        self,
        kernel: Kernel,
        code: str,
        inputs: list[Tensor | None],
        data: list[int],
        outputs: list[tuple[tuple[int, ...], str | None]],
        options: dict[str, Any],
    ) -> list[Tensor]:
        for n, tensor in enumerate(inputs):
            hybrid = self.mode == "hybrid" and n in kernel.weights and tensor is not None and tensor.constant
            if tensor is not None and not hybrid:
                inputs[n] = self.plain(tensor)
        dtype = self._dtype(inputs, data)
        wide = self._promoted(kernel, code, dtype)
        if wide != dtype:
            for n in data:
                tensor = inputs[n]
                if tensor is not None and tensor.dtype == dtype:
                    inputs[n] = self.cast(tensor, wide)
        results = [Tensor(shape, wide if given in (None, dtype) else given or wide) for shape, given in outputs]
        self._append(code, inputs, results, options)
        return [
            self.cast(tensor, dtype) if wide != dtype and given in (None, dtype) else tensor
            for tensor, (_, given) in zip(results, outputs, strict=True)
        ]

    def _dtype(self, inputs: Sequence[Tensor | None], data: Sequence[int]) -> str:
        for n in data:
            tensor = inputs[n]
            if tensor is not None:
                return tensor.dtype
        return "float32"

    def _promoted(self, kernel: Kernel, code: str, dtype: str) -> str:
        if dtype in kernel.plain:
            return dtype
        for wide in PROMOTIONS.get(dtype, ()):
            if wide in kernel.plain:
                if np.dtype(wide).itemsize < np.dtype(dtype).itemsize:
                    self.note(f"{self._name}: {code} has no {dtype} kernel, so it computes in {wide}.")
                return wide
        raise self.refuse(f"{code} takes no {dtype}", "cast its inputs to float32 or int32")

    def _emit_integer(
        self,
        kernel: Kernel,
        code: str,
        inputs: list[Tensor | None],
        data: list[int],
        outputs: list[tuple[tuple[int, ...], str | None]],
        options: dict[str, Any],
    ) -> list[Tensor]:
        width = next(t.dtype for n in data if (t := inputs[n]) is not None and t.quantization and not t.constant)
        rule = kernel.int8 if width == "int8" else kernel.int16
        if rule is None:
            raise NoInt8Kernel(f"LiteRT's {code} has no {width} kernel")
        for n in data:
            inputs[n] = self._integer_input(inputs[n], code, width, weights=n in kernel.weights)
        if rule == "same":
            if code in ROUNDS and self.result.quantization is None:
                raise NoInt8Kernel("its result is not quantized")
            quantization = self._equalize(inputs, data)
        else:
            if any(id(inputs[n]) in self._computed for n in data):
                raise NoInt8Kernel("it takes several kernels, and int8 between them would round each time")
            wanted = self.result.quantization
            given = (FIXED_SCALES if width == "int8" else FIXED_SCALES_16)[code] if rule == "fixed" else wanted
            if wanted is not None and self.result.integers != width:
                raise NoInt8Kernel(f"it reads {width}, and its result is {self.result.integers}")
            if given is None or wanted is None or not given.same(wanted):
                raise NoInt8Kernel(
                    "its result is not quantized" if wanted is None else f"{code} has one fixed output scale"
                )
            quantization = given
        results = [
            Tensor(shape, dtype or width, quantization=quantization if dtype in (None, "float32", width) else None)
            for shape, dtype in ((shape, None if dtype == "float32" else dtype) for shape, dtype in outputs)
        ]
        if rule != "same":
            self._computed.update(id(t) for t in results)
        if width == "int16" and code in ("ADD", "SUB"):
            options = {**options, "pot_scale_int16": False}
        self._append(code, inputs, results, options)
        return results

    def _integer_input(self, tensor: Tensor | None, code: str, width: str, weights: bool) -> Tensor | None:
        if tensor is None or (tensor.quantization is None and tensor.dtype not in ("float32", "float16")):
            return tensor
        if tensor.quantization is not None:
            if tensor.dtype != width and not (weights and tensor.dtype in ("int4", "int8", "int32")):
                raise NoInt8Kernel(f"{code} reads {tensor.dtype}")
            if tensor.quantization.per_channel and not weights:
                raise NoInt8Kernel(f"{code} takes one scale a tensor")
            if width == "int8":
                return self._in_bits(tensor, code)
            if tensor.dtype == "int32" and tensor.data is not None:  # the bias: sums of int16 products need 64 bits
                return Tensor(tensor.shape, "int64", tensor.data.astype(np.int64), tensor.quantization)
            return tensor.in_bytes()  # LiteRT's int4 depthwise kernel gives garbage on int16
        if tensor.data is None:
            raise NoInt8Kernel(f"{code} reads a float tensor too")
        return self._uniform(tensor, code, width)

    def _in_bits(self, tensor: Tensor, code: str) -> Tensor:
        """Weights of four bits stay so where the kernel takes them and, if that is asked for, is as fast on them."""
        if tensor.dtype != "int4":
            return tensor
        native = KERNELS[code].int4 and self.int4 != "int8" and (self.int4 == "int4" or code in REWARDS_INT4)
        return tensor if native else tensor.in_bytes()

    def _uniform(self, tensor: Tensor, code: str, width: str) -> Tensor:
        """A float constant with one distinct value is exact in integers; any other must be quantized in the hub."""
        value = tensor.value()
        first = float(value.reshape(-1)[0]) if value.size else 0.0
        if not np.all(value == first) or not np.isfinite(first):
            raise NoInt8Kernel(f"{code} reads a constant that is not quantized")
        most = np.iinfo(width).max
        scale = abs(first) / most if first else 1.0
        data = np.full(tensor.shape, np.sign(first) * most, width)
        return Tensor(tensor.shape, width, data, per_tensor(scale))

    def _equalize(self, inputs: list[Tensor | None], data: Sequence[int]) -> Quantization:
        tensors = [t for n in data if (t := inputs[n]) is not None and t.quantization is not None]
        target = tensors[0].quantization
        if any(not t.quantization.same(target) for t in tensors if t.quantization is not None):
            target = self.result.quantization or target
            for n in data:
                tensor = inputs[n]
                if tensor is not None and tensor.quantization is not None:
                    inputs[n] = self.requantize(tensor, target, tensor.dtype) if target is not None else tensor
        if target is None:
            raise NoInt8Kernel("its inputs are not quantized")
        return target

    def requantize(self, tensor: Tensor, quantization: Quantization, dtype: str = "int8") -> Tensor:
        """The tensor quantized as given: itself where it is already, else by a QUANTIZE operator."""
        if tensor.quantization is not None and tensor.dtype == dtype and tensor.quantization.same(quantization):
            return tensor
        output = Tensor(tensor.shape, dtype, quantization=quantization)
        self._append("QUANTIZE", [tensor], [output], {})
        return output

    def cast(self, tensor: Tensor, dtype: str) -> Tensor:
        """The tensor converted to another element type."""
        tensor = self.plain(tensor)
        if tensor.dtype == dtype:
            return tensor
        if tensor.data is not None:
            return self.const(tensor.data.astype(dtype))
        if "uint64" in (tensor.dtype, dtype):
            return self._cast_uint64(tensor, dtype)
        for given in (tensor.dtype, dtype):
            if given not in KERNELS["CAST"].plain:
                raise self.refuse(f"CAST takes no {given}", "use int64 or float32")
        output = Tensor(tensor.shape, dtype)
        options = {"in_data_type": TENSOR_TYPES[tensor.dtype], "out_data_type": TENSOR_TYPES[dtype]}
        self._append("CAST", [tensor], [output], options)
        return output

    @contextmanager
    def nested(self) -> Iterator[list[Operator]]:
        """Emit what follows into a subgraph: the list given, instead of the graph at hand."""
        operators, plain, computed = self.operators, self._plain, self._computed
        self.operators, self._plain, self._computed = [], {}, set()
        try:
            with self.keeping_node():
                self.mode = "plain"
                yield self.operators
        finally:
            self.operators, self._plain, self._computed = operators, plain, computed

    @contextmanager
    def keeping_node(self) -> Iterator[None]:
        """Emit other nodes, then come back to the one at hand."""
        node = self._name, self._op, self.mode, self.results
        try:
            yield
        finally:
            self._name, self._op, self.mode, self.results = node

    def control(self, code: str, inputs: Sequence[Tensor], subgraphs: Sequence[Graph]) -> list[Tensor]:
        """Emit an operator that runs subgraphs; its outputs are typed like those of the last one."""
        outputs = [Tensor(t.shape, t.dtype, quantization=t.quantization) for _, t in subgraphs[-1].outputs]
        self._append(code, inputs, outputs, {})
        self.operators[-1].subgraphs = tuple(subgraphs)
        return outputs

    def _cast_uint64(self, tensor: Tensor, dtype: str) -> Tensor:
        """CAST has no uint64; between integers it is int64 with the same bits."""
        if np.dtype(tensor.dtype).kind == "f" or np.dtype(dtype).kind == "f":
            raise self.refuse("CAST takes no uint64", "use int64 or float32")
        signed = self.cast(tensor, "int64") if dtype == "uint64" else tensor
        if signed.dtype != dtype and {signed.dtype, dtype} != {"int64", "uint64"}:
            return self.cast(self._cast_uint64(tensor, "int64"), dtype)
        output = Tensor(tensor.shape, dtype)
        self._append("BITCAST", [signed], [output], {})
        return output

    def _append(
        self, code: str, inputs: Sequence[Tensor | None], outputs: list[Tensor], options: dict[str, Any]
    ) -> None:
        given = list(inputs)
        while given and given[-1] is None:  # kernels tell a missing bias by the number of inputs
            given.pop()
        self.operators.append(Operator(code, given, outputs, options, self._name))
        self._kept.extend(outputs)
