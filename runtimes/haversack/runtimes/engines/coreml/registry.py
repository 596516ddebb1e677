"""The table of MIL ops that the evaluator executes.

An op is a function whose parameters are the MIL op's parameters, with MIL's names and MIL's defaults. The signature is
the schema: a parameter that an operation binds and the function does not take is refused when the package is opened,
never ignored. The annotation of a parameter says how a value reaches it:

    Array         an array; float16 comes as float32 (ops compute in float32), except in ops that only move data
    Arrays        MIL's tuple of tensors: a tuple of arrays
    Ints          a 1-D integer tensor, as a tuple of int
    int, float, bool, str       a scalar
    Any           the value as it is: lists, states
    Context       not a parameter of MIL: the opset, the declared output types, nested blocks

The semantics of every op are those that coremltools documents for its MIL op of the same name (its op definitions for
iOS 15 to 18). Where that text leaves something open, the expectation that coremltools' own tests state is followed.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.program import ValueType
from haversack.runtimes.errors import EngineError

Arrays = tuple[Array, ...]
Ints = tuple[int, ...]

FAMILIES = (
    "activation",
    "constexpr",
    "control_flow",
    "conv",
    "detection",
    "elementwise",
    "generate",
    "indexing",
    "lists",
    "matmul",
    "normalization",
    "pool",
    "quantization",
    "random",
    "recurrent",
    "reduce",
    "resize",
    "sampling",
    "scatter",
    "shape",
    "sort",
    "space",
    "states",
)


@dataclass(frozen=True)
class Context:
    """What an op may know beside its inputs.

    Attributes:
        opset: The year of the opset: 15 for iOS 15 (`CoreML5`) to 18 for iOS 18 (`CoreML8`).
        outputs: Declared types of the operation's outputs.
        blocks: Its nested blocks, each a function from the block's inputs to its outputs.
        states: The model's states by name, to be changed in place.
    """

    opset: int
    outputs: tuple[ValueType, ...]
    blocks: tuple[Callable[..., tuple[Any, ...]], ...] = ()
    states: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """A registered op.

    Attributes:
        name: MIL's name.
        function: The implementation.
        moves: It only moves elements, so arrays reach it in the dtype they have.
        kinds: Parameter → `array`, `arrays`, `ints`, `int`, `float`, `bool`, `str` or `any`.
        required: Parameters without a default.
        context: The parameter that takes the `Context`; empty when none does.
    """

    name: str
    function: Callable[..., Any]
    moves: bool
    kinds: Mapping[str, str]
    required: frozenset[str]
    context: str


OPS: dict[str, Definition] = {}


def op(name: str, *, moves: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the MIL op `name`.

    Args:
        name: MIL's name of the op.
        moves: The op only moves elements and takes them in any dtype.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in OPS:
            raise ValueError(f"the MIL op {name} is registered twice")
        hints = typing.get_type_hints(function)
        kinds, required, context = {}, set(), ""
        for parameter in inspect.signature(function).parameters.values():
            kind = _kind(hints[parameter.name])
            if kind == "context":
                context = parameter.name
                continue
            kinds[parameter.name] = kind
            if parameter.default is inspect.Parameter.empty:
                required.add(parameter.name)
        OPS[name] = Definition(name, function, moves, kinds, frozenset(required), context)
        return function

    return register


def _kind(hint: Any) -> str:
    """Name the way in which a value reaches a parameter annotated with `hint`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    table = {Arrays: "arrays", Ints: "ints", int: "int", float: "float", bool: "bool", str: "str", Context: "context"}
    if hint is Any:
        return "any"
    return table.get(hint, "array")


def load() -> Mapping[str, Definition]:
    """Import every family of ops once and return the table."""
    for family in FAMILIES:
        importlib.import_module(f"haversack.runtimes.engines.coreml.ops.{family}")
    return OPS


def check(definition: Definition, bound: frozenset[str], what: str) -> None:
    """Refuse an operation whose parameters are not those of its op.

    Args:
        definition: The op.
        bound: Names of the parameters that the operation binds.
        what: The operation, for the message.

    Raises:
        EngineError: A parameter is unknown to the evaluator, or a required one is missing.
    """
    unknown = sorted(bound - definition.kinds.keys())
    missing = sorted(definition.required - bound)
    if unknown:
        raise EngineError(f"{what}: the reference evaluator does not know its parameter {', '.join(unknown)}")
    if missing:
        raise EngineError(f"{what}: its parameter {', '.join(missing)} is missing")
