"""The driver: hub graph → MIL program, node by node.

The same code decides in `preflight` and in `write`: a node that cannot be lowered leaves its blockers and stand-in
outputs of the shapes that the hub knows, so that the nodes after it are still examined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError, UsageError
from haversack.convert.hub import attributes
from haversack.convert.targets.coreml.builder import MAX_RANK, Builder, NeedsFloat32, Value, Var
from haversack.convert.targets.coreml.names import identifier
from haversack.convert.targets.coreml.ops import LOWERINGS
from haversack.runtimes.engines import Array

TYPES = frozenset(
    ("BOOL", "FLOAT", "FLOAT16", "DOUBLE", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32")
)
"""ONNX element types that MIL holds, as they are or as its nearest wider or widest one."""


@dataclass
class Step:
    """One hub node as it was lowered.

    Attributes:
        node: The hub node.
        kinds: MIL ops made for it, in order; empty where it only renames or was computed at conversion.
        inputs: Its inputs, None where an optional one is omitted.
        outputs: Its outputs.
    """

    node: ir.Node
    kinds: tuple[str, ...]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]


@dataclass
class Lowered:
    """A MIL program and how it corresponds to the hub graph.

    Attributes:
        program: A coremltools `Program` with one function, `main`; None where there are blockers.
        inputs: The hub's input names to the artifact's.
        outputs: The hub's output names to the artifact's, in the graph's order.
        steps: The hub nodes in execution order.
        notes: What the user should know.
        blockers: Every reason why the graph cannot be lowered.
    """

    program: Any = None
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    blockers: list[Blocker] = field(default_factory=list)


def lower(model: ir.Model, ios: int, *, half: bool = False, float32_nodes: frozenset[str] = frozenset()) -> Lowered:
    """Lower a static hub graph.

    Args:
        model: Legal hub graph with static shapes; it is not changed.
        ios: Deployment target: 16, 17 or 18.
        half: Compute in float16.
        float32_nodes: Names of hub nodes that compute in float32 all the same.

    Raises:
        UsageError: One of them is not in the graph.
    """
    return _Driver(model, ios, half=half, float32_nodes=float32_nodes).run()


class _Driver:
    def __init__(self, model: ir.Model, ios: int, *, half: bool, float32_nodes: frozenset[str]):
        self.graph = model.graph
        self.half = half
        self.float32_nodes = float32_nodes
        self.b = Builder(ios, half=half)
        self.registry = LOWERINGS.load()
        self.values: dict[str, Value] = {}
        self.result = Lowered()
        self.taken: set[str] = set()
        self.forced: list[str] = []

    def run(self) -> Lowered:
        from coremltools.converters.mil.mil import Function, Program

        unknown = self.float32_nodes - {str(node.name) for node in self.graph}
        if unknown:
            raise UsageError(f"there is no node {min(unknown)!r} to compute in float32")
        placeholders = self._placeholders()
        self._check_outputs()
        if not all(_static(value) for value in self.graph.inputs):
            self.result.blockers += [b for node in self.graph if (b := self._unknown_op(node)) is not None]
            return self.result
        function = Function(placeholders, opset_version=getattr(self.b.coremltools.target, f"iOS{self.b.ios}"))
        with function:
            for graph_input in self.graph.inputs:
                name = _name(graph_input)
                if name not in self.result.inputs:
                    self._stand_in(graph_input)
                    continue
                var = function.inputs[self.result.inputs[name]]
                if _dtype(graph_input) == np.bool_:
                    var = self.b.cast(var, "bool")
                self.values[name] = Value(name, _shape(graph_input), _dtype(graph_input), var=var)
            for name, initializer in self.graph.initializers.items():
                if initializer.const_value is not None:
                    array = initializer.const_value.numpy()
                    self.values[name] = Value(name, array.shape, array.dtype, array=array)
            for node in self.graph:
                self._node(node)
            outputs = [] if self.result.blockers else [self._output(value) for value in self.graph.outputs]
            if not self.result.blockers:
                function.set_outputs(outputs)
        self.result.notes = (*self._notes(), *self.b.notes)
        if not self.result.blockers:
            self.result.program = Program()
            self.result.program.add_function("main", function)
        return self.result

    # -- edges of the graph --------------------------------------------------------------------------------------------

    def _placeholders(self) -> dict[str, Any]:
        placeholders: dict[str, Any] = {}
        for value in self.graph.inputs:
            name = _name(value)
            reason = _edge_problem(value)
            if reason is not None:
                self.result.blockers.append(Blocker(name, "input", *reason))
                continue
            legal = self.result.inputs[name] = self._rename(name, "input")
            kind = self._edge_kind(name, "input", _dtype(value))
            dtype = getattr(self.b.types, kind)
            placeholders[legal] = self.b.mil.placeholder(shape=list(_shape(value)), dtype=dtype, name=legal)
        return placeholders

    def _check_outputs(self) -> None:
        for value in self.graph.outputs:
            reason = _edge_problem(value)
            if reason is not None:
                self.result.blockers.append(Blocker(_name(value), "output", *reason))

    def _rename(self, name: str, what: str) -> str:
        legal = identifier(name, self.taken)
        if legal != name:
            self.b.note(f"{what} {name!r} is called {legal!r} in the package: Core ML does not accept its name.")
        return legal

    def _edge_kind(self, name: str, what: str, dtype: np.dtype[Any]) -> str:
        """MIL type of a model input or output: Core ML has float32, float16 and int32 there, no other."""
        kind = {"float32": "fp32", "float16": "fp16", "float64": "fp32"}.get(str(dtype), "int32")
        if str(dtype) not in ("float32", "float16", "int32"):
            called = {"fp32": "float32"}.get(kind, kind)
            self.b.note(f"{what} {name!r} is {called} in the package: Core ML has no {dtype} inputs and outputs.")
        return kind

    def _output(self, graph_output: ir.Value) -> Var:
        name = _name(graph_output)
        value = self.values[name]
        legal = self.result.outputs[name] = self._rename(name, "output")
        kind = self._edge_kind(name, "output", _dtype(graph_output))
        if value.var is None:
            self.result.blockers.append(
                Blocker(name, "output", "it is a constant, which Core ML cannot return", "drop this output")
            )
            return None
        var, mil = value.var, self.b.mil
        if self.b.kind(var) != kind:
            return mil.cast(x=var, dtype=self.b.constant(kind), name=legal)
        if var.op is None or var.name in self.taken or self.b.kind(var) != kind:
            return mil.identity(x=var, name=legal)
        var.set_name(legal)
        return var

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, node: ir.Node) -> None:
        b = self.b
        b.node, b.op_type = str(node.name), node.op_type
        if any(value is not None and _name(value) not in self.values for value in node.inputs):
            # It reads what no stand-in could be made for: all that can be said is whether its operator is known.
            if (blocker := self._unknown_op(node)) is not None:
                self.result.blockers.append(blocker)
            for value in node.outputs:
                self._stand_in(value)
            return
        try:
            b.outputs = tuple(_expected(value) for value in node.outputs)
            inputs = tuple(None if value is None else self.values[_name(value)] for value in node.inputs)
            given = attributes.python(node)
            b.half = self.half and b.node not in self.float32_nodes
            results = self._lowered(node, inputs, given)
            outputs = tuple(map(self._checked, b.outputs, results))
        except UnsupportedError as error:
            self.result.blockers += error.blockers
            for value in node.outputs:
                self._stand_in(value)
            return
        self.values.update({value.name: value for value in outputs})
        self.result.steps.append(Step(node, tuple(b.emitted), inputs, outputs))

    def _lowered(self, node: ir.Node, inputs: tuple[Value | None, ...], given: dict[str, object]) -> Sequence[Any]:
        b = self.b
        if node.domain not in ("", "ai.onnx"):
            b.refuse(f"operators of the domain {node.domain!r} are unknown", "replace this node")
        b.emitted = []
        try:
            result = self.registry.call(b, node.op_type, b.node, inputs, given)
        except NeedsFloat32:
            b.half, b.emitted = False, []
            self.forced.append(b.node)
            result = self.registry.call(b, node.op_type, b.node, inputs, given)
        return result if isinstance(result, (tuple, list)) else (result,)

    def _checked(self, expected: Value, result: Value | Array | Var) -> Value:
        """A lowering's result as the hub value that it stands for; a wrong shape or type is never let through."""
        if isinstance(result, Value):
            made = Value(expected.name, result.shape, expected.dtype, result.array, result.var, result.constants)
        elif isinstance(result, np.ndarray):
            made = Value(expected.name, result.shape, expected.dtype, result.astype(expected.dtype))
        else:
            made = Value(expected.name, tuple(int(size) for size in result.shape), expected.dtype, var=result)
        if made.shape != expected.shape:
            self.b.refuse(
                f"it was lowered to the shape {list(made.shape)} where the graph says {list(expected.shape)}",
                "report this model: one of the two is a defect",
            )
        if made.var is not None:
            kind, wanted = self.b.kind(made.var), {"f": "fp", "b": "bool"}.get(expected.dtype.kind, "int")
            if not kind.removeprefix("u").startswith(wanted):
                self.b.refuse(
                    f"it was lowered to {kind} where the graph says {expected.dtype}",
                    "report this model: one of the two is a defect",
                )
        return made

    def _stand_in(self, value: ir.Value) -> None:
        """A variable of the right shape for a value that could not be lowered; the program is thrown away."""
        if not _static(value) or value.dtype is None or value.dtype.name not in TYPES:
            return
        shape, dtype = _shape(value), _dtype(value)
        kind = {"f": "fp32", "b": "bool"}.get(dtype.kind, "int32")
        placeholder = self.b.mil.placeholder(
            shape=list(shape), dtype=getattr(self.b.types, kind), allow_rank0_input=True
        )
        self.values[_name(value)] = Value(_name(value), shape, dtype, var=placeholder.outputs[0])

    def _unknown_op(self, node: ir.Node) -> Blocker | None:
        """The blocker of a node whose operator has no lowering: all that can be said without its inputs' shapes."""
        if node.domain in ("", "ai.onnx") and node.op_type in self.registry:
            return None
        return Blocker(str(node.name), node.op_type, "coreml has no lowering for it", "replace this node")

    def _notes(self) -> list[str]:
        notes = []
        if any(_dtype(value).itemsize == 8 and _dtype(value).kind in "iu" for value in self._typed_values()):
            notes.append("int64 values are int32 in the package, Core ML's widest integer.")
        if any(_dtype(value) == np.float64 for value in self._typed_values()):
            notes.append("float64 values are float32 in the package, Core ML's widest float.")
        for name in self.forced:
            notes.append(f"{name} computes in float32: float16 cannot hold one of its constants.")
        return notes

    def _typed_values(self) -> list[ir.Value]:
        values = [*self.graph.inputs, *(value for step in self.result.steps for value in step.node.outputs)]
        return [
            value
            for value in values
            if value.dtype is not None and (v := self.values.get(_name(value))) is not None and v.var is not None
        ]


