"""Compiling a function to steps: what can be settled before the first run is settled here.

Constants are read and decompressed (`const` and every `constexpr_` op), converted to what their op takes, and bound;
parameters are held against the op's signature; the last reader of each value is found, so that a run frees it there.
Every op or parameter that the evaluator does not know is collected and refused in one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.program import Block, Constant, Function, Operation
from haversack.runtimes.engines.coreml.registry import Context, Definition, check, load
from haversack.runtimes.errors import EngineError

OPSETS = {"CoreML5": 15, "CoreML6": 16, "CoreML7": 17, "CoreML8": 18, "CoreML9": 26}

# What an op may raise on values that do not fit it; programs come from outside.
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)

Converter = Callable[[Any], Any]


@dataclass
class Step:
    """One operation, bound.

    Attributes:
        operation: What the program says.
        definition: The op that executes it.
        opset: As in `Context`.
        constants: Parameter → value that never changes, converted.
        bindings: Parameters filled at run time: name, values' names, converter, whether it takes a tuple.
        reads: Run-time values it needs, those that its blocks take from outside included.
        blocks: Its nested blocks.
        releases: Values nothing reads after it.
    """

    operation: Operation
    definition: Definition
    opset: int
    constants: dict[str, Any]
    bindings: tuple[tuple[str, tuple[Any, ...], Converter | None, bool], ...]
    reads: tuple[str, ...]
    blocks: tuple[BlockPlan, ...] = ()
    releases: tuple[str, ...] = ()

    def arguments(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of one call."""
        arguments = dict(self.constants)
        for parameter, names, convert, many in self.bindings:
            if many:
                values = (n.value if isinstance(n, Literal) else environment[n] for n in names)
                arguments[parameter] = tuple(values if convert is None else (convert(value) for value in values))
            else:
                value = environment[names[0]]
                arguments[parameter] = value if convert is None else convert(value)
        return arguments


