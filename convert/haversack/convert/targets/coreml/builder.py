"""What the lowerings build MIL with: a thin layer over coremltools' Builder.

It numbers the variables, makes every constant once and in the dtype that MIL wants, casts floating-point inputs to the
precision in which the node at hand computes, and turns what MIL cannot hold into blockers.

MIL computes with float16, float32, int32 and bool. The hub's wider and narrower integers are int32 there (checked
against its range), float64 is float32; int8 and uint8 exist only between `quantize` and `dequantize`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets.coreml import opsets, sdk, stored
from haversack.runtimes.engines import Array

Var = Any
"""A variable of a MIL program (`coremltools.converters.mil.mil.Var`)."""

MAX_RANK = 5
INT32 = np.iinfo(np.int32)


@dataclass(eq=False)
class Value:
    """A value of the hub graph while it is lowered.

    Attributes:
        name: The hub's name for it.
        shape: Static shape.
        dtype: The hub's element type.
        array: Its elements, where they are known at conversion.
        var: The MIL variable that holds it; None for a constant that no op has read yet. Beyond `MAX_RANK` axes it
            holds the elements in order, in some other shape.
        stored: How a constant is written compressed, in the precision at hand; None where it is written as it is.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    array: Array | None = None
    var: Var = None
    stored: Callable[[], Var] | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def floating(self) -> bool:
        """Whether its elements are floating-point numbers."""
        return self.dtype.kind == "f"


class NeedsFloat32(Exception):  # noqa: N818  (control flow inside this package, never shown)
    """A number that the node at hand reads cannot be held in float16."""


