"""Hub graph → TFLite graph: layout, then the quantized view, then one lowering a node, in the hub's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.hub import attributes, restate
from haversack.convert.hub.selected_rows import PADDED, bound_rows
from haversack.convert.report import Moved, Transposed
from haversack.convert.targets import Options
from haversack.convert.targets.refusals import unlowered, unsized
from haversack.convert.targets.regions import Region
from haversack.convert.targets.tflite import hybrid, steps
from haversack.convert.targets.tflite.builder import Builder, Mode, NoInt8Kernel, Result
from haversack.convert.targets.tflite.expand import expand
from haversack.convert.targets.tflite.fuse_transposes import transpose_into_product
from haversack.convert.targets.tflite.graph import Graph, Quantization, Tensor, Vary
from haversack.convert.targets.tflite.layout import CHANNELS_LAST, Layout, assign
from haversack.convert.targets.tflite.layout_rules import SPATIAL
from haversack.convert.targets.tflite.ops import LOWERINGS
from haversack.convert.targets.tflite.quantize import constant, parameters, result_quantization, stands_for_floats
from haversack.convert.targets.tflite.schema import TENSOR_TYPES

Place = tuple[str, tuple[int, ...] | None]
"""A hub value and the permutation from it to a tensor."""


@dataclass
class Lowered:
    """A lowered graph, before fusions.

    Attributes:
        graph: The TFLite graph.
        places: `id(tensor)` to where the hub has the same values; kept alive by `graph`.
        notes: What the user should know.
        blockers: Why nodes could not be lowered; the graph is complete only where this is empty.
        transposed: `id(tensor)` to the transpose that layout left to compute it.
        moved: Inputs and outputs whose order changed.
    """

    graph: Graph
    places: dict[int, Place] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    blockers: list[Blocker] = field(default_factory=list)
    transposed: dict[int, Transposed] = field(default_factory=dict)
    moved: tuple[Moved, ...] = ()


def lower(model: ir.Model, options: Options, *, sizes_vary: Vary = "") -> Lowered:
    """Lower a compressed hub graph with static shapes; `model` is not changed.

    Args:
        model: The graph.
        options: What the user asked for.
        sizes_vary: Choose no operator that is right at these sizes alone.
    """
    LOWERINGS.load()
    model, expansions = expand(model)
    model, blockers = bound_rows(model)
    model, unsaid = restate.restated(model, restate.OPERATORS)
    blockers += unsaid + _static_blockers(model)
    if blockers:
        told = {blocker.node for blocker in blockers}
        blockers += [blocker for blocker in _unknown_operators(model) if blocker.node not in told]
        return Lowered(Graph(), blockers=blockers)
    builder = Builder(options.int4_container)
    builder.sizes_vary = sizes_vary
    for sentence in expansions:
        builder.note(sentence)
    return _Driver(assign(model, options.io_layout), options, builder).run()


def _unknown_operators(model: ir.Model) -> list[Blocker]:
    """What can be said without shapes: operators that no lowering is registered for."""
    return [unlowered("tflite", node.name or "", node.op_type) for node in model.graph if node.op_type not in LOWERINGS]


def _static_blockers(model: ir.Model) -> list[Blocker]:
    blockers = [
        Blocker(value.name or "", "input", "its shape is not static", "bind its symbolic dimensions, the batch to 1")
        for value in model.graph.inputs
        if value.shape is None or not value.shape.is_static()
    ]
    if blockers:
        return blockers
    lost = [node for node in model.graph if any(map(_unsized, node.outputs))]
    first = [node for node in lost if not any(value is not None and _unsized(value) for value in node.inputs)]
    # What follows these nodes has no shape because of them.
    return [unsized(node.name or "", node.op_type) for node in first or lost]


def _unsized(value: ir.Value) -> bool:
    return bool(value.name) and (value.shape is None or not value.shape.is_static() or value.dtype is None)


class _Driver:
    def __init__(self, layout: Layout, options: Options, builder: Builder):
        self.layout, self.options = layout, options
        self.graph = layout.model.graph
        self.b = builder
        self.values: dict[ir.Value, Tensor] = {}
        self.lowered = Lowered(Graph(sizes_vary=builder.sizes_vary))
        self.hub_values: dict[str, Place] = {}
        for name, place in layout.places.items():
            if not name.endswith((PADDED, restate.INTERNAL)):
                self.hub_values.setdefault(place.name, (name, place.permutation))
        self.hybrids, self.replaced = hybrid.find(self.graph)

    def run(self) -> Lowered:
        for value in self.graph.inputs:
            self._input(value)
        self._nodes()
        for value in self.graph.outputs:
            self._output(value)
        graph = self.lowered.graph
        graph.operators = self.b.operators
        transpose_into_product(graph)  # a product takes some in, which are then read by nothing
        tensors = {value.name: tensor for value, tensor in self.values.items()}
        self.lowered.transposed = {id(tensors.get(name)): left for name, left in self.layout.transposes.items()}
        ends = (("input", self.layout.inputs), ("output", self.layout.outputs))
        self.lowered.moved = tuple(
            Moved(kind, name, tuple(tensors[name].shape[axis] for axis in np.argsort(order)), order)
            for kind, orders in ends
            for name, order in orders.items()
        )
        self.lowered.notes = list(self.b.notes)
        return self.lowered

    def _nodes(self) -> None:
        for node in self.graph:
            try:
                self._node(node)
            except UnsupportedError as error:
                self.lowered.blockers += [b for b in error.blockers if b not in self.lowered.blockers]
                self._give_up(node)

    def _region(self, model: ir.Model, captured: Sequence[ir.Value], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Emit a subgraph that was made a model of its own."""
        if blockers := _static_blockers(model):
            raise UnsupportedError("tflite", blockers)
        outside = [tensor for value in captured if (tensor := self._get(value)) is not None]
        inner = _Driver(assign(model), self.options, self.b)
        inner.hub_values = {}  # its values are not in the hub's main graph
        inner.values.update(zip(inner.graph.inputs, (*inputs, *outside), strict=True))
        with self.b.keeping_node():
            inner._nodes()
            if inner.lowered.blockers:
                raise UnsupportedError("tflite", inner.lowered.blockers)
        return [inner.values[value] for value in inner.graph.outputs]

    # Values.

    def _input(self, value: ir.Value) -> None:
        shape, dtype = self._type(value)
        tensor = Tensor(shape, dtype)
        found = result_quantization(value) if self.options.io_dtype == "int8" and dtype == "float32" else None
        if found is not None and found[1] == "int8":
            tensor = Tensor(shape, "int8", quantization=found[0])
        self.lowered.graph.inputs.append((value.name or "", tensor))
        if dtype not in TENSOR_TYPES or dtype == "int4":
            blocker = Blocker(value.name or "", "input", f"no tensors of {dtype}", "cast it outside of the model")
            self.lowered.blockers.append(blocker)
        self._set(value, tensor)

    def _output(self, value: ir.Value) -> None:
        tensor = self.values[value]
        self.b.begin(value.name or "", "output", [], "plain")
        integer = self.options.io_dtype == "int8" or value.dtype == ir.DataType.INT8
        if not integer or tensor.dtype != "int8" or tensor.constant:
            # XNNPACK takes a DEQUANTIZE of a constant for a constant, and never writes it to an output.
            tensor = self.b.const(tensor.value()) if tensor.constant else self.b.plain(tensor)
        inputs = {id(t) for _, t in self.lowered.graph.inputs}
        if tensor.constant or id(tensor) in inputs:  # an output must be computed by something
            tensor = self.b.op("RESHAPE", [tensor, self.b.ints(tensor.shape)], tensor.shape)
        self._place(value, tensor)
        self.lowered.graph.outputs.append((value.name or "", tensor))

    def _type(self, value: ir.Value) -> tuple[tuple[int, ...], str]:
        assert value.shape is not None
        assert value.dtype is not None
        shape = tuple(int(size) for size in value.shape)  # type: ignore[arg-type]
        return shape, value.dtype.numpy().name

    def _set(self, value: ir.Value, tensor: Tensor) -> None:
        self.values[value] = tensor
        self._place(value, tensor)

    def _place(self, value: ir.Value, tensor: Tensor) -> None:
        place = self.hub_values.get(value.name or "")
        if place is None or tensor.constant:
            return
        integers = value.dtype in (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16)
        if tensor.quantization is None or integers:
            self.lowered.places.setdefault(id(tensor), place)

    def _get(self, value: ir.Value | None) -> Tensor | None:
        if value is None or not (value.name or value.producer()):
            return None
        if value not in self.values:
            array = constant(value)
            if array is None:
                raise UnsupportedError(
                    "tflite", [Blocker(value.name or "", "value", "nothing computes it", "remove it")]
                )
            if array.dtype.name not in TENSOR_TYPES:
                blocker = Blocker(value.name or "", "initializer", f"no tensors of {array.dtype.name}", "cast it")
                raise UnsupportedError("tflite", [blocker])
            self.values[value] = Tensor(tuple(array.shape), array.dtype.name, array)
        return self.values[value]

    # Nodes.

    def _node(self, node: ir.Node) -> None:
        if node in self.hybrids:
            self._hybrid(self.hybrids[node])
        elif node in self.replaced:
            return
        elif node.op_type == "QuantizeLinear":
            self._quantize(node)
        elif node.op_type == "DequantizeLinear":
            self._dequantize(node)
        elif node.op_type == "Cast" and self._widened(node):
            return
        else:
            self._lower(node)

    def _quantize(self, node: ir.Node) -> None:
        source = self._required(node, 0)
        self._begin(node, "plain")
        found = parameters(node, len(source.shape))
        dtype = node.outputs[0].dtype
        name = dtype.numpy().name if dtype is not None else ""
        if found is None or not self._is_view(node.outputs[0], found):
            self._lower(node)
            return
        if source.nominal != "float32":
            source = self.b.cast(source, "float32")
        if source.constant:
            raise self.b.refuse("quantization of a constant at run time", "fold it into an initializer")
        self._set(node.outputs[0], self.b.requantize(source, found, name))

    def _is_view(self, value: ir.Value, quantization: Quantization) -> bool:
        """Whether integers can be the tensor that they stand for: int8, or others that only DequantizeLinear reads."""
        if quantization.per_channel or value.dtype is None:
            return False
        if value.dtype == ir.DataType.INT8:
            return stands_for_floats(value)
        inner = not value.is_graph_output() and all(use.node.op_type == "DequantizeLinear" for use in value.uses())
        if value.dtype == ir.DataType.INT16:
            return inner and not quantization.zero_point.any()
        return inner and value.dtype == ir.DataType.UINT8

    def _dequantize(self, node: ir.Node) -> None:
        source = self._required(node, 0)
        self._begin(node, "plain")
        found = parameters(node, len(source.shape))
        if found is None or node.outputs[0].dtype != ir.DataType.FLOAT:
            if source.quantization is not None:
                raise self.b.refuse("a second interpretation of the same integers", "use one scale for each tensor")
            self._lower(node)
            return
        if source.constant:
            tensor = Tensor(source.shape, source.dtype, source.data, found)
        elif source.quantization is not None and source.quantization.same(found):
            tensor = source
        elif source.quantization is None and node.inputs[0] is not None and self._is_view(node.inputs[0], found):
            source.quantization = found
            tensor = source
        elif source.quantization is None:
            self._lower(node)
            return
        else:
            raise self.b.refuse("a second interpretation of the same integers", "use one scale for each tensor")
        self._set(node.outputs[0], tensor)

    def _widened(self, node: ir.Node) -> bool:
        source = self._get(node.inputs[0])
        if source is None or source.data is None or source.dtype != "float16" or source.widened:
            return False
        if node.attributes["to"].as_int() != ir.DataType.FLOAT:
            return False
        self.values[node.outputs[0]] = Tensor(source.shape, "float16", source.data, widened=True)
        return True

    def _hybrid(self, match: hybrid.Hybrid) -> None:
        source = self.values[match.source]
        result = self._result(match.result)
        self.b.begin(match.node.name or "", match.op, [result], "hybrid")
        if match.permutation is not None:
            source = steps.transpose(self.b, source, match.permutation)
        given = attributes.python(match.node) if match.op == "Conv" else {}
        inputs = [source, match.weights] + ([match.bias] if match.bias is not None and match.op != "MatMul" else [])
        output = LOWERINGS.call(self.b, match.op, match.node.name or "", inputs, given)
        if match.op == "MatMul" and match.bias is not None:
            output = steps.binary(self.b, "ADD", output, match.bias)
        self._set(match.result, output)

    def _lower(self, node: ir.Node) -> None:
        inputs = [self._get(value) for value in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        integer = any(t is not None and not t.constant and t.quantization is not None for t in inputs)
        mark = self._begin(node, "integer" if integer else "plain")
        try:
            outputs = self._call(node, inputs)
        except NoInt8Kernel as reason:
            self.b.rollback(mark)
            self.b.note(f"{node.name} ({node.op_type}) runs in float32: {reason}.")
            self._begin(node, "plain")
            outputs = self._call(node, inputs)
        for value, tensor in zip(node.outputs, outputs, strict=False):
            if tensor is None:  # an output that nothing reads
                continue
            self._check(value, tensor)
            self._set(value, tensor)
            self._follow_transpose(node, tensor)

    def _call(self, node: ir.Node, inputs: list[Tensor | None]) -> tuple[Tensor | None, ...]:
        name, given = node.name or "", attributes.python(node)
        given = {
            key: Region(held, self._region, _type_of) if isinstance(held, ir.Graph) else held
            for key, held in given.items()
        }
        if node.domain not in ("", "ai.onnx", CHANNELS_LAST):
            raise self.b.refuse(f"an operator of the domain {node.domain}", "replace it by ONNX operators")
        if node.domain == CHANNELS_LAST or node.op_type not in SPATIAL:
            outputs = LOWERINGS.call(self.b, node.op_type, name, inputs, given)
            return outputs if isinstance(outputs, tuple) else (outputs,)
        # A spatial operator that layout left in the logical order: its data is moved here.
        data = inputs[0]
        assert data is not None
        rank = len(data.shape)
        order = (0, *range(2, rank), 1) if rank > 1 else (0,)
        first = self.b.results[0]
        shape = tuple(first.shape[n] for n in order)
        moved_result = Result(shape, first.dtype, first.quantization, integers=first.integers)
        self.b.results = (moved_result, *self.b.results[1:])
        moved = [steps.transpose(self.b, data, order), *inputs[1:]]
        outputs = LOWERINGS.call(self.b, node.op_type, name, moved, given)
        head, *rest = outputs if isinstance(outputs, tuple) else (outputs,)
        return (steps.transpose(self.b, head, np.argsort(order).tolist()), *rest)

    def _check(self, value: ir.Value, tensor: Tensor) -> None:
        """A lowering that disagrees with the hub's inferred shape or type is wrong; say so instead of writing it."""
        shape, dtype = self._type(value)
        if tensor.shape != shape or dtype not in (tensor.nominal, tensor.dtype):
            found = f"{tensor.nominal}{list(tensor.shape)}"
            raise self.b.refuse(
                f"it gives {found} where the model says {dtype}{list(shape)}", "report this as a defect"
            )

    def _follow_transpose(self, node: ir.Node, tensor: Tensor) -> None:
        """A Transpose that layout inserted holds a hub value in another order."""
        if node.op_type != "Transpose" or id(tensor) in self.lowered.places or tensor.constant:
            return
        source = self._get(node.inputs[0])
        place = None if source is None else self.lowered.places.get(id(source))
        if place is not None:
            perm = tuple(node.attributes["perm"].as_ints())
            before = place[1] or tuple(range(len(perm)))
            self.lowered.places[id(tensor)] = (place[0], tuple(before[axis] for axis in perm))

    def _required(self, node: ir.Node, position: int) -> Tensor:
        tensor = self._get(node.inputs[position])
        assert tensor is not None
        return tensor

    def _begin(self, node: ir.Node, mode: Mode) -> int:
        results = [self._result(value) for value in self._named(node.outputs)]
        return self.b.begin(node.name or "", node.op_type, results, mode)

    def _named(self, values: Iterable[ir.Value]) -> list[ir.Value]:
        listed = list(values)
        while len(listed) > 1 and not (listed[-1].uses() or listed[-1].is_graph_output()):
            listed.pop()
        return listed

    def _result(self, value: ir.Value) -> Result:
        wanted = bool(value.uses()) or value.is_graph_output()
        if not wanted and (not value.name or value.shape is None or value.dtype is None):
            return Result((), "float32", wanted=False)
        shape, dtype = self._type(value)
        found = result_quantization(value)
        if found is None or found[1] not in ("int8", "int16"):
            return Result(shape, dtype, wanted=wanted)
        return Result(shape, dtype, found[0], wanted, found[1])

    def _give_up(self, node: ir.Node) -> None:
        """Stand-ins for what a blocked node computes, so that the rest of the graph is examined too."""
        for value in node.outputs:
            if value.name and value not in self.values:
                shape, dtype = self._type(value)
                self.values[value] = Tensor(shape, dtype)


def _type_of(tensor: Tensor) -> tuple[tuple[int, ...], ir.DataType]:
    return tensor.shape, ir.DataType.from_numpy(np.dtype(tensor.nominal))
