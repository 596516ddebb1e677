"""The driver: hub graph → MIL program, node by node.

The same code decides in `preflight` and in `write`: a node that cannot be lowered leaves its blockers and stand-in
outputs of the shapes that the hub knows, so that the nodes after it are still examined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError, UsageError
from haversack.convert.hub import attributes, restate
from haversack.convert.hub.selected_rows import PADDED, Rows, pad_rows
from haversack.convert.image_inputs import Image
from haversack.convert.targets.coreml import attention, states
from haversack.convert.targets.coreml.builder import MAX_RANK, Builder, NeedsFloat32, Value
from haversack.convert.targets.coreml.edges import TYPES, Edge, dtype_of, is_static, problem, shape_of
from haversack.convert.targets.coreml.ops import LOWERINGS
from haversack.convert.targets.coreml.ops.detection import first_rows
from haversack.convert.targets.coreml.ops.sampling import native
from haversack.convert.targets.refusals import unlowered
from haversack.convert.targets.regions import Region

OF_BITS = frozenset(
    """BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Concat Equal Expand Flatten Gather GatherElements
    GatherND Identity Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze Where""".split()  # noqa: SIM905
)
"""Operators for which a uint32 may be the int32 of the same bits."""


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
        origins: By MIL op, the name and operator of the hub node that it was made for.
        blockers: Every reason why the graph cannot be lowered.
    """

    program: Any = None
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    origins: dict[str, tuple[str, str]] = field(default_factory=dict)
    blockers: list[Blocker] = field(default_factory=list)


def lower(
    model: ir.Model,
    ios: int,
    *,
    half: bool = False,
    float32_nodes: frozenset[str] = frozenset(),
    images: Mapping[str, Image] | None = None,
    pairs: Mapping[str, str] | None = None,
) -> Lowered:
    """Lower a static hub graph.

    Args:
        model: Legal hub graph with static shapes; it is not changed.
        ios: Deployment target: 15, 16, 17 or 18.
        half: Compute in float16.
        float32_nodes: Names of hub nodes that compute in float32 all the same.
        images: Inputs that are images in the package, by name.
        pairs: Inputs that are states in the package, each with the output that is left in it.

    Raises:
        UsageError: One of them is not in the graph.
    """
    if unknown := float32_nodes - {str(node.name) for node in model.graph}:
        raise UsageError(f"there is no node {min(unknown)!r} to compute in float32")
    said, blockers = restated(model)
    padded = pad_rows(attention.joined(said, float32_nodes) if ios >= attention.FIRST else said)
    blockers += padded.blockers
    lowered = _Driver(
        padded.model, ios, half=half, float32_nodes=float32_nodes, rows=padded.outputs, images=images, pairs=pairs
    ).run()
    told = {blocker.node for blocker in blockers}
    lowered.blockers = [*blockers, *(blocker for blocker in lowered.blockers if blocker.node not in told)]
    return lowered


def restated(model: ir.Model) -> tuple[ir.Model, list[Blocker]]:
    """`model` with the operators that MIL has no counterpart of said by simpler ones, and what cannot be said so."""
    samplings = [node for graph in model.graphs() for node in graph if node.op_type == "GridSample"]
    kept = {"GridSample"} if all(map(native, samplings)) else set()
    return restate.restated(model, restate.OPERATORS - kept)


def origin(node: ir.Node) -> str:
    """The name of the hub's node that a node of a restated graph belongs to."""
    name = str(node.name)
    return name.removesuffix(restate.INTERNAL).rpartition("/")[0] if name.endswith(restate.INTERNAL) else name


