"""An artifact seen through the model's own inputs and outputs.

Its inputs may be named, ordered, laid out or encoded otherwise than the model's: another axis order
(`--io-layout channels-last`), int8 (`--io-dtype int8`), int32 for int64, or a legalised name. `Edges` turns a sample
into what the artifact takes and its results back, so that all comparisons are made in the model's terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import VerificationError
from haversack.convert.image_inputs import Image
from haversack.convert.targets import Options
from haversack.runtimes.engines import Array, Engine, TensorSpec

Orders = Mapping[str, tuple[int, ...]]
"""By name, `artifact_array = model_array.transpose(order)`."""


@dataclass(frozen=True)
class Edge:
    """How one input or output of the model lies in the artifact.

    Attributes:
        name: The model's name.
        spec: The artifact's own.
        dtype: The model's NumPy dtype.
        permutation: `artifact_array = model_array.transpose(permutation)`; None for the same order.
        scale: Of a float32 value that the artifact holds as integers; None where it does not.
        zero_point: Likewise.
        image: What pixels become the model's input by, where the artifact takes an image.
        scalar: Whether the model's scalar is one axis of one element in the artifact (Core ML has no other).
    """

    name: str
    spec: TensorSpec
    dtype: str
    permutation: tuple[int, ...] | None = None
    scale: float | None = None
    zero_point: int = 0
    scalar: bool = False
    image: Image | None = None

    def enter(self, value: Array) -> Array:
        """The model's input as the artifact takes it."""
        if self.image is not None:
            return np.ascontiguousarray(self.image.pixels(value), dtype=self.spec.dtype)
        if self.permutation is not None:
            value = value.transpose(self.permutation)
        if self.scale is not None:
            info = np.iinfo(self.spec.dtype)
            value = np.clip(np.rint(value / np.float32(self.scale)) + self.zero_point, info.min, info.max)
        given = np.ascontiguousarray(value, dtype=self.spec.dtype)
        return given.reshape(1) if self.scalar else given

    def leave(self, value: Array) -> Array:
        """The artifact's output as the model gives it."""
        if self.scale is not None:
            value = (value.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        if self.permutation is not None:
            value = value.transpose(np.argsort(self.permutation))
        found = np.ascontiguousarray(value, dtype=self.dtype)
        return found.reshape(()) if self.scalar else found


class OneCall:
    """An artifact with states as the function that the model is: states go in and come out of each run.

    Args:
        engine: The artifact.
        states: Inputs of the model that are its states, in order, each with the output that is left in it.

    Raises:
        VerificationError: It has other states, or this engine cannot set them.
    """

    def __init__(self, engine: Engine, states: Sequence[tuple[str, str]]):
        held: Sequence[TensorSpec] = getattr(engine, "states", ())
        if not hasattr(engine, "step") or len(held) != len(states):
            raise VerificationError(f"the artifact has {len(held)} states that can be set, {len(states)} are expected")
        self.engine, self.name, self.version, self.emulated = engine, engine.name, engine.version, engine.emulated
        self.after = {spec.name: after for spec, (_, after) in zip(held, states, strict=True)}
        self.inputs = (*engine.inputs, *held)
        self.outputs = (*engine.outputs, *(TensorSpec(self.after[s.name], s.dtype, s.shape) for s in held))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once from the given states; gives the new ones beside the outputs."""
        state = {name: np.array(feeds[name]) for name in self.after}
        rest = {name: array for name, array in feeds.items() if name not in state}
        results: dict[str, Array] = self.engine.step(rest, state)
        return {**results, **{self.after[name]: value for name, value in state.items()}}


def graph_states(model: ir.Model, states: Mapping[str, str]) -> list[tuple[str, str]]:
    """The states in the order of the model's inputs."""
    return [(str(v.name), states[str(v.name)]) for v in model.graph.inputs if str(v.name) in states]


class Edges:
    """Runs an engine on the model's inputs and gives the model's outputs.

    Attributes:
        engine: The opened artifact.
        inputs: How each input of the model lies in it.
        outputs: How each output does.
        graph_outputs: The outputs in the compressed hub graph.
        resized: Inputs of another size than the default at which it was verified too; None of a static artifact.

    Args:
        engine: The opened artifact.
        model: The compressed hub graph that it was made from.
        options: What it was made with.

    Raises:
        VerificationError: The artifact has other inputs or outputs than the model.
    """

    def __init__(self, engine: Engine, model: ir.Model, options: Options):
        self.engine = OneCall(engine, graph_states(model, options.states)) if options.states else engine
        engine = self.engine
        self.resized: Mapping[str, Array] | None = None
        graph = model.graph
        self.graph_outputs = tuple(graph.outputs)
        moved_inputs, moved_outputs = _moved(model, options)
        images = options.images
        moved_inputs = {**moved_inputs, **{n: image.permutation for n, image in images.items() if image.permutation}}
        inputs = _edges("input", list(graph.inputs), engine.inputs, moved_inputs, _input_scale)
        self.inputs = tuple(dataclasses.replace(edge, image=images.get(edge.name)) for edge in inputs)
        self.outputs = _edges("output", list(graph.outputs), engine.outputs, moved_outputs, output_scale)

    def renamed(self) -> tuple[str, ...]:
        """What has another name in the artifact than in the model, in words, one sentence each."""
        return tuple(
            f"{kind} {edge.name!r} is called {edge.spec.name!r} in the artifact: matched by order and shape."
            for kind, edges in (("Input", self.inputs), ("Output", self.outputs))
            for edge in edges
            if edge.name != edge.spec.name
        )

    def feeds(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """A sample as the artifact takes it."""
        return {edge.spec.name: edge.enter(sample[edge.name]) for edge in self.inputs}

    def run(self, sample: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample and return the outputs under the model's names."""
        return self._left(self.engine.run(self.feeds(sample)))

    @property
    def run_many(self) -> Callable[[Sequence[Mapping[str, Array]]], list[dict[str, Array]]] | None:
        """As `run`, of several samples in one go; None where the engine takes one at a time."""
        many = getattr(self.engine, "run_many", None)
        if many is None:
            return None
        return lambda samples: [self._left(results) for results in many([self.feeds(each) for each in samples])]

    def _left(self, results: Mapping[str, Array]) -> dict[str, Array]:
        return {edge.name: edge.leave(results[edge.spec.name]) for edge in self.outputs}


def model_specs(values: list[ir.Value]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs of a hub graph as specifications; an unnamed symbolic dimension is called after its axis."""
    specs = []
    for value in values:
        assert value.name is not None
        sizes = [] if value.shape is None else list(value.shape)
        shape = tuple(d if isinstance(d, int) else (d.value or f"{value.name}_{axis}") for axis, d in enumerate(sizes))
        dtype = "float32" if value.dtype is None else str(value.dtype.numpy())
        specs.append(TensorSpec(value.name, dtype, shape))
    return tuple(specs)


def _edges(
    kind: str,
    values: list[ir.Value],
    specs: Sequence[TensorSpec],
    moved: Orders,
    scale_of: Callable[[ir.Value], tuple[float, int] | None],
) -> tuple[Edge, ...]:
    if len(values) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise VerificationError(f"the artifact has {len(specs)} {kind}s ({names}), the model {len(values)}")
    described = model_specs(values)
    shapes = [_reordered(wanted.shape, moved.get(wanted.name)) for wanted in described]
    edges = []
    matched = _matched([wanted.name for wanted in described], shapes, specs)
    for position, (wanted, shape, spec) in enumerate(zip(described, shapes, matched, strict=True)):
        scale: float | None = None
        zero_point = 0
        if spec.dtype in ("int8", "uint8") and wanted.dtype == "float32":
            found = scale_of(values[position])
            if found is None:
                raise VerificationError(f"{kind} {wanted.name} is {spec.dtype} in the artifact, float32 in the model")
            scale, zero_point = found
            zero_point += 128 if spec.dtype == "uint8" else 0
        permutation = moved.get(wanted.name)
        scalar = not shape and tuple(spec.shape) == (1,)
        if not _fits(shape, spec.shape):
            raise VerificationError(
                f"{kind} {wanted.name} is {list(spec.shape)} in the artifact, {list(shape)} in the model"
            )
        edges.append(Edge(wanted.name, spec, wanted.dtype, permutation, scale, zero_point, scalar))
    return tuple(edges)


def _matched(
    names: Sequence[str], shapes: Sequence[Sequence[int | str]], specs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The artifact's tensors for the model's: by name; those that other tools named by order, the first that fits."""
    by_name = {spec.name: spec for spec in specs}
    left = [spec for spec in specs if spec.name not in names]
    matched = []
    for name, shape in zip(names, shapes, strict=True):
        if name in by_name:
            matched.append(by_name[name])
        else:
            matched.append(left.pop(next((n for n, spec in enumerate(left) if _fits(shape, spec.shape)), 0)))
    return matched


def _reordered(shape: Sequence[int | str], permutation: tuple[int, ...] | None) -> Sequence[int | str]:
    return shape if permutation is None else [shape[axis] for axis in permutation]


def _moved(model: ir.Model, options: Options) -> tuple[Orders, Orders]:
    """The inputs and outputs that `--io-layout channels-last` moves, found as the target finds them.

    A shape alone does not say it: [1, 4, 4, 4] is the same in both orders.
    """
    if options.io_layout == "keep":
        return {}, {}
    from haversack.convert.targets.tflite.layout import assign

    layout = assign(model, options.io_layout)
    return layout.inputs, layout.outputs


def _fits(wanted: Sequence[int | str], found: Sequence[int | str]) -> bool:
    if not wanted and tuple(found) == (1,):  # a scalar, where the artifact's kind has none
        return True
    if len(wanted) != len(found):
        return False
    return all(a == b for a, b in zip(wanted, found, strict=True) if isinstance(a, int) and isinstance(b, int))


def _input_scale(value: ir.Value) -> tuple[float, int] | None:
    for node in value.consumers():
        if node.op_type == "QuantizeLinear":
            return _scale(node)
    return None


def output_scale(value: ir.Value) -> tuple[float, int] | None:
    """Scale and zero point of a graph output that comes out of a DequantizeLinear; None of another."""
    node = value.producer()
    return _scale(node) if node is not None and node.op_type == "DequantizeLinear" else None


def _scale(node: ir.Node) -> tuple[float, int] | None:
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or scale.const_value is None:
        return None
    offset = 0 if zero is None or zero.const_value is None else int(zero.const_value.numpy())
    return float(scale.const_value.numpy()), offset