@dataclass
class BlockPlan:
    """A block's steps in order.

    Attributes:
        inputs: Names that the enclosing op fills.
        outputs: Names of its results.
        steps: What runs.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Literal:
    """A constant inside a tuple whose other members are known at run time only."""

    value: Any


@dataclass
class _Compiler:
    opset: int
    ops: Mapping[str, Definition]
    constants: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    widened: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)

    def block(self, block: Block) -> BlockPlan:
        steps = []
        self.defined.update(item.name for item in block.inputs)
        for operation in block.operations:
            self.defined.update(output.name for output in operation.outputs if operation.type not in self.ops)
            if operation.type == "const":
                if len(operation.outputs) == 1 and "val" in operation.attributes:
                    self.constants[operation.outputs[0].name] = operation.attributes["val"].value
                else:
                    self.problems.append(f"{operation} has no value")
                continue
            definition = self.ops.get(operation.type)
            if definition is None:
                self.problems.append(f"the reference evaluator does not know the op {operation}")
                continue
            try:
                check(definition, frozenset(operation.inputs) | frozenset(operation.attributes), str(operation))
            except EngineError as error:
                self.problems.append(str(error))
                continue
            step = self.step(operation, definition)
            missing = [name for name in step.reads if name not in self.defined]
            if missing:
                self.problems.append(f"{operation} reads {', '.join(missing)}, which nothing before it gives")
            elif operation.type.startswith("constexpr_"):
                self.decompress(step)
            else:
                steps.append(step)
            self.defined.update(output.name for output in operation.outputs)
        unknown = [name for name in block.outputs if name not in self.defined and name not in self.constants]
        if unknown:
            self.problems.append(f"the program returns {', '.join(unknown)}, which nothing gives")
        return BlockPlan(tuple(item.name for item in block.inputs), block.outputs, tuple(steps))

    def step(self, operation: Operation, definition: Definition) -> Step:
        constants: dict[str, Any] = {}
        bindings = []
        reads: dict[str, None] = {}
        for parameter, constant in operation.attributes.items():
            constants[parameter] = self.constant(constant.value, definition, parameter)
        for parameter, bound in operation.inputs.items():
            many = definition.kinds[parameter] == "arrays"
            convert = converter(definition.kinds[parameter], definition.moves)
            names = [b for b in bound if isinstance(b, str) and b not in self.constants]
            reads.update(dict.fromkeys(names))
            if not names:
                values = [b.value if isinstance(b, Constant) else self.constants[b] for b in bound]
                if not values and not many:
                    self.problems.append(f"{operation}: nothing is bound to its parameter {parameter}")
                    continue
                converted = [self.constant(value, definition, parameter) for value in values]
                if not many and len(converted) > 1:
                    constants[parameter] = tuple(converted)
                else:
                    constants[parameter] = tuple(converted) if many else converted[0]
            else:
                members: list[Any] = []
                for b in bound:
                    known = isinstance(b, Constant) or b in self.constants
                    members.append(Literal(b.value if isinstance(b, Constant) else self.constants[b]) if known else b)
                bindings.append((parameter, tuple(members), convert, many))
        blocks = tuple(self.block(nested) for nested in operation.blocks)
        for nested in blocks:
            reads.update(dict.fromkeys(self.captured(nested)))
        return Step(operation, definition, self.opset, constants, tuple(bindings), tuple(reads), blocks)

    def captured(self, block: BlockPlan) -> Iterable[str]:
        """Return the values that a nested block takes from outside."""
        own = set(block.inputs)
        outside: dict[str, None] = {}
        for step in block.steps:
            outside.update(dict.fromkeys(name for name in step.reads if name not in own))
            own.update(output.name for output in step.operation.outputs)
        outside.update(dict.fromkeys(n for n in block.outputs if n not in own and n not in self.constants))
        return outside

    def constant(self, value: Any, definition: Definition, parameter: str) -> Any:
        """Convert a constant once, sharing the float32 copy of a float16 weight among its readers."""
        convert = converter(definition.kinds[parameter], definition.moves)
        if convert is None:
            return value
        if id(value) not in self.widened or convert is not widen:
            converted = convert(value)
            if convert is not widen:
                return converted
            self.widened[id(value)] = (value, converted)
        return self.widened[id(value)][1]

    def decompress(self, step: Step) -> None:
        """Execute a `constexpr_` op now; its inputs are constants."""
        if step.reads:
            self.problems.append(f"{step.operation} takes a value that is not constant")
            return
        arguments = dict(step.constants)
        if step.definition.context:
            types = tuple(output.type for output in step.operation.outputs)
            arguments[step.definition.context] = Context(self.opset, types)
        try:
            results = step.definition.function(**arguments)
        except (EngineError, *FAULTS) as error:
            self.problems.append(f"{step.operation}: {error}")
            return
        results = results if isinstance(results, tuple) else (results,)
        for output, result in zip(step.operation.outputs, results, strict=True):
            array = np.asarray(result).astype(output.type.storage, copy=False)
            if array.shape != output.type.shape:
                self.problems.append(f"{step.operation} gives the shape {list(array.shape)}, declared {output.type}")
            self.constants[output.name] = array


def plan(function: Function) -> tuple[BlockPlan, dict[str, Any]]:
    """Compile a function.

    Returns:
        Its steps, and its constants by name (a function may return one of them).

    Raises:
        EngineError: The opset, an op or a parameter is unknown; every one of them is named.
    """
    if function.opset not in OPSETS:
        raise EngineError(f"the program is written in the opset '{function.opset}'; known are {', '.join(OPSETS)}")
    compiler = _Compiler(OPSETS[function.opset], load())
    compiler.defined.update(item.name for item in function.inputs)
    with np.errstate(all="ignore"):
        block = compiler.block(function.block)
    if compiler.problems:
        raise EngineError("; ".join(dict.fromkeys(compiler.problems)))
    _release(block, set(block.outputs), {item.name for item in function.inputs})
    return block, compiler.constants


def _release(block: BlockPlan, kept: set[str], inputs: set[str]) -> None:
    """Mark, at the last reader of each value that the block itself produces, that the value can be freed."""
    own = inputs | {output.name for step in block.steps for output in step.operation.outputs}
    seen = set(kept)
    for step in reversed(block.steps):
        last = [name for name in step.reads if name not in seen and name in own]
        unread = [o.name for o in step.operation.outputs if o.name not in seen]
        step.releases = tuple(dict.fromkeys([*last, *unread]))
        seen.update(step.reads)
        for nested in step.blocks:
            _release(nested, set(nested.outputs), set())


def converter(kind: str, moves: bool) -> Converter | None:
    """Return what turns a stored value into what a parameter of this kind takes; None for as it is."""
    if kind in ("array", "arrays"):
        return as_array if moves else widen
    scalars: dict[str, Converter] = {"ints": integers, "int": int, "float": float, "bool": bool, "str": str}
    return scalars.get(kind)


def as_array(value: Any) -> Any:
    """Pass an array on."""
    return value


def widen(value: Any) -> Any:
    """Give float16 as float32, so that the op computes in float32."""
    if isinstance(value, np.ndarray) and value.dtype == np.float16:
        return value.astype(np.float32)
    return value


def integers(value: Array) -> tuple[int, ...]:
    """Give an integer tensor as a tuple of int."""
    return tuple(int(item) for item in np.asarray(value).reshape(-1))