class _Driver:
    def __init__(
        self,
        model: ir.Model,
        ios: int,
        *,
        half: bool,
        float32_nodes: frozenset[str],
        rows: Mapping[ir.Value, Rows] | None = None,
        images: Mapping[str, Image] | None = None,
        pairs: Mapping[str, str] | None = None,
    ):
        self.graph = model.graph
        self.half = half
        self.float32_nodes = float32_nodes
        self.rows = rows or {}
        self.images = images or {}
        self.pairs = pairs or {}
        self.b = Builder(ios, half=half)
        self.registry = LOWERINGS.load()
        self.values: dict[str, Value] = {}
        self.result = Lowered()
        self.taken: set[str] = set()
        self.forced: list[str] = []

    def run(self) -> Lowered:
        from coremltools.converters.mil.mil import Function, Program

        self.result.blockers += states.problems(self.graph, self.pairs, self.b.ios, half=self.half)
        pairs = {} if self.result.blockers else self.pairs
        kept = {value: states.name(value, self.taken) for value in self.graph.inputs if _name(value) in pairs}
        given = {_name(value): self._edge(value, "input") for value in self.graph.inputs if value not in kept}
        if not given:
            why = "the model has none: all it gives are constants, and Core ML is not known to run such a program"
            self.result.blockers.append(Blocker("", "input", why, "use its outputs as they are"))
        self.result.blockers += [
            Blocker(_name(value), "output", *reason)
            for value in map(_shown, self.graph.outputs)
            if (reason := problem(value)) is not None
        ]
        if not all(is_static(value) for value in self.graph.inputs):
            self.result.blockers += [b for node in self.graph if (b := self._unknown_op(node)) is not None]
            return self.result
        self.result.inputs = {name: edge.name for name, edge in given.items() if edge is not None}
        placeholders = {edge.name: edge.placeholder(self.b) for edge in given.values() if edge is not None}
        placeholders.update({name: states.placeholder(self.b, value) for value, name in kept.items()})
        function = Function(placeholders, opset_version=getattr(self.b.coremltools.target, f"iOS{self.b.ios}"))
        with function:
            for graph_input in self.graph.inputs:
                if graph_input in kept:
                    held = function.inputs[kept[graph_input]]
                    self.values[_name(graph_input)] = states.read(self.b, graph_input, held)
                    continue
                edge = given[_name(graph_input)]
                if edge is None:
                    self._stand_in(graph_input)
                else:
                    self.values[_name(graph_input)] = edge.read(self.b, function.inputs[edge.name])
            self._initializers()
            for node in self.graph:
                self._node(node)
            if not self.result.blockers:
                for value, name in kept.items():
                    states.update(self.b, self.values[self.pairs[_name(value)]], function.inputs[name])
                self._outputs(function)
        self.result.notes, self.result.origins = (
            (*self._notes(), *states.notes(self.pairs), *self.b.notes),
            self.b.origins,
        )
        if not self.result.blockers:
            types = (edge.image_type(self.b) for edge in given.values() if edge is not None and edge.image is not None)
            function.set_input_types(tuple(types))
            self.result.program = Program()
            self.result.program.add_function("main", function)
        return self.result

    # -- edges of the graph --------------------------------------------------------------------------------------------

    def _edge(self, value: ir.Value, what: str) -> Edge | None:
        """An input or output; None, and a blocker, where Core ML cannot have it."""
        reason = problem(value)
        if reason is None:
            return Edge(self.b, value, what, self.taken, self.images.get(_name(value)) if what == "input" else None)
        self.result.blockers.append(Blocker(_name(value), what, *reason))
        return None

    def _outputs(self, function: Any) -> None:
        made = []
        for value in self.graph.outputs:
            if _name(value) in self.pairs.values():
                continue
            shown = _shown(value)
            edge = Edge(self.b, shown, "output", self.taken)
            self.result.outputs[_name(shown)] = edge.name
            self.b.node, self.b.op_type = _name(shown), "output"
            try:
                held = self.values[_name(value)]
                if value in self.rows:
                    axis, count, _ = self.rows[value]
                    held = first_rows(self.b, held, axis, self.values[_name(count)])
                made.append(edge.write(self.b, held, self.taken))
            except UnsupportedError as error:  # a constant that Core ML cannot hold
                self.result.blockers += error.blockers
        if selected := [repr(_name(_shown(value))) for value in self.rows]:
            self.b.note(
                f"{', '.join(selected)}: as many rows as are selected in a run. Whether Core ML gives an array without "
                "rows is not known off Apple."
            )
        if not self.result.blockers:
            function.set_outputs(made)

    def _initializers(self) -> None:
        for name, initializer in self.graph.initializers.items():
            if initializer.const_value is not None:
                array = initializer.const_value.numpy()
                self.values[name] = Value(name, array.shape, array.dtype, array=array)

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
            given = self._attributes(node)
            b.half = self.half and origin(node) not in self.float32_nodes
            empty = all(0 in value.shape for value in b.outputs)
            results = [np.zeros(v.shape, v.dtype) for v in b.outputs] if empty else self._lowered(node, inputs, given)
            outputs = tuple(map(self._checked, b.outputs, results))
        except UnsupportedError as error:
            self.result.blockers += error.blockers
            for value in node.outputs:
                self._stand_in(value)
            return
        self.values.update({value.name: value for value in outputs})
        self.result.steps.append(Step(node, tuple(b.emitted), inputs, outputs))

    def _attributes(self, node: ir.Node) -> dict[str, object]:
        given = attributes.python(node)
        return {
            key: Region(held, self._region, _type_of) if isinstance(held, ir.Graph) else held
            for key, held in given.items()
        }

    def _region(self, model: ir.Model, captured: Sequence[ir.Value], inputs: Sequence[Value]) -> list[Value]:
        """Emit a subgraph that was made a model of its own."""
        model, blockers = restated(model)
        if blockers:
            raise UnsupportedError("coreml", blockers)
        inner = _Driver(model, self.b.ios, half=self.half, float32_nodes=self.float32_nodes)
        inner.b = self.b
        for value in captured:
            if _name(value) not in self.values:
                self.b.refuse(f"it reads {_name(value)!r}, which could not be lowered", "see what is said of that")
        given = [*inputs, *(self.values[_name(value)] for value in captured)]
        inner.values = {_name(own): value for own, value in zip(inner.graph.inputs, given, strict=True)}
        inner._initializers()
        with self.b.keeping_node():
            made: list[str] = []
            for node in inner.graph:
                inner._node(node)
                made += self.b.emitted
            self.b.emitted = made
        self.forced += inner.forced
        if inner.result.blockers:
            raise UnsupportedError("coreml", inner.result.blockers)
        return [inner.values[_name(value)] for value in inner.graph.outputs]

    def _lowered(self, node: ir.Node, inputs: tuple[Value | None, ...], given: dict[str, object]) -> Sequence[Any]:
        b = self.b
        joined = node.domain == attention.DOMAIN
        if node.domain not in ("", "ai.onnx") and not joined:
            b.refuse(f"operators of the domain {node.domain!r} are unknown", "replace this node")
        if node.op_type not in OF_BITS and any(value is not None and value.dtype == np.uint32 for value in inputs):
            b.refuse("Core ML cannot tell a large uint32 from a negative int32", "use int32")
        b.emitted = []

        def call() -> Any:
            if joined:
                return attention.attention(b, *inputs, **given)  # type: ignore[arg-type]
            return self.registry.call(b, node.op_type, b.node, inputs, given)

        try:
            result = call()
        except NeedsFloat32:
            b.half, b.emitted = False, []
            self.forced.append(b.node)
            result = call()
        return result if isinstance(result, (tuple, list)) else (result,)

    def _checked(self, expected: Value, result: Any) -> Value:
        """A lowering's result as the hub value that it stands for; a wrong shape or type is never let through."""
        if not expected.name:  # nobody reads it
            return expected
        if isinstance(result, Value):
            made = Value(expected.name, result.shape, expected.dtype, result.array, result.var, result.stored)
        elif isinstance(result, np.ndarray):
            made = Value(expected.name, result.shape, expected.dtype, result.astype(expected.dtype))
        else:
            shape = tuple(int(size) for size in result.shape)
            folded = len(expected.shape) > MAX_RANK and math.prod(shape) == math.prod(expected.shape)
            made = Value(expected.name, expected.shape if folded else shape, expected.dtype, var=result)
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
        if not is_static(value) or value.dtype is None or value.dtype.name not in TYPES:
            return
        shape, dtype = shape_of(value), dtype_of(value)
        kind = {"f": "fp32", "b": "bool"}.get(dtype.kind, "int32")
        placeholder = self.b.mil.placeholder(
            shape=list(shape), dtype=getattr(self.b.types, kind), allow_rank0_input=True
        )
        self.values[_name(value)] = Value(_name(value), shape, dtype, var=placeholder.outputs[0])

    def _unknown_op(self, node: ir.Node) -> Blocker | None:
        """The blocker of a node whose operator has no lowering: all that can be said without its inputs' shapes."""
        if node.domain in ("", "ai.onnx") and node.op_type in self.registry:
            return None
        return unlowered("coreml", str(node.name), node.op_type)

    def _notes(self) -> list[str]:
        notes = []
        if any(dtype_of(value).itemsize == 8 and dtype_of(value).kind in "iu" for value in self._typed_values()):
            notes.append("int64 values are int32 in the package, Core ML's widest integer.")
        if any(dtype_of(value) == np.float64 for value in self._typed_values()):
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