def _static(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(size, int) for size in value.shape)


def _edge_problem(value: ir.Value) -> tuple[str, str] | None:
    """Why Core ML cannot have `value` as a model input or output, and what to do; None where it can."""
    if value.dtype is None or value.shape is None:
        return "its type or shape is unknown", "give it a type and a static shape"
    if not _static(value):
        return f"its shape {value.shape} is not static", "fix its dimensions"
    if value.dtype.name not in TYPES:
        return f"Core ML has no {value.dtype.name} tensors", "use float32, int32 or bool"
    if len(value.shape) > MAX_RANK:
        return f"it has {len(value.shape)} axes; Core ML stops at {MAX_RANK}", "merge axes"
    if len(value.shape) == 0:
        return "it is a scalar; Core ML inputs and outputs have at least one axis", "give it the shape [1]"
    if 0 in value.shape.numpy():
        return "it has no elements", "remove it"
    return None


def _expected(value: ir.Value) -> Value:
    """What the hub says about a node's output.

    Raises:
        UnsupportedError: Core ML cannot hold such a tensor.
    """
    if not value.name and value.shape is None:  # an optional output that nobody reads
        return Value("", (), np.dtype(np.float32))
    producer = value.producer()
    problem = None
    if value.shape is None or value.dtype is None or not _static(value):
        problem = f"the shape of its output {value.name!r} is not static", "fix the model's input dimensions"
    elif value.dtype.name not in TYPES:
        problem = f"Core ML has no {value.dtype.name} tensors", "use float32, int32 or bool"
    elif 0 in value.shape.numpy():
        problem = f"its output {value.name!r} has no elements, which Core ML cannot hold", "remove this node"
    if problem is not None and producer is not None:
        raise UnsupportedError("coreml", [Blocker(str(producer.name), producer.op_type, *problem)])
    return Value(_name(value), _shape(value), _dtype(value))


def _name(value: ir.Value) -> str:
    return str(value.name)


def _shape(value: ir.Value) -> tuple[int, ...]:
    return tuple(value.shape.numpy()) if value.shape is not None else ()


def _dtype(value: ir.Value) -> np.dtype[Any]:
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