class Builder:
    """Builds one MIL function, node by node.

    Args:
        ios: Deployment target: 15, 16, 17 or 18.
        half: Whether nodes compute in float16 unless told otherwise.

    Attributes:
        half: Precision of the node at hand; the driver sets it before each one.
        node: Name of the node at hand, for messages.
        op_type: Its ONNX operator.
        outputs: What the hub says about its outputs (shape and dtype).
        emitted: MIL ops made for it.
        notes: What the user should know, in order, each once.
        origins: By MIL op, the node that it was made for, and that node's ONNX operator.
    """

    def __init__(self, ios: int, *, half: bool = False):
        coremltools = sdk.load()
        from coremltools.converters.mil.mil import Builder as MilBuilder
        from coremltools.converters.mil.mil import types

        self.coremltools = coremltools
        self.mil = MilBuilder
        self.types = types
        self.ios = ios
        self.half = half
        self.node = ""
        self.op_type = ""
        self.outputs: tuple[Value, ...] = ()
        self.emitted: list[str] = []
        self.notes: dict[str, None] = {}
        self.origins: dict[str, tuple[str, str]] = {}
        self._constants: ChainMap[tuple[str, tuple[int, ...], bytes], Var] = ChainMap()
        self._held: ChainMap[tuple[int, str], tuple[Array, Var]] = ChainMap()
        self._casts: ChainMap[tuple[int, str], tuple[Var, Var]] = ChainMap()
        self._count = 0

    # -- refusing and noting -------------------------------------------------------------------------------------------

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Say that the node at hand cannot be lowered.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("coreml", [Blocker(self.node, self.op_type, reason, remedy)])

    def note(self, sentence: str) -> None:
        """Tell the user something about the artifact."""
        self.notes[sentence] = None

    # -- values --------------------------------------------------------------------------------------------------------

    @property
    def float_name(self) -> str:
        """MIL's name of the floating-point type in which the node at hand computes."""
        return "fp16" if self.half else "fp32"

    @property
    def float_dtype(self) -> type[np.floating[Any]]:
        """NumPy's counterpart of `float_name`."""
        return np.float16 if self.half else np.float32

    def array(self, value: Value, what: str) -> Array:
        """The elements of an input that must be known at conversion.

        Raises:
            UnsupportedError: They are computed at run time.
        """
        if value.array is None:
            self.refuse(f"its {what} is computed at run time", f"make {value.name!r} an initializer")
        return value.array

    def integers(self, value: Value, what: str) -> list[int]:
        """`array` as a flat list of Python integers."""
        return [int(number) for number in self.array(value, what).reshape(-1)]

    def var(self, value: Value) -> Var:
        """The MIL variable of a hub value, as an op may read it: float in the precision at hand, int32 or bool.

        Raises:
            UnsupportedError: It has more axes than Core ML's tensors.
        """
        if value.rank > MAX_RANK:
            self.refuse(f"it needs a tensor of {value.rank} axes; Core ML stops at {MAX_RANK}", "merge axes")
        return self.in_order(value)

    def in_order(self, value: Value) -> Var:
        """`var`, for ops that only need the elements in order: of a value of too many axes in some other shape."""
        if value.var is not None:
            return self.readable(value.var)
        if value.array is None:  # pragma: no cover (the driver gives every computed value a variable)
            raise AssertionError(f"{value.name} has neither a variable nor elements")
        array = value.array
        if 0 in array.shape:
            self.refuse("it reads a tensor without elements, which Core ML cannot hold", "remove this node")
        key = id(array), self.float_name if value.floating else str(value.dtype)
        if key not in self._held:
            if value.stored is not None:
                var = value.stored()
            elif array.dtype == np.float16 and not self.half and array.size >= 32 and self.ios >= 16:
                # The exact float32 of a float16 weight at half its bytes: widened when the model is loaded.
                source = self.constant(array, exact=True)
                var = self.raw("constexpr_cast", source_val=source, output_dtype=self.constant("fp32"))
            elif value.floating and array.ndim <= MAX_RANK and (sparse := stored.floats(self, array)) is not None:
                var = sparse
            else:
                var = self.constant(array if array.ndim <= MAX_RANK else array.reshape(-1))
            self._held[key] = array, var
        return self._held[key][1]

    def readable(self, var: Var) -> Var:
        """`var` cast to a type that ops compute with: the float type at hand, int32 or bool."""
        kind = self.kind(var)
        if kind in ("fp16", "fp32"):
            return self.cast(var, self.float_name)
        return var if kind in ("int32", "bool", "str") else self.cast(var, "int32")

    def kind(self, var: Var) -> str:
        """MIL's name of a variable's element type, such as `fp16`."""
        return str(self.types.builtin_to_string(var.dtype))

    def cast(self, var: Var, kind: str) -> Var:
        """`var` with elements of another type (`fp16`, `fp32`, `int32`, `bool`); one cast a variable and type."""
        if self.kind(var) == kind:
            return var
        key = (id(var), kind)
        if key not in self._casts:
            # A widened value that came from a wider one is that one only if nothing was lost: so no cast is undone.
            self._casts[key] = var, self._emit("cast", {"x": var, "dtype": self.constant(kind)})
        return self._casts[key][1]

    def numeric(self, value: Value) -> Var:
        """`var(value)`, booleans as int32: for the ops that MIL does not define on booleans."""
        var = self.var(value)
        return self.cast(var, "int32") if self.kind(var) == "bool" else var

    def like(self, var: Var, value: Value) -> Var:
        """Undo `numeric`: `var` as boolean where `value` is one."""
        return self.cast(var, "bool") if value.dtype == np.bool_ and self.kind(var) != "bool" else var

    def floats(self, value: Value) -> Var:
        """`var(value)`, integers as floating-point numbers: for the ops that MIL defines on those only.

        Integers of up to 8 bits are exact in float16, of up to 16 bits in float32; wider ones are refused.
        """
        var = self.var(value)
        if self.kind(var) in ("fp16", "fp32"):
            return var
        if value.dtype.itemsize > 2:
            self.refuse(f"Core ML computes it on floating-point numbers only, not on {value.dtype}", "cast its input")
        if self.half and value.dtype.itemsize > 1:
            raise NeedsFloat32
        return self.cast(var, self.float_name)

    def unfloats(self, var: Var, value: Value) -> Var:
        """Undo `floats`: `var` as integers where `value` holds some."""
        return var if value.floating else self.cast(var, "int32")

    # -- constants -----------------------------------------------------------------------------------------------------

    def constant(self, value: Any, *, exact: bool = False) -> Var:
        """A constant; equal ones are the same variable.

        Args:
            value: A string, or anything NumPy makes an array of.
            exact: Keep the dtype, instead of the float type at hand or int32.

        Raises:
            NeedsFloat32: The node at hand computes in float16, and that type cannot hold `value`.
            UnsupportedError: An integer is outside int32.
        """
        if isinstance(value, str):
            return self._constant(("str", (), value.encode()), value)
        array = np.asarray(value)
        if not exact:
            array = self._narrowed(array)
        data = np.ascontiguousarray(array).reshape(array.shape)
        return self._constant((str(data.dtype), data.shape, data.tobytes()), data if data.ndim else data[()])

    def packed(self, array: Array, kind: str) -> Var:
        """A constant of integers of `kind`, which may have fewer than 8 bits: `int4`, `uint1` to `uint8` (iOS 18)."""
        form = self.types.nptype_from_builtin(self.types.string_to_builtin(kind))
        data = np.ascontiguousarray(array).astype(form)
        return self._constant((kind, data.shape, data.tobytes()), data)

    def _constant(self, key: tuple[str, tuple[int, ...], bytes], value: Any) -> Var:
        if key not in self._constants:
            self._constants[key] = self.mil.const(val=value, name=self._name())
        return self._constants[key]

    def _narrowed(self, array: Array) -> Array:
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                narrow: Array = array.astype(self.float_dtype)
            lost = np.isinf(narrow) & np.isfinite(array)
            if array.size == 1:  # a single epsilon, scale or bound that becomes 0 changes what the op means
                lost |= (narrow == 0) & (array != 0)
            if self.half and lost.any():
                raise NeedsFloat32
            return narrow
        if array.dtype.kind in "iu":
            if array.size and (array.min() < INT32.min or array.max() > INT32.max):
                self.refuse("it reads an integer that does not fit int32, Core ML's widest", "use smaller integers")
            return array.astype(np.int32)
        if array.dtype.kind != "b":
            self.refuse(f"Core ML has no constants of type {array.dtype}", "remove this input")
        return array

    # -- ops -----------------------------------------------------------------------------------------------------------

    def op(self, kind: str, /, **inputs: Any) -> Any:
        """Append a MIL op and return its output variable, or a tuple of them.

        Inputs may be hub values, MIL variables, strings, arrays and Python numbers (which become constants, floats in
        the precision at hand), lists of values or variables (variadic inputs), or None (left out).

        Raises:
            UnsupportedError: coremltools rejects the op, or its output has more than 5 axes.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        return self._emit(kind, {name: self._input(value) for name, value in opsets.known(self, kind, given).items()})

    def _input(self, value: Any) -> Any:
        if isinstance(value, Value):
            return self.var(value)
        if hasattr(value, "sym_type"):
            return self.readable(value)
        if isinstance(value, list) and any(isinstance(item, Value) or hasattr(item, "sym_type") for item in value):
            return [self._input(item) for item in value]
        return self.constant(value)

    def raw(self, kind: str, /, **inputs: Any) -> Any:
        """Like `op`, for inputs that are variables of exactly the wanted type: nothing is cast."""
        return self._emit(kind, {name: value for name, value in inputs.items() if value is not None})

    def _emit(self, kind: str, inputs: dict[str, Any]) -> Any:
        name = self._name()
        self.origins[name] = self.node, self.op_type
        try:
            result = getattr(self.mil, kind)(name=name, **inputs)
        except (ValueError, TypeError, IndexError, KeyError, AssertionError, NotImplementedError) as error:
            if (first := opsets.first(self, kind)) > self.ios:
                opsets.refuse(self, f"MIL's `{kind}`", first)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.refuse(f"MIL's `{kind}` cannot express it: {reason}", "replace this node")
        self.emitted.append(kind)
        several = isinstance(result, (tuple, list))
        for var in result if several else (result,):
            if len(var.shape) > MAX_RANK:
                self.refuse(f"it needs a tensor of {len(var.shape)} axes; Core ML stops at {MAX_RANK}", "merge axes")
        return tuple(result) if several else result

    @contextmanager
    def block(self) -> Iterator[None]:
        """A nested block: it reads what the blocks around it made, and they read nothing of it but its outputs."""
        tables = self._constants, self._held, self._casts
        self._constants = self._constants.new_child()
        self._held, self._casts = self._held.new_child(), self._casts.new_child()
        try:
            with self.keeping_node():
                yield
        finally:
            self._constants, self._held, self._casts = tables

    @contextmanager
    def keeping_node(self) -> Iterator[None]:
        """Other nodes may be lowered inside; afterwards the node at hand is the one it was, their ops among its own."""
        before, emitted = (self.node, self.op_type, self.outputs, self.half), self.emitted
        self.emitted = []
        try:
            yield
        finally:
            self.node, self.op_type, self.outputs, self.half = before
            self.emitted = emitted + self.emitted

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count - 1}"

    # -- the few combinations that many families need ------------------------------------------------------------------

    def reshape(self, var: Var, shape: Sequence[int]) -> Var:
        """`var` with another static shape; scalars are squeezed to and expanded from one element."""
        shape = tuple(shape)
        current = tuple(size if isinstance(size, (int, np.integer)) else -1 for size in var.shape)  # -1: known later
        if current == shape and -1 not in current:
            return var
        if not shape:
            return self.op("squeeze", x=var, axes=list(range(len(current))))
        if not current:
            var = self.op("expand_dims", x=var, axes=[0])
            return self.reshape(var, shape)
        return self.op("reshape", x=var, shape=list(shape))

    def transpose(self, var: Var, permutation: Sequence[int]) -> Var:
        """`var` with its axes permuted."""
        permutation = list(permutation)
        if permutation == sorted(permutation):
            return var
        return self.op("transpose", x=var, perm=permutation)

    def expand(self, var: Var, shape: Sequence[int]) -> Var:
        """`var` broadcast to `shape` by NumPy's rules."""
        current = tuple(int(size) for size in var.shape)
        padded = (1,) * (len(shape) - len(current)) + current
        var = self.reshape(var, padded)
        repeats = [wanted // size for wanted, size in zip(shape, padded, strict=True)]
        return var if all(count == 1 for count in repeats) else self.op("tile", x=var, reps=repeats)