def _expected(value: ir.Value) -> Value:
    """What the hub says about a node's output.

    Raises:
        UnsupportedError: Core ML cannot hold such a tensor.
    """
    if not value.name and value.shape is None:  # an optional output that nobody reads
        return Value("", (), np.dtype(np.float32))
    producer = value.producer()
    reason = None
    if value.shape is None or value.dtype is None or not is_static(value):
        reason = f"the shape of its output {value.name!r} is not static", "fix the model's input dimensions"
    elif value.dtype.name not in TYPES:
        reason = f"Core ML has no {value.dtype.name} tensors", "use float32, int32 or bool"
    if reason is not None and producer is not None:
        raise UnsupportedError("coreml", [Blocker(str(producer.name), producer.op_type, *reason)])
    return Value(_name(value), shape_of(value), dtype_of(value))


def _name(value: ir.Value) -> str:
    return str(value.name)


def _shown(value: ir.Value) -> ir.Value:
    """A graph output as the model names it: its padding is cut off."""
    if not _name(value).endswith(PADDED):
        return value
    return ir.Value(name=_name(value).removesuffix(PADDED), shape=value.shape, type=value.type)


def _type_of(x: Value) -> tuple[tuple[int, ...], ir.DataType]:
    return x.shape, ir.DataType.from_numpy(x.dtype)
